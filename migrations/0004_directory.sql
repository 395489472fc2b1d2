-- Where the portal is asked which instances there are (`directory = lookup`), `instances` is the memory of its answers.

CREATE TYPE portal_denial AS ENUM ('unknown', 'disabled');

ALTER TABLE instances
    -- When the portal last answered about it. NULL: it was registered here, and never asked for.
    ADD COLUMN looked_up_at timestamptz,
    -- When a replica last took it on to ask about it again, being denied. Whatever came of that.
    ADD COLUMN asked_again_at timestamptz,
    -- What that answer was, unless it was a yes. Apart from `enabled`, which is the operator's: neither undoes the other.
    ADD COLUMN denied_by_portal portal_denial,
    ADD CHECK (denied_by_portal IS NULL OR looked_up_at IS NOT NULL);

-- As before, and what the portal denies is held too. The columns are named, as a view's may only be added to.
CREATE OR REPLACE VIEW instance_status AS
    SELECT i.instance_id, i.org_id, i.bootstrap_session_id, i.enabled, i.callback_url, i.skew_guard_ms, i.skew_learned_at,
           i.unreachable_since, i.probe_job_id, i.pulled_at, i.created_at, i.updated_at,
           NOT i.enabled OR i.denied_by_portal IS NOT NULL OR EXISTS (
               SELECT FROM holds h
               WHERE (h.scope = 'all' AND h.scope_id = '')
                  OR (h.scope = 'org' AND h.scope_id = i.org_id)
                  OR (h.scope = 'instance' AND h.scope_id = i.instance_id)) AS on_hold,
           i.looked_up_at, i.denied_by_portal
    FROM instances i;
