"""Compares nas-cron with other schedulers on this machine: `make bench-peers`. See bench/README.md."""

import json
import signal
import sys
from datetime import datetime, timezone

import calibration
import campaign
import options
import plots
import preflight
import render
from processes import Failed
from systems import SYSTEMS
from tools import Tools

PAGE = options.ROOT / "docs/performance.md"
PUBLISHED = options.ROOT / "docs/performance"
ENDED_BY_SIGNAL = 130


def main():
    chosen = options.parse()
    # All processes are stopped then. A shell may have set SIGINT to be ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    try:
        results = read(chosen.results) if chosen.results else measure(chosen)
        if chosen.check:
            return check(results)
        if chosen.publish:
            publish(results)
        print(render.terminal(results))
        return 0
    except Failed as failed:
        print(f"bench-peers: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return ENDED_BY_SIGNAL


def measure(chosen):
    tools = Tools(chosen)
    for warning in preflight.check(chosen, [SYSTEMS[name] for name in chosen.systems], tools):
        warn(warning)
    path = chosen.dir / f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}.json"
    results = campaign.run(chosen, tools, lambda so_far: write(so_far, path))
    for limits in results["calibration"]:
        for warning in calibration.warnings(limits):
            warn(warning)
    plots.write(results, path.with_suffix(""))
    print(f"bench-peers: results in {path}, plots in {path.with_suffix('')}/", file=sys.stderr)
    return results


def warn(warning):
    print(f"bench-peers: warning: {warning}", file=sys.stderr)


def read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failed(f"--results {path} could not be read: {error}") from None


def write(results, path):
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def publish(results):
    """Replaces everything in the documentation that a run has measured."""
    PAGE.write_text(render.page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    plots.write(results, PUBLISHED)
    write(results, PUBLISHED / "peers.json")


def check(results):
    text = PAGE.read_text(encoding="utf-8")
    if render.page(text, results) == text:
        return 0
    print(f"{PAGE} differs from its results: run bench/peers with --publish", file=sys.stderr)
    return 1


sys.exit(main())
