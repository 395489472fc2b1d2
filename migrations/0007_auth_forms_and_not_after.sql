-- Two additions to a provision: further forms of `auth`, and `not_after`.

-- ── Forms of auth ──

DROP FUNCTION auth_of_job;

-- Returns the names in an `auth`, the preferred one first.
CREATE FUNCTION auth_names(auth jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY(SELECT name #>> '{}' FROM jsonb_path_query(auth, '$[*] ? (@.type() == "string")') AS name);

-- An `auth` is the name of a profile, false (no profile, on purpose), or a list of names in order of preference.
CREATE FUNCTION is_auth(auth jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE jsonb_typeof(auth)
        WHEN 'boolean' THEN auth = 'false'
        WHEN 'string'  THEN auth #>> '{}' ~ '^[^:]{1,64}:[^:]{1,128}$'
        WHEN 'array'   THEN jsonb_array_length(auth) BETWEEN 1 AND 8 AND jsonb_array_length(auth) =
            (SELECT count(DISTINCT name) FROM unnest(auth_names(auth)) AS name WHERE name ~ '^[^:]{1,64}:[^:]{1,128}$')
        ELSE false END;

ALTER TABLE job_auth DROP CONSTRAINT job_auth_auth_check,
    ALTER COLUMN auth TYPE jsonb USING to_jsonb(auth), ADD CHECK (is_auth(auth));
ALTER TABLE auth_defaults DROP CONSTRAINT auth_defaults_auth_check,
    ALTER COLUMN auth TYPE jsonb USING to_jsonb(auth), ADD CHECK (is_auth(auth));

-- Returns a job's own auth and the defaults that apply to it, and those names of its own that are registered neither for
-- the instance, nor for its org, nor for the service. One row. The planner inlines the function, and evaluates only the
-- columns that are used. They are subqueries and not joins, so that each is an index lookup whatever the row estimates are.
CREATE FUNCTION auth_of_job(of_instance text, of_org text, of_job text)
    RETURNS TABLE (job_auth jsonb, instance_auth jsonb, org_auth jsonb, service_auth jsonb, unknown_auth text[])
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

-- ── not_after ──

ALTER TABLE one_shots
    -- No attempt starts later: the one-shot then becomes a dead letter. NULL: no limit.
    ADD COLUMN not_after timestamptz,
    -- It is a dead letter because `not_after` has passed. Otherwise its retry budget is spent.
    ADD COLUMN expired   boolean NOT NULL DEFAULT false,
    ADD CHECK (NOT expired OR state = 'dead');
-- For the end of what is not claimed, parked or not, and the time of the next one.
CREATE INDEX one_shots_not_after ON one_shots (not_after)
    WHERE not_after IS NOT NULL AND next_attempt_at IS NOT NULL AND claim_expires_at IS NULL
      -- QStash may be calling the agent: its result decides.
      AND awaits IS DISTINCT FROM 'qstash_direct';

-- Returns the reason why a one-shot is a dead letter, or NULL.
CREATE FUNCTION dead_reason_of(state one_shot_state, expired boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN state <> 'dead' THEN NULL WHEN expired THEN 'expired' ELSE 'budget_spent' END;

-- The one-shot after its limit has passed. `job` is not claimed.
CREATE FUNCTION expired(job one_shots) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
BEGIN
    job.state := 'dead';
    job.dead_since := now();
    job.expired := true;
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
    IF job.state = 'waiting' AND job.lease_token = attempt_id AND job.next_attempt_at > job.not_after THEN
        RETURN expired(job);
    END IF;
    RETURN job;
END;
$$;
