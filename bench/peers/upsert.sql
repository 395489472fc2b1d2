\set agent random(1, 100)
\set job random(1, 1000000)
INSERT INTO upserts (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state, next_attempt_at)
VALUES ('bench-12345678-' || :agent, '12345678p' || :job::text, gen_random_uuid(),
    '12345678p' || :job::text || ':2027-01-01T00:00:00+00:00', '2027-01-01T00:00:00+00:00', now() + interval '1 day',
    'http://127.0.0.1:12345/a/' || :agent::text, 1, now() + interval '1 day')
ON CONFLICT (instance_id, job_id) DO UPDATE SET
    schedule_id = excluded.schedule_id, dedup_key = excluded.dedup_key, fire_at_text = excluded.fire_at_text,
    fire_at = excluded.fire_at, callback_url = excluded.callback_url, next_attempt_at = excluded.next_attempt_at,
    updated_at = now();
