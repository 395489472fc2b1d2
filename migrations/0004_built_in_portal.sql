-- Logins at our own portal (`own_portal`). A refresh token is made of its login, its number and a key that is not in
-- the database: so nothing here opens anything, and one row knows of every token of a login whether it is spent.

CREATE TYPE login_end AS ENUM ('reused', 'replaced');

CREATE TABLE logins (
    -- Random, and told to nobody but in its refresh tokens.
    login_id     uuid PRIMARY KEY,
    instance_id  text NOT NULL REFERENCES instances ON DELETE CASCADE,
    -- Which key its refresh tokens are made with: with another one all of them would look forged.
    key_id       bytea NOT NULL CHECK (length(key_id) = 8),
    -- The last refresh token that was presented; those before it are spent, the one after it is handed out.
    number       bigint NOT NULL DEFAULT 0 CHECK (number >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz,
    ended_at     timestamptz,
    ended_by     login_end,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
-- One login of an instance at a time.
CREATE UNIQUE INDEX logins_open ON logins (instance_id) WHERE ended_at IS NULL;
CREATE INDEX logins_of_instance ON logins (instance_id, created_at);
