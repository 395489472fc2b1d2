"""The options of a run."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from systems import OURS, SYSTEMS

ROOT = Path(__file__).resolve().parents[2]

# Concurrent calls that arm, as in `nas-cron bench`.
IN_FLIGHT = 32

EXAMPLES = """
Examples:
  make bench-peers                              three rounds, about 20 min; writes target/bench-peers/
  make bench-peers BENCH="--publish"            the same, and replaces the results in docs/performance.md
  make bench-peers BENCH="--short"              one short round, to check that everything runs
  make bench-peers BENCH="--rounds 1 --systems nas-cron,bullmq"
  target/bench-peers-venv/bin/python bench/peers --results docs/performance/peers.json --publish
"""


@dataclass(frozen=True)
class Load:
    """The size of each measurement."""

    jobs: int
    over_s: float
    burst: int
    agents: int

    @property
    def armed(self):
        """The number of one-shots whose arming is measured, as in `nas-cron bench`."""
        return max(self.jobs, self.burst)


FULL = {"rounds": 3, "jobs": 2000, "over": 20, "burst": 5000, "agents": 100}
SHORT = {"rounds": 1, "jobs": 100, "over": 2, "burst": 200, "agents": 10}


def count(text):
    number = int(text)
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and 1000000")
    return number


def seconds(text):
    number = float(text.removesuffix("s"))
    if not 0.1 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 s and 3600 s")
    return number


def systems(text):
    names = text.split(",")
    for name in names:
        if name not in SYSTEMS:
            raise argparse.ArgumentTypeError(f"unknown system {name!r}; known: {', '.join(SYSTEMS)}")
    return list(dict.fromkeys(names))


def parse(arguments=None):
    """Parses the command line. Adds `load`."""
    parser = argparse.ArgumentParser(
        prog="bench/peers",
        description="Compare nas-cron with other schedulers on this machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=count, help="number of rounds, each of which runs every system once [3]")
    add("--jobs", type=count, help="one-shots whose lateness is measured [2000]")
    add("--over", type=seconds, help="period over which they are spread, in seconds [20]")
    add("--burst", type=count, help="one-shots that are due at one instant [5000]")
    add("--agents", type=count, help="agents that share the one-shots [100]")
    add("--systems", type=systems, default=list(SYSTEMS), help=f"systems, separated by commas [{','.join(SYSTEMS)}]")
    add("--short", action="store_true", help="one round, and a small load unless given; its figures mean nothing")
    add("--dir", type=Path, default=ROOT / "target/bench-peers", help="folder of data and results, on a disk")
    add("--binary", type=Path, default=ROOT / "target/release/nas-cron", help="release build of nas-cron, beside its bench helper")
    add("--publish", action="store_true", help="replace the results in docs/performance.md and docs/performance/")
    add("--results", type=Path, metavar="FILE", help="use these results instead of a run")
    add("--check", action="store_true", help="check that docs/performance.md is what --results produces")
    parser.set_defaults(**FULL)
    options = parser.parse_args(arguments)
    if options.short:
        parser.set_defaults(**SHORT)
        options = parser.parse_args(arguments)
    if options.check and not options.results:
        parser.error("--check needs --results")
    if options.short and options.publish:
        parser.error("--short and --publish exclude each other: the figures of a short run mean nothing")
    if options.publish and OURS not in options.systems:
        parser.error(f"--publish needs {OURS} among the systems")
    options.dir = options.dir.resolve()
    options.load = Load(options.jobs, options.over, options.burst, options.agents)
    return options
