"""Medians, ranges and ratios of the rounds."""

from dataclasses import dataclass
from statistics import median

from systems import OURS


@dataclass(frozen=True)
class Metric:
    """A figure of a run."""

    key: str
    title: str
    # True if a larger value is better.
    is_rate: bool


METRICS = [
    Metric("lateness_p50_ms", "lateness p50, ms", False),
    Metric("lateness_p99_ms", "lateness p99, ms", False),
    Metric("lateness_max_ms", "lateness max, ms", False),
    Metric("burst_arrived_per_s", "burst to the last arrival, /s", True),
    Metric("burst_done_per_s", "burst to the last outcome, /s", True),
    Metric("armed_per_s", "armed, /s", True),
    Metric("arming_p99_ms", "arming p99, ms", False),
]

# The metrics whose ratios are reported.
COMPARED = ["lateness_p99_ms", "burst_arrived_per_s", "burst_done_per_s", "armed_per_s"]

LIMITS = {
    "pgbench_upserts": "upserts by pgbench, 32 clients, prepared",
    "fdatasyncs": "`fdatasync` after a write of 8 KiB, one at a time",
    "raw_posts": "POST to the sink without an HTTP library, 32 connections",
    "es256_signs": "ES256 signatures of one core, ring",
    "node_es256_tokens": "ES256 tokens of one core, Node.js",
    "node_fires": "POST with an ES256 token from one Node.js process without a scheduler, 50 connections",
}


@dataclass(frozen=True)
class Range:
    """The median of the rounds, and the range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values):
        """Of values that are not None; None if there is none."""
        known = [value for value in values if value is not None]
        return cls(median(known), min(known), max(known)) if known else None


def systems(results):
    return list(results["systems"])


def of(results, system, key):
    """The range of a metric over all rounds of a system."""
    return Range.of(run[key] for run in results["runs"] if run["system"] == system)


def total(results, system, key):
    return sum(run[key] for run in results["runs"] if run["system"] == system)


def ratio(results, system, key):
    """The range of ours divided by the peer's, each pair of one round."""
    by_round = {(run["round"], run["system"]): run[key] for run in results["runs"]}
    rounds = sorted({number for number, _ in by_round})
    pairs = [(by_round.get((number, OURS)), by_round.get((number, system))) for number in rounds]
    return Range.of(one / other for one, other in pairs if one is not None and other)


def limit(results, key):
    return Range.of(limits.get(key) for limits in results["calibration"])


def to_limit(results, key, limit_key):
    """The range of a metric of ours divided by a limit of the machine, each pair of one round."""
    ours = {run["round"]: run[key] for run in results["runs"] if run["system"] == OURS}
    limits = {number + 1: limits[limit_key] for number, limits in enumerate(results["calibration"])}
    return Range.of(value / limits[number] for number, value in ours.items() if value is not None)


def number(value):
    """Two or three significant digits, with separators of thousands."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def text(found):
    if found is None:
        return "–"
    if found.low == found.high:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}–{number(found.high)})"


def brief(measured):
    """One line about a run."""
    lateness = "/".join(number(measured[f"lateness_{which}_ms"]) for which in ("p50", "p99", "max"))
    done = measured["burst_done_per_s"]
    burst = f"{number(measured['burst_arrived_per_s'])}/s" + (f", {number(done)}/s to the last outcome" if done else "")
    return f"lateness p50/p99/max {lateness} ms; burst {burst}; armed {number(measured['armed_per_s'])}/s"
