-- Two additions to a provision: further forms of `auth`, and `not_after`. A replica of a release before this migration
-- still works on the schema: it does not know `not_after`, and sees what it can express of `auth`.

-- ── Forms of auth ──

-- An `auth` column holds one of three forms: the name of a profile, 'false' (no profile, on purpose), or a JSON list of
-- names in order of preference. They share the column of the name, so that a write of an earlier release replaces the
-- whole value.
CREATE FUNCTION is_auth(auth text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN auth ~ ('^(false|[^]:",[]{1,64}:[^]:",[]{1,128}'
                   || '|\["[^]:",[]{1,64}:[^]:",[]{1,128}"(,"[^]:",[]{1,64}:[^]:",[]{1,128}"){0,7}\])$');

-- Not validated, because that reads the whole table: rows so far are names.
ALTER TABLE job_auth DROP CONSTRAINT job_auth_auth_check,
    ADD CONSTRAINT job_auth_auth_form CHECK (is_auth(auth)) NOT VALID;
ALTER TABLE auth_defaults DROP CONSTRAINT auth_defaults_auth_check,
    ADD CONSTRAINT auth_defaults_auth_form CHECK (is_auth(auth)) NOT VALID;

-- Returns the names in an `auth` column, the preferred one first.
CREATE FUNCTION auth_names(auth text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN auth = 'false' THEN '{}'
        WHEN auth LIKE '[%' THEN string_to_array(substr(left(auth, -2), 3), '","')
        ELSE ARRAY[auth]
    END;

-- Returns a job's own auth and the defaults that apply to it, and those names of its own that are registered neither for
-- the instance, nor for its org, nor for the service. One row. The planner inlines the function, and evaluates only the
-- columns that are used. They are subqueries and not joins, so that each is an index lookup whatever the row estimates are.
CREATE FUNCTION auth_of(of_instance text, of_org text, of_job text)
    RETURNS TABLE (job_auth text, instance_auth text, org_auth text, service_auth text, unknown_auth text[])
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT (SELECT j.auth FROM job_auth j WHERE j.instance_id = of_instance AND j.job_id = of_job),
           (SELECT d.auth FROM auth_defaults d WHERE d.scope = 'instance' AND d.scope_id = of_instance),
           (SELECT d.auth FROM auth_defaults d WHERE d.scope = 'org' AND d.scope_id = of_org),
           (SELECT d.auth FROM auth_defaults d WHERE d.scope = 'service' AND d.scope_id = ''),
           (SELECT array_agg(n.name ORDER BY n.place)
            FROM job_auth j CROSS JOIN LATERAL unnest(auth_names(j.auth)) WITH ORDINALITY AS n(name, place)
            WHERE j.instance_id = of_instance AND j.job_id = of_job
              -- Three lookups and not one over three scopes, so that each uses the whole primary key.
              AND NOT EXISTS (SELECT FROM auth_profiles p
                              WHERE p.scope = 'instance' AND p.scope_id = of_instance AND p.auth = n.name)
              AND NOT EXISTS (SELECT FROM auth_profiles p
                              WHERE p.scope = 'org' AND p.scope_id = of_org AND p.auth = n.name)
              AND NOT EXISTS (SELECT FROM auth_profiles p
                              WHERE p.scope = 'service' AND p.scope_id = '' AND p.auth = n.name));
END;

-- The same for earlier releases, which know single names only and use the first column that is set: of a list they get the
-- preferred name, and `false` hides what it overrides.
CREATE OR REPLACE FUNCTION auth_of_job(of_instance text, of_org text, of_job text)
    RETURNS TABLE (job_auth text, instance_auth text, org_auth text, service_auth text, unknown_auth text)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT (auth_names(a.job_auth))[1],
           CASE WHEN ('false' = a.job_auth) IS NOT TRUE THEN (auth_names(a.instance_auth))[1] END,
           CASE WHEN ('false' IN (a.job_auth, a.instance_auth)) IS NOT TRUE THEN (auth_names(a.org_auth))[1] END,
           CASE WHEN ('false' IN (a.job_auth, a.instance_auth, a.org_auth)) IS NOT TRUE
                THEN (auth_names(a.service_auth))[1] END,
           a.unknown_auth[1]
    FROM auth_of(of_instance, of_org, of_job) a;
END;

-- ── not_after ──

ALTER TABLE one_shots
    -- No attempt starts later: the one-shot then becomes a dead letter. NULL: no limit.
    ADD COLUMN not_after     timestamptz,
    -- `created_at` of the arm that `not_after` belongs to. An earlier release arms anew without changing either, and a limit
    -- of another arm means nothing.
    ADD COLUMN not_after_for timestamptz,
    -- Equals `dead_since` of a dead letter whose `not_after` had passed. Otherwise its retry budget is spent.
    ADD COLUMN expired_at    timestamptz;
-- For the end of what is not claimed, parked or not, and the time of the next one.
CREATE INDEX one_shots_not_after ON one_shots (not_after)
    WHERE not_after IS NOT NULL AND not_after_for = created_at AND next_attempt_at IS NOT NULL AND claim_expires_at IS NULL
      -- QStash may be calling the agent: its result decides.
      AND awaits IS DISTINCT FROM 'qstash_direct';

-- Returns the limit of the arm that was created at `created_at`, or NULL.
CREATE FUNCTION limit_of(not_after timestamptz, not_after_for timestamptz, created_at timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN not_after_for = created_at THEN not_after END;

-- Returns the reason why a one-shot is a dead letter, or NULL.
CREATE FUNCTION dead_reason_of(state one_shot_state, dead_since timestamptz, expired_at timestamptz) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN state <> 'dead' THEN NULL WHEN expired_at = dead_since THEN 'expired' ELSE 'budget_spent' END;

-- The one-shot after its limit has passed. `job` is not claimed.
CREATE FUNCTION expired(job one_shots) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
BEGIN
    job.state := 'dead';
    job.dead_since := now();
    job.expired_at := now();
    job.next_attempt_at := NULL;
    job.due_since := NULL;
    job.parked := NULL;
    job.awaits := NULL;
    job.updated_at := now();
    RETURN job;
END;
$$;

-- A one-shot after the outcome of an attempt, which decides about it if it has the attempt's token: one whose next attempt
-- would be too late ends at once.
CREATE FUNCTION retried_or_expired(job one_shots, attempt_id uuid) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF job.state = 'waiting' AND job.lease_token = attempt_id
       AND job.next_attempt_at > limit_of(job.not_after, job.not_after_for, job.created_at) THEN
        RETURN expired(job);
    END IF;
    RETURN job;
END;
$$;

-- A one-shot after a provision. Of a live one, the same key changes or clears the limit, and keeps it if `given` has no
-- `not_after_for`. A new arm has that of `given` already.
CREATE FUNCTION limited(job one_shots, given one_shots) RETURNS one_shots
    LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    IF given.not_after_for IS NOT NULL AND job.next_attempt_at IS NOT NULL THEN
        job.not_after := given.not_after;
        job.not_after_for := job.created_at;
    END IF;
    RETURN job;
END;
$$;
