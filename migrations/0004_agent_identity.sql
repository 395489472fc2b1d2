-- Agent identities: keys that agents call with instead of the portal's tokens. docs/agent-identity.md has the rules.

-- One public key of one instance. A revoked one stays, because its key must not be registered again.
CREATE TABLE agent_identities (
    agent_runtime_id uuid PRIMARY KEY,
    instance_id      text NOT NULL REFERENCES instances ON DELETE CASCADE,
    -- Owner of the instance at the registration. An instance that moves to another org leaves its keys behind.
    org_id           text NOT NULL CHECK (length(org_id) BETWEEN 1 AND 255),
    -- Encoded point of an Ed25519 key.
    public_key       bytea NOT NULL CHECK (length(public_key) = 32),
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_used_at     timestamptz,
    revoked_at       timestamptz,
    UNIQUE (instance_id, org_id, public_key)
) WITH (fillfactor = 90);

-- Tasks that an identity calls under.
CREATE TABLE agent_tasks (
    task_id          uuid PRIMARY KEY,
    agent_runtime_id uuid NOT NULL REFERENCES agent_identities ON DELETE CASCADE,
    -- The second for which the registration is signed. It identifies the registration: an Ed25519 signature follows from key
    -- and text, and another signature of the same second registers no second task.
    signed_at        timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    -- Renewed by use.
    expires_at       timestamptz NOT NULL,
    last_used_at     timestamptz,
    revoked_at       timestamptz,
    UNIQUE (agent_runtime_id, signed_at),
    CHECK (expires_at > created_at)
) WITH (fillfactor = 80);
-- For pruning.
CREATE INDEX agent_tasks_expires_at ON agent_tasks (expires_at);
-- Revoked tasks are kept for as long as their registration could be replayed.
CREATE INDEX agent_tasks_revoked ON agent_tasks (signed_at) WHERE revoked_at IS NOT NULL;
-- For the tasks of an identity, in the order of the listing.
CREATE INDEX agent_tasks_of_identity ON agent_tasks (agent_runtime_id, revoked_at DESC, created_at DESC, task_id);
