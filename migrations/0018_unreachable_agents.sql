-- no-transaction
-- For lists of unreachable agents: nearly always empty, and written at the beginning and the end of an outage only.
CREATE INDEX CONCURRENTLY IF NOT EXISTS instances_unreachable_by_id ON instances (instance_id) INCLUDE (org_id)
    WHERE unreachable_since IS NOT NULL;
