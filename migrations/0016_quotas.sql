-- Quotas of armed jobs. docs/contract.md#quotas has the rules.

CREATE TYPE quota_scope AS ENUM ('instance', 'org');

-- Quotas that an operator has set. Others have the defaults of the settings. An instance's row goes with it.
CREATE TABLE quotas (
    scope       quota_scope NOT NULL,
    scope_id    text NOT NULL CHECK (length(scope_id) BETWEEN 1 AND 255),
    instance_id text GENERATED ALWAYS AS (CASE WHEN scope = 'instance' THEN scope_id END) STORED
                REFERENCES instances ON DELETE CASCADE,
    armed_jobs  integer NOT NULL CHECK (armed_jobs >= 0),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, scope_id)
);
-- For the deletion of an instance.
CREATE INDEX quotas_of_instance ON quotas (instance_id) WHERE instance_id IS NOT NULL;

-- Instances and orgs that have used at least 90 % of their quota when a replica last counted: replicas add them, and
-- maintenance counts them again.
CREATE TABLE nearly_used_quotas (
    scope       quota_scope NOT NULL,
    scope_id    text NOT NULL,
    quota       bigint NOT NULL,
    -- Counted up to the quota.
    armed       bigint NOT NULL,
    noticed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, scope_id)
);
