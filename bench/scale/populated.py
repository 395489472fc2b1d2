"""Measures of a service with many armed one-shots and a long history: its start, its idle load, and its rates."""

import json
import sys
import time
import urllib.request
from pathlib import Path

import populate
import statements
from processes import output

HERE = Path(__file__).resolve().parent
SETTLE_S = 20
LISTS = 500
PAGES = 50
CLIENTS = 32
# A separate database: its table must not slow down the service's vacuum.
BASELINE = "baseline"


def progress(text):
    print(f"bench-scale: {text}", file=sys.stderr, flush=True)


def level(service, sizes, count, wanted):
    """Fills the database up to `count`, and runs the measures in `wanted`."""
    database = service.database
    populate.armed(database, count, progress)
    found = {"armed": count, "one_shot_bytes": statements.bytes_per_row(database, "one_shots")}
    if "growth" in wanted:
        populate.history(database, count, progress)
        found["history_row_bytes"] = statements.bytes_per_row(database, "fires")
    if "start" in wanted:
        progress(f"start with {count:,} armed")
        found["start"] = start(service)
    if "idle" in wanted:
        progress(f"idle with {count:,} armed, {sizes.idle_s:g} s")
        found["idle"] = idle(service, sizes)
    if "growth" in wanted:
        progress(f"rates with {count:,} armed")
        found["growth"] = growth(service, sizes, count)
    return found


def start(service):
    """Starts another replica, and stops it again. Returns the seconds until it was ready."""
    took = service.add_replica()
    replica, _ = service.replicas.pop()
    replica.stop()
    return {"ready_s": round(took, 3)}


def idle(service, sizes):
    # Without the memory of earlier loads.
    service.stop()
    service.start()
    # The work of the start is over after a round of maintenance.
    time.sleep(SETTLE_S)
    statements.reset(service.database)
    before = service.cpu_s(), service.database_cpu_s(), time.monotonic()
    time.sleep(sizes.idle_s)
    took = time.monotonic() - before[2]
    share = lambda now, then: round(100 * (now - then) / took, 3)
    return {
        "statements_per_s": round(statements.calls(service.database) / took, 3),
        "service_cpu_percent": share(service.cpu_s(), before[0]),
        "database_cpu_percent": share(service.database_cpu_s(), before[1]),
        "rss_mb": round(service.rss_bytes() / 1e6, 1),
        "slowest_statements": statements.slowest(service.database, 3),
    }


def growth(service, sizes, count):
    database = service.database
    with Baseline(service, count, sizes.pgbench_s) as pgbench:
        # Before and after, because the speed of a disk may change within minutes.
        before = pgbench.upserts_per_s()
        statements.reset(database)
        bench = service.bench("--jobs", sizes.jobs, "--over", f"{sizes.over_s}s", "--burst", sizes.burst)
        slow = statements.slowest(database)
        after = pgbench.upserts_per_s()
    baseline = round((before + after) / 2, 1)
    agent = service.dev["agents"][0]
    populate.listed(database, agent["instance_id"])
    return {
        "pgbench_upserts_per_s": baseline,
        "pgbench_before_and_after": [before, after],
        "bench": bench,
        "per_pgbench": {
            "burst": ratio(bench["durable_fires_per_s"], baseline),
            "provision": ratio(bench["provisions_per_s"], baseline),
        },
        "list_ms": list_latency(service, agent["access_token"]),
        "metrics_ms": latency(lambda: service.metrics(), PAGES),
        "jobs_list_overdue_s": timed(lambda: service.command("jobs", "list", "--overdue")),
        "jobs_list_dead_s": timed(lambda: service.command("jobs", "list", "--state", "dead")),
        "drop_history_s": drop_history(database),
        "slowest_statements": slow,
    }


def ratio(value, to):
    return value and round(value / to, 4)


def timed(call):
    began = time.monotonic()
    call()
    return round(time.monotonic() - began, 3)


def latency(call, times):
    took = sorted(timed_ms(call) for _ in range(times))
    at = lambda part: round(took[min(int(part * times), times - 1)], 3)
    return {"p50": at(0.5), "p99": at(0.99), "max": at(1)}


def timed_ms(call):
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def list_latency(service, token):
    request = urllib.request.Request(
        f"{service.url}/api/agent-cron/list", headers={"Authorization": f"Bearer {token}"}
    )

    def call():
        with urllib.request.urlopen(request, timeout=30) as response:
            armed = json.load(response)["armed"]
            assert len(armed) == populate.JOBS_PER_AGENT, armed

    return latency(call, LISTS)


def drop_history(database):
    """Drops all history but that of the last two weeks, as maintenance does it. Returns the seconds."""
    return timed(lambda: database.run("SELECT maintain_history(interval '14 days')"))


class Baseline:
    """A plain table of `count` rows in another database, which pgbench upserts into."""

    def __init__(self, service, count, seconds):
        self.service, self.count, self.seconds = service, count, seconds

    def __enter__(self):
        database = self.service.database
        database.run(f"CREATE DATABASE {BASELINE}")
        database.run((HERE / "baseline.sql").read_text().format(count=self.count), database=BASELINE)
        database.run("VACUUM (ANALYZE) baseline", database=BASELINE)
        database.run("CHECKPOINT")
        return self

    def __exit__(self, *_):
        self.service.database.run(f"DROP DATABASE {BASELINE}")

    def upserts_per_s(self):
        length, timeout = ["-T", self.seconds], self.seconds + 120
        return round(run_pgbench(self.service, HERE / "upsert.sql", self.count, length, BASELINE, timeout), 1)


def run_pgbench(service, script, count, length, database, timeout):
    programs, connection = service.programs, service.database.connection
    command = [programs / "pgbench", "-n", "-M", "prepared", "-c", CLIENTS, "-j", 2, "-D", f"count={count}", *length]
    return statements.tps(output("pgbench", [*command, "-f", script, *connection, database], timeout))


def supersede(service, count):
    """Changes rows as a supersede does, and returns the bytes per one-shot before and after."""
    database = service.database
    armed = round(database.number("SELECT count(*) FROM one_shots WHERE instance_id LIKE 'scale-%'"))
    before = statements.bytes_per_row(database, "one_shots")
    length = ["-t", max(count // CLIENTS, 1)]
    rate = run_pgbench(service, HERE / "supersede.sql", armed, length, database.name, 7200)
    after = statements.bytes_per_row(database, "one_shots")
    return {
        "count": count,
        "per_s": round(rate, 1),
        "bytes_before": round(before, 1),
        "bytes_after": round(after, 1),
        "bytes_ratio": round(after / before, 3),
    }
