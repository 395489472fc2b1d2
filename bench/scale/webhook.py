"""A webhook with deliveries, for the pages that show them. It exists while the pages are timed only: without a webhook, the service
keeps no events, and changes of many jobs would write one fact for each.
"""

import admin

EVENTS = 10_000
# The latest ones wait, because attempts fail.
PENDING = 20
# Nothing listens there.
URL = "http://127.0.0.1:9/hook"

# As the service leaves them behind. The next attempt is after the run.
STORED = """
INSERT INTO events (event_id, type, occurred_at, last_at, count, data)
SELECT gen_random_uuid(), 'dead_letter.created', at, at, 1,
       jsonb_build_object('count', 1, 'first_at', at, 'last_at', at, 'instances', 1, 'orgs', 1, 'items', jsonb_build_array(
           jsonb_build_object('at', at, 'org_id', 'scale', 'instance_id', 'scale-' || n, 'job_id', 'job-9', 'attempts', 3)))
FROM generate_series(1, {events}) AS n CROSS JOIN LATERAL (SELECT now() - ({events} - n) * interval '1 min') AS t(at)
ORDER BY n;
INSERT INTO webhook_deliveries (webhook_id, sequence, state, attempts)
SELECT '{webhook_id}', sequence, CASE WHEN place <= {pending} THEN 'pending' ELSE 'delivered' END::delivery_state,
       CASE WHEN place <= {pending} THEN 0 ELSE 2 END
FROM (SELECT sequence, row_number() OVER (ORDER BY sequence DESC) AS place FROM events) AS e;
INSERT INTO webhook_attempts (webhook_id, sequence, attempt, started_at, duration_ms, http_status, error)
SELECT webhook_id, sequence, n, occurred_at + n * interval '5 s', 12, CASE n WHEN 1 THEN 503 ELSE 200 END,
       CASE n WHEN 1 THEN 'the receiver answered 503' END
FROM webhook_deliveries JOIN events USING (sequence) CROSS JOIN LATERAL generate_series(1, attempts) AS n;
UPDATE webhooks SET failures = 3, failing_since = now(), last_error = 'connection refused', next_attempt_at = now() + interval '1 day';
"""


def create(service):
    """Creates the webhook and its deliveries."""
    client = admin.Client(service.dev["admin_url"], service.dev["admin_token"])
    created, _ = client.call("POST", "/api/admin/webhooks", {"url": URL})
    sql = STORED.format(webhook_id=created["webhook_id"], events=EVENTS, pending=PENDING)
    service.database.run(sql)


def remove(database):
    """Removes the webhook and all events."""
    database.run("DELETE FROM webhooks; DELETE FROM events")
