"""Fills the database of a service with one-shots and history, by SQL: through the API it would take hours.

As a program: `populate.py DATABASE_URL --one-shots N --history N`, for the URL in `dev.json` of `nas-cron dev`.

The rows are those that provisions and fires leave behind. They belong to agents of their own, `scale-N`, each with ten jobs.
"""

import argparse
import sys

from options import programs
from processes import Failed
from service import Database

JOBS_PER_AGENT = 10
# Weeks of history, less than the default retention. The older half is dropped by the measure of growth.
WEEKS = 4

AGENTS = """
INSERT INTO instances (instance_id, org_id, callback_url)
SELECT 'scale-' || n, 'scale', 'http://127.0.0.1:9' FROM generate_series({first}, {last}) AS n ON CONFLICT DO NOTHING
"""

# Due at any time of next week; one of a thousand is a dead letter.
ONE_SHOTS = """
INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                       next_attempt_at, due_since, dead_since, attempts, last_outcome)
SELECT 'scale-' || n / {jobs}, 'job-' || n % {jobs}, gen_random_uuid(), 'job-' || n % {jobs} || ':' || text, text, due,
       'http://127.0.0.1:9', CASE WHEN dead THEN 'dead' ELSE 'armed' END::one_shot_state,
       CASE WHEN NOT dead THEN due END, CASE WHEN NOT dead THEN due END, CASE WHEN dead THEN now() END,
       dead::integer, CASE WHEN dead THEN 'failed'::fire_outcome END
FROM generate_series({first}, {last}) AS n
CROSS JOIN LATERAL (SELECT date_trunc('second', now()) + interval '7 days' + n % 604800 * interval '1 s') AS d(due)
CROSS JOIN LATERAL (SELECT to_char(due AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), n % 1000 = 999) AS t(text, dead)
"""

# As `maintain_history` does it for the weeks to come.
PARTITIONS = """
DO $$
DECLARE week timestamptz; name text;
BEGIN
    SET LOCAL timezone = 'UTC';
    FOR week IN SELECT date_trunc('week', now()) - n * interval '1 week' FROM generate_series(1, {weeks}) AS n LOOP
        name := 'fires_' || to_char(week, 'YYYYMMDD');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF fires FOR VALUES FROM (%L) TO (%L)', name, week, week + interval '1 week');
        END IF;
    END LOOP;
END $$
"""

HISTORY = """
INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at, outcome,
                   http_status)
SELECT gen_random_uuid(), 'scale-' || n / {jobs}, 'job-' || n % {jobs}, gen_random_uuid(), 'job-' || n % {jobs} || ':x', at, 1,
       at + interval '1 ms', at + interval '9 ms', 'delivered', 202
FROM generate_series({first}, {last}) AS n
CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n % ({weeks} * 604800 - 7200) * interval '1 s') AS a(at)
"""

# The jobs of an agent whose token is known, for `list`.
LISTED = """
INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                       next_attempt_at, due_since)
SELECT '{instance}', 'listed-' || n, gen_random_uuid(), 'listed-' || n, '2100-01-01T00:00:00Z', '2100-01-01T00:00:00Z',
       'http://127.0.0.1:9', 'armed', '2100-01-01T00:00:00Z', '2100-01-01T00:00:00Z'
FROM generate_series(1, {jobs}) AS n ON CONFLICT DO NOTHING
"""

# Rows in one statement: bounds its memory, and a progress line follows each.
CHUNK = 500_000


def armed(database, wanted, report=lambda _: None):
    """Adds one-shots and their agents until there are `wanted`."""
    present = round(database.number("SELECT count(*) FROM one_shots WHERE instance_id LIKE 'scale-%'"))
    for first in range(present, wanted, CHUNK):
        last = min(first + CHUNK, wanted) - 1
        agents = AGENTS.format(first=first // JOBS_PER_AGENT, last=last // JOBS_PER_AGENT)
        database.run(f"BEGIN; {agents}; {ONE_SHOTS.format(first=first, last=last, jobs=JOBS_PER_AGENT)}; COMMIT")
        report(f"{last + 1:,} of {wanted:,} one-shots")
    settle(database)


def history(database, wanted, report=lambda _: None):
    """Adds rows of history until there are `wanted`, evenly over the last weeks."""
    present = round(database.number("SELECT count(*) FROM fires WHERE instance_id LIKE 'scale-%'"))
    database.run(PARTITIONS.format(weeks=WEEKS))
    for first in range(present, wanted, CHUNK):
        last = min(first + CHUNK, wanted) - 1
        database.run(HISTORY.format(first=first, last=last, jobs=JOBS_PER_AGENT, weeks=WEEKS))
        report(f"{last + 1:,} of {wanted:,} rows of history")
    settle(database)


def listed(database, instance):
    database.run(LISTED.format(instance=instance, jobs=JOBS_PER_AGENT))


def settle(database):
    """What autovacuum and checkpoints would do during the measure."""
    database.run("VACUUM (ANALYZE)")
    database.run("CHECKPOINT")


def main():
    parser = argparse.ArgumentParser(description="Fill the database of a service with one-shots and history.")
    parser.add_argument("url", help="URL of the database, as in dev.json")
    parser.add_argument("--one-shots", type=int, default=0, help="one-shots that there will be [0]")
    parser.add_argument("--history", type=int, default=0, help="rows of history that there will be [0]")
    chosen = parser.parse_args()
    try:
        database = Database(chosen.url, programs(None))
        armed(database, chosen.one_shots, print)
        history(database, chosen.history, print)
    except Failed as failed:
        sys.exit(f"populate: {failed}")


if __name__ == "__main__":
    main()
