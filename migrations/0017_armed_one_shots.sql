-- no-transaction
-- For the count of an instance's armed jobs, which does not read its other one-shots.
CREATE INDEX CONCURRENTLY IF NOT EXISTS one_shots_armed ON one_shots (instance_id) WHERE next_attempt_at IS NOT NULL;
