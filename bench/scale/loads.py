"""Measures of an empty service under a load: a herd, several replicas, the JWKS beside fires, and the first fire of `dev`."""

import json
import re
import sys
import threading
import time
from pathlib import Path

import costs
import statements
from processes import Child, Failed, output
from service import until

LOAD = Path(__file__).resolve().parent / "load.py"
RSS_EVERY_S = 0.2
# Of the fires alone and beside fetches.
ROUNDS = 3
# The line of a verified fire: `TIME  AGENT  fired  LATENESS ms  due …`.
FIRE = re.compile(r"\bfired\s+\S+ ms\b")


class Peak:
    """The largest value during a block."""

    def __init__(self, value):
        self.value, self.peak, self.ended = value, 0, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def _follow(self):
        while not self.ended.wait(RSS_EVERY_S):
            self.peak = max(self.peak, self.value())


def herd(service, sizes):
    """Many one-shots at one instant, a part of whose agents hangs. The same burst as elsewhere is measured for comparison."""
    burst = service.bench("--jobs", 32, "--over", "1s", "--burst", sizes.burst)
    with Peak(service.rss_bytes) as rss:
        arguments = ["--jobs", 32, "--over", "1s", "--burst", sizes.herd, "--agents", sizes.herd_agents]
        found = service.bench(*arguments, "--slow-agents", "1%")
    ratio = lambda key: found[key] and burst[key] and round(found[key] / burst[key], 3)
    return {
        "burst": burst,
        "herd": found,
        "durable_relative_to_burst": ratio("durable_fires_per_s"),
        "arrived_relative_to_burst": ratio("fires_per_s"),
        "slowest_agent": found["slowest_agent"],
        "rss_mb": round(rss.peak / 1e6, 1),
    }


def replicas(service, sizes):
    """The same load with more and more replicas on one database."""
    rows = []
    for count in sizes.replicas:
        while len(service.replicas) + 1 < count:
            service.add_replica()
        statements.reset(service.database)
        found = service.bench("--jobs", sizes.jobs, "--over", f"{sizes.over_s}s", "--burst", sizes.burst)
        fires = sizes.jobs + sizes.burst
        made = statements.calls(service.database)
        rows.append({"replicas": count, "statements_per_fire": round(made / fires, 3), "bench": found})
    return {
        "rows": rows,
        "p99_relative_to_one": relative(rows, lambda row: row["bench"]["lateness_ms"]["p99"]),
        "statements_relative_to_one": relative(rows, lambda row: row["statements_per_fire"]),
        "early": sum(row["bench"]["early"] for row in rows),
        "duplicates": sum(row["bench"]["duplicates"] for row in rows),
    }


def relative(rows, value):
    """The largest value, relative to that of the first row."""
    first = value(rows[0])
    return round(max(map(value, rows)) / first, 3) if first else None


def jwks(service, sizes):
    """Evenly spread fires, alone and while the public keys are fetched, in alternating rounds: one p99 is too noisy."""
    rounds = []
    for number in range(ROUNDS):
        # Each comes first in turn.
        order = (evenly, beside_fetches) if number % 2 == 0 else (beside_fetches, evenly)
        found = {measure.__name__: measure(service, sizes) for measure in order}
        beside = found["beside_fetches"]
        ratio = beside["fires"]["p99"] / found["evenly"]["p99"]
        rounds.append({**beside, "fires_alone": found["evenly"], "p99_relative": round(ratio, 3)})
    middle = lambda value: sorted(map(value, rounds))[ROUNDS // 2]
    return {
        "per_s": middle(lambda one: one["jwks"]["per_s"]),
        "p99_ms": middle(lambda one: one["jwks"]["p99_ms"]),
        "failed": sum(one["jwks"]["failed"] for one in rounds),
        "p99_relative": middle(lambda one: one["p99_relative"]),
        "rounds": rounds,
    }


def evenly(service, sizes):
    """The lateness of evenly spread fires."""
    arguments = ["--jobs", sizes.burst, "--over", f"{sizes.over_s}s", "--burst", 1, "--agents", 100]
    return service.bench(*arguments)["lateness_ms"]


def beside_fetches(service, sizes):
    """The same while the public keys are fetched, from the first fire on."""
    loads, ended = [], threading.Event()

    def fetch():
        before = service.metrics().get(costs.FIRES, 0)
        while service.metrics().get(costs.FIRES, 0) == before:
            if ended.wait(0.05):
                return
        command = [sys.executable, LOAD, service.dev["jwks_url"], sizes.jwks_per_s, sizes.over_s]
        loads.append(json.loads(output("the load of the JWKS", command, sizes.over_s + 120)))

    thread = threading.Thread(target=fetch)
    thread.start()
    try:
        fires = evenly(service, sizes)
    finally:
        ended.set()
        thread.join()
    if not loads:
        raise Failed("no fire was seen, so the JWKS was not fetched")
    return {"jwks": loads[0], "fires": fires}


def dev(options, folder):
    """`nas-cron dev` from nothing to its first verified fire, in seconds."""
    log = folder / "dev.log"
    began = time.monotonic()
    command = [options.binary, "dev", "--listen", "127.0.0.1:0", "--dir", folder / "dev", "--fires", 1]
    with Child("nas-cron dev", command, log) as child:
        until(lambda: (folder / "dev/dev.json").exists(), 120, child)
        served = time.monotonic() - began
        until(lambda: FIRE.search(log.read_text(errors="replace")), 120, child)
        fired = time.monotonic() - began
        child.process.wait(120)
    return {"ready_s": round(served, 3), "first_fire_s": round(fired, 3)}
