"""The cost of a fire and of a provision: CPU of service, database and client, and bytes of the log. For `bench/fleet`."""

import json
import subprocess
import time
from dataclasses import dataclass

import populate
import statements
from processes import Failed, cpu_s, environment, machine_s

SAMPLE_S = 0.05
STORED = 10_000
# Of these bursts, the median one is the point.
POINTS = 3
PROVISIONS = "nas_cron_provision_duration_seconds_count"
FIRES = 'nas_cron_fires_total{outcome="delivered"}'


@dataclass(frozen=True)
class Sample:
    """The state of a run: what has been done, and what it has used."""

    at_s: float
    provisions: float
    fires: float
    service_s: float
    database_s: float
    client_s: float
    wal_bytes: float
    busy_s: float
    idle_s: float


def measure(service, sizes):
    """Costs from a burst, and the lateness of a larger one that the costs must explain."""
    # An empty table would not show the size of a row.
    populate.armed(service.database, STORED)
    stored = statements.bytes_per_row(service.database, "one_shots")
    one = run(service, sizes.burst)
    points = sorted((run(service, 4 * sizes.burst)["point"] for _ in range(POINTS)), key=lambda one: one["lateness_p99_ms"])
    lateness = service.bench("--jobs", sizes.jobs, "--over", f"{sizes.over_s}s", "--burst", 1, "--agents", 100)
    return {
        "lateness_ms": lateness["lateness_ms"]["p50"],
        "fire": one["fire"],
        "provision": one["provision"],
        "new_provision": one["new_provision"],
        "bytes": {
            "one_shot": stored,
            "fire": statements.bytes_per_row(service.database, "fires"),
        },
        "point": points[POINTS // 2],
    }


def run(service, burst):
    command = [service.binary, "bench", "--dir", service.dev_dir, "--json", "--jobs", 1, "--over", "1s", "--burst", burst]
    bench = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    samples = []
    with service.database.session() as session:
        while bench.poll() is None:
            samples.append(sample(service, session, bench.pid))
            time.sleep(SAMPLE_S)
    text, errors = bench.communicate()
    if bench.returncode not in (0, 1):
        raise Failed(f"nas-cron bench failed with exit code {bench.returncode}:\n{errors.strip()}")
    return results(samples, burst, json.loads(text))


def sample(service, session, client_pid):
    counters = service.metrics()
    busy, idle = machine_s()
    return Sample(
        at_s=time.monotonic(),
        provisions=counters.get(PROVISIONS, 0),
        fires=counters.get(FIRES, 0),
        service_s=service.cpu_s(),
        database_s=service.database_cpu_s(),
        client_s=cpu_s(client_pid),
        wal_bytes=statements.wal_bytes(session),
        busy_s=busy,
        idle_s=idle,
    )


def results(samples, burst, report):
    """Splits a run into its phases, which follow each other: provisions, the burst, the same jobs armed again."""
    first, last = samples[0], samples[-1]
    provisions = lambda count: find(samples, lambda one: one.provisions - first.provisions >= count)
    fires = lambda count: find(samples, lambda one: one.fires - first.fires >= count)
    fired, done = fires(2), fires(1 + burst)
    # The claims begin before the first fire: everything since the last provision belongs to the fires.
    armed = find(samples, lambda one: one.provisions >= fired.provisions)
    again = find(samples, lambda one: one.provisions >= last.provisions)
    return {
        "new_provision": per_unit(provisions(2), provisions(1 + burst), "provisions"),
        "fire": per_unit(armed, done, "fires"),
        "provision": per_unit(done, again, "provisions"),
        "point": {
            "one_shots": burst,
            "cores": cores(fired, done),
            "lateness_p50_ms": report["burst_lateness_ms"]["p50"],
            "lateness_p99_ms": report["burst_lateness_ms"]["p99"],
            "fires_per_s": report["fires_per_s"],
            "durable_fires_per_s": report["durable_fires_per_s"],
        },
    }


def find(samples, condition):
    for one in samples:
        if condition(one):
            return one
    raise Failed("the run was too short to tell its phases apart: use a larger --burst")


def per_unit(start, end, unit):
    count = getattr(end, unit) - getattr(start, unit)
    if count <= 0:
        raise Failed(f"the run was too short to see its {unit}: use a larger --burst")
    each = lambda name, factor: round((getattr(end, name) - getattr(start, name)) / count * factor, 1)
    return {
        "service_cpu_us": each("service_s", 1e6),
        "database_cpu_us": each("database_s", 1e6),
        "client_cpu_us": each("client_s", 1e6),
        "wal_bytes": each("wal_bytes", 1),
    }


def cores(start, end):
    """The cores that this run had: those that it used, and those that were idle. The rest had other work."""
    took = end.at_s - start.at_s
    used = sum(getattr(end, name) - getattr(start, name) for name in ("service_s", "database_s", "client_s"))
    return round((used + end.idle_s - start.idle_s) / took, 2)
