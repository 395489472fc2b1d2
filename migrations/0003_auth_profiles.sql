-- Auth profiles: the credentials that an agent uses for a job, by provider and name. Never a secret. docs/auth-profiles.md
-- has the rules.

CREATE TYPE auth_scope AS ENUM ('service', 'org', 'instance');

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

-- A job's own profile. It belongs to the job and not to its one-shot: agents pause and resume with cancel and provision, and
-- do not repeat it.
CREATE TABLE job_auth (
    instance_id text NOT NULL REFERENCES instances ON DELETE CASCADE,
    job_id      text NOT NULL CHECK (length(job_id) BETWEEN 1 AND 255),
    auth        jsonb NOT NULL CHECK (is_auth(auth)),
    -- Start of the time without a one-shot; NULL once maintenance has seen that it has one.
    idle_since  timestamptz DEFAULT now(),
    PRIMARY KEY (instance_id, job_id)
);
-- For pruning.
CREATE INDEX job_auth_idle ON job_auth (idle_since) WHERE idle_since IS NOT NULL;

-- Defaults of jobs without a profile of their own. `scope_id` is '' for the service. An instance's rows go with it.
CREATE TABLE auth_defaults (
    scope       auth_scope NOT NULL,
    scope_id    text NOT NULL CHECK (length(scope_id) <= 255),
    instance_id text GENERATED ALWAYS AS (CASE WHEN scope = 'instance' THEN scope_id END) STORED
                REFERENCES instances ON DELETE CASCADE,
    auth        jsonb NOT NULL CHECK (is_auth(auth)),
    PRIMARY KEY (scope, scope_id),
    CHECK ((scope = 'service') = (scope_id = ''))
);
-- For the deletion of an instance.
CREATE INDEX auth_defaults_instance ON auth_defaults (instance_id) WHERE instance_id IS NOT NULL;

-- Registered profiles. A job that names another one gets a warning.
CREATE TABLE auth_profiles (
    scope       auth_scope NOT NULL,
    scope_id    text NOT NULL CHECK (length(scope_id) <= 255),
    instance_id text GENERATED ALWAYS AS (CASE WHEN scope = 'instance' THEN scope_id END) STORED
                REFERENCES instances ON DELETE CASCADE,
    auth        text NOT NULL CHECK (auth ~ '^[^:]{1,64}:[^:]{1,128}$'),
    PRIMARY KEY (scope, scope_id, auth),
    CHECK ((scope = 'service') = (scope_id = ''))
);
-- For the deletion of an instance.
CREATE INDEX auth_profiles_instance ON auth_profiles (instance_id) WHERE instance_id IS NOT NULL;

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
