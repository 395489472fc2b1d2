"""A run of nas-cron: `nas-cron bench` against `nas-cron dev`, which brings its own Postgres."""

import json
import time

from options import IN_FLIGHT
from processes import PROMPT_S, Child, Failed, output

# A bench run without its waiting for due times.
BENCH_S = 600
POLL_S = 0.1


def run(_system, load, tools, folder):
    """Returns the results of one run."""
    dev = folder / "dev"
    command = [tools.nas_cron, "dev", "--no-demo", "--listen", "127.0.0.1:0", "--dir", dev]
    with Child("nas-cron dev", command, folder / "nas-cron.log", reads_stdin=False) as service:
        await_start(service, dev / "dev.json")
        size = ["--jobs", load.jobs, "--over", f"{round(load.over_s * 1000)}ms"]
        size += ["--burst", load.burst, "--agents", load.agents, "--provision-concurrency", IN_FLIGHT]
        text = output("nas-cron bench", [tools.nas_cron, "bench", "--dir", dev, *size, "--json"], BENCH_S + load.over_s)
    return results(json.loads(text))


def await_start(service, dev_json):
    deadline = time.monotonic() + PROMPT_S
    while not dev_json.exists():
        if not service.is_running():
            raise service.failed("ended unexpectedly")
        if time.monotonic() > deadline:
            raise service.failed(f"did not start within {PROMPT_S} s")
        time.sleep(POLL_S)


def results(report):
    """Translates the report of `nas-cron bench`."""
    if report["lost"]:
        raise Failed(f"nas-cron lost {report['lost']} fires")
    return {
        "lateness_p50_ms": report["lateness_ms"]["p50"],
        "lateness_p99_ms": report["lateness_ms"]["p99"],
        "lateness_max_ms": report["lateness_ms"]["max"],
        "burst_arrived_per_s": report["fires_per_s"],
        "burst_done_per_s": report["durable_fires_per_s"],
        "armed_per_s": report["provisions_per_s"],
        "arming_p99_ms": report["provision_ms"]["p99"],
        "early": report["early"],
        "duplicates": report["duplicates"],
    }
