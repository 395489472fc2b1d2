-- Logins at the built-in portal. A refresh token is derived from its login, its number and a key outside the database.
-- So the database contains no token, and one row tells which tokens of a login are spent.

CREATE TYPE login_end AS ENUM ('reused', 'replaced');

CREATE TABLE logins (
    -- Random. Only the login's refresh tokens contain it.
    login_id     uuid PRIMARY KEY,
    instance_id  text NOT NULL REFERENCES instances ON DELETE CASCADE,
    -- Key from which its refresh tokens are derived. With another key, all of them would look forged.
    key_id       bytea NOT NULL CHECK (length(key_id) = 8),
    -- Number of the last refresh token that was presented. Earlier ones are spent, the next one is handed out.
    number       bigint NOT NULL DEFAULT 0 CHECK (number >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz,
    ended_at     timestamptz,
    ended_by     login_end,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
-- One open login per instance.
CREATE UNIQUE INDEX logins_open ON logins (instance_id) WHERE ended_at IS NULL;
-- For the latest login of an instance.
CREATE INDEX logins_of_instance ON logins (instance_id, created_at);
