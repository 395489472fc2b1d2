-- From when a one-shot's first attempt is late. NULL: it is not measured, because it was armed after its instant, held,
-- behind an outage, redriven, or is to be fired a second time. Unlike `next_attempt_at` it does not move when this service
-- puts the attempt off by its own fault. Never before `fire_at`: that is what the default means, for rows of releases that
-- do not know this column.
ALTER TABLE one_shots ADD COLUMN due_since timestamptz DEFAULT '-infinity';
UPDATE one_shots SET due_since = NULL WHERE parked IS NOT NULL;

-- For counting them; there are few.
CREATE INDEX instances_denied ON instances (instance_id) WHERE NOT enabled OR denied_by_portal IS NOT NULL;
