-- Which credentials a job's fire names: a profile of the agent's own, by provider and name. Never a secret.
-- Words and rules are those of docs/auth-profiles.md.

CREATE TYPE auth_scope AS ENUM ('service', 'org', 'instance');

-- A job's own profile, where it has one. It belongs to the job and not to its one-shot: agents pause and resume with
-- cancel and provision, and do not repeat it.
CREATE TABLE job_auth (
    instance_id text NOT NULL REFERENCES instances ON DELETE CASCADE,
    job_id      text NOT NULL CHECK (length(job_id) BETWEEN 1 AND 255),
    auth        text NOT NULL CHECK (auth ~ '^[^:]{1,64}:[^:]{1,128}$'),
    -- Since when it may be without a one-shot; NULL once upkeep has seen that it is not.
    idle_since  timestamptz DEFAULT now(),
    PRIMARY KEY (instance_id, job_id)
);
CREATE INDEX job_auth_idle ON job_auth (idle_since) WHERE idle_since IS NOT NULL;

-- What jobs without a profile of their own get. `scope_id` is '' for the service. An instance's rows go with it.
CREATE TABLE auth_defaults (
    scope       auth_scope NOT NULL,
    scope_id    text NOT NULL CHECK (length(scope_id) <= 255),
    instance_id text GENERATED ALWAYS AS (CASE WHEN scope = 'instance' THEN scope_id END) STORED
                REFERENCES instances ON DELETE CASCADE,
    auth        text NOT NULL CHECK (auth ~ '^[^:]{1,64}:[^:]{1,128}$'),
    PRIMARY KEY (scope, scope_id),
    CHECK ((scope = 'service') = (scope_id = ''))
);
CREATE INDEX auth_defaults_instance ON auth_defaults (instance_id) WHERE instance_id IS NOT NULL;

-- Which profiles are known: what a job names without being here is warned of.
CREATE TABLE auth_profiles (
    scope       auth_scope NOT NULL,
    scope_id    text NOT NULL CHECK (length(scope_id) <= 255),
    instance_id text GENERATED ALWAYS AS (CASE WHEN scope = 'instance' THEN scope_id END) STORED
                REFERENCES instances ON DELETE CASCADE,
    auth        text NOT NULL CHECK (auth ~ '^[^:]{1,64}:[^:]{1,128}$'),
    PRIMARY KEY (scope, scope_id, auth),
    CHECK ((scope = 'service') = (scope_id = ''))
);
CREATE INDEX auth_profiles_instance ON auth_profiles (instance_id) WHERE instance_id IS NOT NULL;

-- Whether a profile is known where an instance is: at its own place, in its org, or in the service.
CREATE FUNCTION auth_profile_known(of_instance text, of_org text, named text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN EXISTS (SELECT FROM auth_profiles p WHERE p.scope = 'instance' AND p.scope_id = of_instance AND p.auth = named)
        OR EXISTS (SELECT FROM auth_profiles p WHERE p.scope = 'org' AND p.scope_id = of_org AND p.auth = named)
        OR EXISTS (SELECT FROM auth_profiles p WHERE p.scope = 'service' AND p.scope_id = '' AND p.auth = named);
