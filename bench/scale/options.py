"""The options of a run."""

import argparse
import os
import sys
from pathlib import Path

from processes import Failed

ROOT = Path(__file__).resolve().parents[2]

MEASURES = {
    "costs": "CPU and log of a fire and of a provision, for bench/fleet",
    "herd": "a burst with hanging agents; memory",
    "replicas": "the same load with 1, 2 and 4 replicas",
    "jwks": "public keys fetched while fires are under way",
    "start": "start with many armed one-shots",
    "idle": "statements, CPU and memory with many armed one-shots",
    "growth": "rates, lists and history at growing sizes",
    "dev": "nas-cron dev from nothing to its first fire",
}
POPULATED = ("start", "idle", "growth")

FULL = {
    "jobs": 2000, "over_s": 20, "burst": 5000, "herd": 100_000, "herd_agents": 1000, "replicas": [1, 2, 4],
    "jwks_per_s": 2000, "levels": [10_000, 100_000, 1_000_000, 10_000_000], "idle_s": 120, "pgbench_s": 15,
    "supersedes": 5_000_000,
}  # fmt: skip
SHORT = {
    "jobs": 100, "over_s": 3, "burst": 2000, "herd": 1000, "herd_agents": 100, "replicas": [1, 2],
    "jwks_per_s": 200, "levels": [1000, 10_000], "idle_s": 10, "pgbench_s": 2, "supersedes": 2000,
}  # fmt: skip

EXAMPLES = """
Examples:
  make bench-scale                                        everything, about an hour and 25 GB; writes target/bench-scale/
  make bench-scale BENCH="--short"                        everything in small, about 5 min, to check that it runs
  make bench-scale BENCH="--only herd --herd 20000"
  make bench-scale BENCH="--only growth,idle --levels 10000,1000000"
  make bench-scale BENCH="--only costs --publish"         the costs that docs/scaling.md is made of
  make bench-scale BENCH="--only herd,growth --publish"   these results of docs/performance.md
  python3 bench/scale --results target/bench-scale/DATE.json --only idle --publish    those of a former run
"""


def number(low, high):
    def parse(text):
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return parse


def numbers(low, high):
    def parse(text):
        values = [number(low, high)(part) for part in text.split(",")]
        if values != sorted(set(values)):
            raise argparse.ArgumentTypeError(f"{text} is not in ascending order")
        return values

    return parse


def measures(text):
    for name in text.split(","):
        if name not in MEASURES:
            raise argparse.ArgumentTypeError(f"unknown measure {name!r}; known: {', '.join(MEASURES)}")
    return text.split(",")


def programs(given):
    """The folder of psql and pgbench: the one that is given, or the server's, or the first in PATH."""
    servers = os.environ.get("NAS_CRON_POSTGRES_BIN")
    folders = [given] if given else [servers, *os.environ.get("PATH", "").split(os.pathsep)]
    for folder in map(Path, filter(None, folders)):
        if all((folder / program).exists() for program in ("psql", "pgbench")):
            return folder
    where = given or "PATH"
    raise Failed(f"no psql and pgbench in {where}: install Postgres's clients, or name their folder with --programs")


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="bench/scale",
        description="Measure how nas-cron behaves at scale on this machine.",
        epilog="Measures:\n" + "".join(f"  {name:<10}{text}\n" for name, text in MEASURES.items()) + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # The command of a run is published: --short must be seen in it.
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--only", type=measures, default=list(MEASURES), metavar="MEASURES", help="measures, separated by commas [all]")
    add("--short", action="store_true", help="small sizes unless given; their figures mean nothing")
    add("--jobs", type=number(1, 10**6), help="one-shots whose lateness is measured [2000]")
    add("--over-s", type=number(1, 3600), help="seconds over which they are spread [20]")
    add("--burst", type=number(32, 10**6), help="one-shots at one instant [5000]")
    add("--herd", type=number(100, 10**6), help="one-shots at one instant, 1 %% of whose agents hang for 30 s [100000]")
    add("--herd-agents", type=number(100, 10_000), help="agents of the herd [1000]")
    add("--replicas", type=numbers(1, 4), help="numbers of replicas [1,2,4]")
    add("--jwks-per-s", type=number(1, 10_000), help="requests of the JWKS per second [2000]")
    add("--levels", type=numbers(1000, 10**8), help="armed one-shots and rows of history [10000,100000,1000000,10000000]")
    add("--supersedes", type=number(0, 10**9), help="supersedes at the last level, to measure bloat [5000000]")
    add("--idle-s", type=number(1, 86_400), help="seconds of the idle measure [120]")
    add("--pgbench-s", type=number(1, 3600), help="seconds of each comparison with pgbench [15]")
    add("--dir", type=Path, default=ROOT / "target/bench-scale", help="folder of data and results, on a disk")
    add("--binary", type=Path, default=ROOT / "target/release/nas-cron", help="release build of nas-cron")
    add("--programs", type=Path, help="folder of psql and pgbench [that of pgbench in PATH]")
    add("--json", action="store_true", help="print the results as JSON")
    add("--publish", action="store_true", help="replace these results in docs/performance.md, and the costs of bench/fleet")
    add("--results", type=Path, metavar="FILE", help="use these results instead of a run")
    add("--draw", action="store_true", help="draw docs/performance.md and its plot again; with no other options")
    add("--check", action="store_true", help="fail if docs/performance.md or its plot differ from what --draw would write")
    parser.set_defaults(**FULL)
    options = parser.parse_args(arguments)
    if options.short:
        parser.set_defaults(**SHORT)
        options = parser.parse_args(arguments)
        if options.publish:
            parser.error("--short and --publish exclude each other: the figures of a short run mean nothing")
    if options.publish and not options.results and "growth" in options.only and len(options.levels) < 2:
        parser.error("--publish needs two or more --levels: growth of one size shows nothing")
    others = set(sys.argv[1:] if arguments is None else arguments) - {"--draw", "--check"}
    if (options.draw or options.check) and others:
        parser.error(f"--draw and --check are for what is published: leave out {', '.join(sorted(others))}")
    if options.herd < options.herd_agents:
        parser.error(f"--herd {options.herd} is less than --herd-agents {options.herd_agents}: each agent needs a one-shot")
    options.dir, options.binary = options.dir.resolve(), options.binary.resolve()
    return options
