-- Admin tokens, and the audit log of what operators and portal backends did.

CREATE TYPE admin_role AS ENUM ('viewer', 'operator', 'admin');

CREATE TABLE admin_tokens (
    -- Names a token for as long as the audit log may mention it: also a revoked one.
    name         text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    -- SHA-256 of the token, which nobody but its owner has.
    hash         bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    role         admin_role NOT NULL,
    -- The only org whose agents it may see and change. NULL: all of them, and the service itself.
    org_id       text CHECK (length(org_id) BETWEEN 1 AND 255),
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    expires_at   timestamptz,
    -- Accurate to the minute.
    last_used_at timestamptz,
    revoked_at   timestamptz,
    revoked_by   text,
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);

CREATE TYPE audit_outcome AS ENUM ('unknown', 'done', 'refused', 'failed');

-- One row per state-changing call. It is written before the change; its outcome follows.
CREATE TABLE audit_log (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text NOT NULL,
    -- Whose tokens may read the row: the org of the actor's token, else the org that the call was about.
    org_id   text,
    action   text NOT NULL,
    -- What the call was about, as `instance_id=agent-1`.
    subject  text[] NOT NULL,
    origin   text NOT NULL,
    outcome  audit_outcome NOT NULL DEFAULT 'unknown',
    ended_at timestamptz,
    detail   text CHECK (length(detail) <= 1000),
    CHECK ((ended_at IS NULL) = (outcome = 'unknown'))
-- Room for the outcome.
) WITH (fillfactor = 80);
-- For pruning, and for a period of time.
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor ON audit_log (actor, audit_id);
CREATE INDEX audit_log_action ON audit_log (action, audit_id);
CREATE INDEX audit_log_org ON audit_log (org_id, audit_id) WHERE org_id IS NOT NULL;
CREATE INDEX audit_log_subject ON audit_log USING gin (subject);
