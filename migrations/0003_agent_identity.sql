-- Keys that agents call with, beside the portal's tokens. Words and rules are those of docs/agent-identity.md.

-- One public key of one instance. A revoked one stays: its key must not come back.
CREATE TABLE agent_identities (
    agent_runtime_id uuid PRIMARY KEY,
    instance_id      text NOT NULL REFERENCES instances ON DELETE CASCADE,
    -- Who owned the instance when the key came. One that has moved to another org has left its keys behind.
    org_id           text NOT NULL CHECK (length(org_id) BETWEEN 1 AND 255),
    -- Ed25519: the encoded point.
    public_key       bytea NOT NULL CHECK (length(public_key) = 32),
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_used_at     timestamptz,
    revoked_at       timestamptz,
    UNIQUE (instance_id, org_id, public_key)
) WITH (fillfactor = 90);

-- What an identity calls under.
CREATE TABLE agent_tasks (
    task_id          uuid PRIMARY KEY,
    agent_runtime_id uuid NOT NULL REFERENCES agent_identities ON DELETE CASCADE,
    -- The second that its registration is signed for: the registration's name. An Ed25519 signature follows from key
    -- and text, so the same second is the same signature; and whoever makes others gets no more tasks by it.
    signed_at        timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    -- Moved on by use.
    expires_at       timestamptz NOT NULL,
    last_used_at     timestamptz,
    revoked_at       timestamptz,
    UNIQUE (agent_runtime_id, signed_at),
    CHECK (expires_at > created_at)
) WITH (fillfactor = 80);
CREATE INDEX agent_tasks_expires_at ON agent_tasks (expires_at);
-- What was revoked is remembered for as long as its registration could come again.
CREATE INDEX agent_tasks_revoked ON agent_tasks (signed_at) WHERE revoked_at IS NOT NULL;
-- Those that stand, and the listing's order.
CREATE INDEX agent_tasks_of_identity ON agent_tasks (agent_runtime_id, revoked_at DESC, created_at DESC, task_id);
