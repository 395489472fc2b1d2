-- Sessions of operators at the operators' page. docs/operators-page.md has the rules.

-- A browser that an operator has signed in. Only the hash of its session ID is stored.
CREATE TABLE operator_sessions (
    session_hash bytea PRIMARY KEY CHECK (octet_length(session_hash) = 32),
    -- SHA-256 of the admin token that signed in. Each request checks that the token is still valid.
    token_hash   bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    -- True for a token of the configuration, which has no row in `admin_tokens`.
    of_config    boolean NOT NULL,
    opened_at    timestamptz NOT NULL DEFAULT now(),
    -- End after some time without use, at most `closes_at`.
    expires_at   timestamptz NOT NULL,
    -- End, however much it is used.
    closes_at    timestamptz NOT NULL,
    CHECK (expires_at <= closes_at)
-- Room for the end, which moves.
) WITH (fillfactor = 70);
-- For the limit of a token's sessions.
CREATE INDEX operator_sessions_of_token ON operator_sessions (token_hash, opened_at);
-- For the deletion of those that have ended.
CREATE INDEX operator_sessions_expires ON operator_sessions (expires_at);

-- Links that sign in once, instead of the token.
CREATE TABLE operator_sign_in_links (
    link_hash  bytea PRIMARY KEY CHECK (octet_length(link_hash) = 32),
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    of_config  boolean NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Forms that a session has sent. A form is carried out once, also if it arrives twice.
CREATE TABLE operator_submissions (
    session_hash  bytea NOT NULL REFERENCES operator_sessions ON DELETE CASCADE,
    -- Chosen when the form was shown.
    submission_id uuid NOT NULL,
    sent_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome       audit_outcome NOT NULL DEFAULT 'unknown',
    -- What the operator reads about it.
    answer        text CHECK (length(answer) <= 2000),
    -- Progress of a form that many jobs need several requests for: the jobs changed so far, and the cursor of the rest.
    changed       bigint,
    next          text CHECK (length(next) <= 4000),
    PRIMARY KEY (session_hash, submission_id)
);
-- For the deletion of a session's oldest ones.
CREATE INDEX operator_submissions_sent ON operator_submissions (session_hash, sent_at);
