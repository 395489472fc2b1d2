-- The change of a row, and of its indexes, that a provision of a job with a one-shot makes.
\set n random(0, :count - 1)
UPDATE one_shots
SET schedule_id = gen_random_uuid(), dedup_key = 'superseded:' || random(), fire_at = fire_at + interval '1 h',
    next_attempt_at = next_attempt_at + interval '1 h', due_since = due_since + interval '1 h',
    created_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE instance_id = 'scale-' || (:n / 10) AND job_id = 'job-' || (:n % 10) AND state = 'armed';
