-- no-transaction
-- For lists by org.
CREATE INDEX CONCURRENTLY IF NOT EXISTS instances_by_org ON instances (org_id, instance_id);
