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

-- ── Texts of agents' errors ──

-- Progress of the erasure in the partitions of `fires`, which have no index by time.
CREATE TABLE erased_error_texts (
    partition    text PRIMARY KEY,
    -- The texts of attempts that started before this are erased. NULL: no pass has ended yet.
    through      timestamptz,
    -- The pass in progress: its limit, and the page at which it continues. NULL: none.
    pass_through timestamptz,
    next_page    bigint NOT NULL DEFAULT 0
);

-- Erases the texts of errors of attempts that started before `retention`, in the next `pages` pages of the oldest partition
-- that has any. A partition is read once a day while its week reaches that age, and a last time when all of it has. Returns
-- false if nothing is left to read now.
CREATE FUNCTION erase_error_texts(retention interval, pages integer) RETURNS boolean
    LANGUAGE plpgsql
    SET timezone = 'UTC'
    SET lock_timeout = '1s'
    -- A range of pages is read as such, whatever is known about the table.
    SET enable_seqscan = off
AS $$
DECLARE
    cutoff timestamptz := now() - retention;
    pass record;
    size bigint;
BEGIN
    -- One replica at a time.
    IF NOT pg_try_advisory_xact_lock(hashtext('nas_cron.erase_error_texts')) THEN
        RETURN false;
    END IF;
    DELETE FROM erased_error_texts WHERE to_regclass(partition) IS NULL;
    SELECT p.name, COALESCE(e.pass_through, p.wanted) AS through, COALESCE(e.next_page, 0) AS page INTO pass
    FROM (
        SELECT w.name, w.begins, w.ends, LEAST(cutoff, w.ends) AS wanted
        FROM (
            SELECT c.relname::text AS name, d.begins, d.begins + interval '1 week' AS ends
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            CROSS JOIN LATERAL (SELECT to_date(substr(c.relname, 7), 'YYYYMMDD')::timestamptz AS begins) d
            WHERE i.inhparent = 'fires'::regclass AND c.relname ~ '^fires_\d{8}$'
            UNION ALL
            SELECT 'fires_default', '-infinity', 'infinity'
        ) w
        WHERE w.begins < cutoff
    ) p LEFT JOIN erased_error_texts e ON e.partition = p.name
    WHERE e.pass_through IS NOT NULL OR e.through IS NULL
       OR (e.through < p.wanted AND (p.wanted = p.ends OR p.wanted - e.through >= interval '1 day'))
    ORDER BY p.begins
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    size := pg_relation_size(pass.name::regclass) / current_setting('block_size')::int;
    EXECUTE format('UPDATE %I SET error = NULL
                    WHERE ctid >= $1 AND ctid < $2 AND error IS NOT NULL AND started_at < $3', pass.name)
        USING format('(%s,0)', pass.page)::tid, format('(%s,0)', pass.page + pages)::tid, pass.through;
    INSERT INTO erased_error_texts AS e (partition, through, pass_through, next_page)
    VALUES (pass.name, CASE WHEN pass.page + pages >= size THEN pass.through END,
            CASE WHEN pass.page + pages < size THEN pass.through END,
            CASE WHEN pass.page + pages < size THEN pass.page + pages ELSE 0 END)
    ON CONFLICT (partition) DO UPDATE
    SET through = COALESCE(excluded.through, e.through), pass_through = excluded.pass_through,
        next_page = excluded.next_page;
    RETURN true;
END;
$$;
