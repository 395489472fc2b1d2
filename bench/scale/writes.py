"""Times the changes of many jobs through the admin API: holds, a redrive of all dead letters, and the deletion of an org.

For a database that `populate.py` has filled, after every read is timed: the org is gone afterwards. Each change is repeated until
it is complete, as a client does that follows `next` and `confirm`.
"""

import time

import tables
from processes import Failed

ORG = "scale"
DEAD = """
UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL, due_since = NULL, attempts = 3,
    fire_at = now() - interval '1 h', last_outcome = 'failed', last_status = 503, last_error = 'busy'
WHERE instance_id IN (SELECT instance_id FROM instances WHERE org_id = 'scale' ORDER BY instance_id LIMIT {dead} / 10)
  AND state IN ('armed', 'waiting')
"""
# The longest wait for the scheduler, which parks what is due while it is held.
PARKED_S = 300
PARKED = "SELECT count(*) FROM one_shots WHERE parked = 'hold'"
# Without those that another hold parks.
ENDED = "SELECT count(*) FROM one_shots JOIN instance_status USING (instance_id) WHERE parked = 'hold' AND NOT on_hold"


class Timed:
    """The requests of one change."""

    def __init__(self, client):
        self.client, self.times, self.changed = client, [], 0

    def call(self, method, path, body=None):
        answer, took = self.client.call(method, path, body)
        self.times.append(took)
        return answer

    def row(self, change):
        return {
            "change": change,
            "changed": self.changed,
            "requests": len(self.times),
            "total_ms": round(sum(self.times), 1),
            "max_ms": round(max(self.times), 1),
        }


def hold(client, target):
    timed = Timed(client)
    timed.changed = timed.call("PUT", f"/api/admin/holds/{target}", {"reason": "bench"})["covers"]["armed"]
    return timed.row(f"hold {target}")


def release(client, database, target):
    """Ends a hold. The service releases the rest by itself if a call has left some: the time is that until none is held."""
    timed = Timed(client)
    parked, begin = int(database.value(PARKED)), time.monotonic()
    timed.changed = timed.call("DELETE", f"/api/admin/holds/{target}")["released"]
    while left := int(database.value(ENDED)):
        if time.monotonic() > begin + PARKED_S:
            raise Failed(f"{left} one-shots are still parked {PARKED_S} s after the end of the hold")
        time.sleep(0.2)
    total = (time.monotonic() - begin) * 1e3
    return {**timed.row(f"end the hold of {target}, {parked} parked"), "total_ms": round(total, 1)}


def redrive(client):
    timed, after = Timed(client), ""
    while after is not None:
        report = timed.call("POST", f"/api/admin/jobs/redrive?all=true&per_second=1000{after}")
        timed.changed += report["redriven"]
        after = f"&after={report['next']}" if report["next"] else None
    return timed.row("redrive all dead letters")


def delete(client):
    timed = Timed(client)
    confirm = timed.call("POST", "/api/admin/deletions", {"org_id": ORG})["confirm"]
    while confirm:
        report = timed.call("POST", "/api/admin/deletions", {"org_id": ORG, "confirm": confirm})
        timed.changed += sum(report["deleted"].values())
        confirm = report["confirm"]
    return timed.row("delete everything of an org, rows")


def measure(client, database, dead, progress=lambda _: None):
    """Returns the times of each change, in the order in which they were made."""
    database.run(DEAD.format(dead=dead))
    rows = []

    def done(row):
        rows.append(row)
        progress(f"{row['change']}: {row['changed']} in {row['total_ms'] / 1e3:.1f} s")

    done(hold(client, "service"))
    done(redrive(client))
    wait_for_parked(database, dead)
    done(release(client, database, "service"))
    done(hold(client, f"orgs/{ORG}"))
    wait_for_quiet(database)
    done(delete(client))
    return rows


def wait_for_parked(database, dead):
    """Waits until the scheduler has parked what was redriven, but for what is due later."""
    end = time.monotonic() + PARKED_S
    while (parked := int(database.value(PARKED))) < 0.99 * dead:
        if time.monotonic() > end:
            raise Failed(f"only {parked} of {dead} redriven one-shots are parked after {PARKED_S} s")
        time.sleep(1)


def wait_for_quiet(database):
    """Waits until no attempt is in flight: what was released fires beside the changes."""
    end = time.monotonic() + PARKED_S
    while int(database.value("SELECT count(*) FROM one_shots WHERE state IN ('leased', 'firing')")) and time.monotonic() < end:
        time.sleep(1)


def lines(rows):
    yield ["change", "changed", "requests", "total", "slowest request"]
    for row in rows:
        times = [tables.shown(row[name], " ms", 0) for name in ("total_ms", "max_ms")]
        yield [row["change"], f"{row['changed']:,}", str(row["requests"]), *times]
