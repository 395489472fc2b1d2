-- no-transaction
-- For lists of disabled agents.
CREATE INDEX CONCURRENTLY IF NOT EXISTS instances_disabled ON instances (instance_id) WHERE NOT enabled;
