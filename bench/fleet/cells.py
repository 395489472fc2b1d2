"""Cells: each has a primary of Postgres, replicas of nas-cron, and an equal share of the agents.

The unit of work is a fire and the provision of the job's next one-shot, which agents send as soon as they have accepted the
fire. A cell does them in order, at a constant rate: that of the scarcest of the database's CPU, the replicas' CPU, and the
attempts in flight.
"""

from collections import Counter
from dataclasses import dataclass

from fleet import DAY, HOUR


# Of an interval, to find a percentile to four digits.
HALVINGS = 32


@dataclass(frozen=True)
class Cell:
    """The size of a cell."""

    database_cores: float = 8
    replicas: int = 2
    replica_cores: float = 4
    # Share of the cores that is used at most, so that commits, vacuum and replication have room.
    usable: float = 0.7
    # Time until an agent has accepted a fire, in seconds, and attempts in flight per replica (NAS_CRON_IN_FLIGHT_MAX).
    response_s: float = 0.15
    in_flight: int = 1024

    def __post_init__(self):
        if min(self.database_cores, self.replicas, self.replica_cores, self.response_s, self.in_flight) <= 0:
            raise ValueError("cores, replicas, the response time and the attempts in flight must be more than 0")
        if not 0 < self.usable <= 1:
            raise ValueError(f"the usable share of the cores is {self.usable:g} and not between 0 and 1")


@dataclass(frozen=True)
class Rate:
    """Fires per second of a cell, each with a provision, and what limits them."""

    per_s: float
    limit: str


def rate(cell, costs):
    cpu = lambda part: (costs["fire"][part] + costs["provision"][part]) / 1e6
    limits = {
        "database CPU": cell.database_cores * cell.usable / cpu("database_cpu_us"),
        "replica CPU": cell.replicas * cell.replica_cores * cell.usable / cpu("service_cpu_us"),
        "attempts in flight": cell.replicas * cell.in_flight / cell.response_s,
    }
    limit = min(limits, key=limits.get)
    return Rate(limits[limit], limit)


@dataclass(frozen=True)
class Hour:
    """One hour of a cell's day. Lateness in seconds, of the fires that are due in the hour."""

    fires: float
    p50_s: float
    p99_s: float
    max_s: float
    # Shares of the database's CPU, and bytes of its log.
    database: float
    database_busiest_minute: float
    wal_bytes: float


@dataclass(frozen=True)
class Day:
    """The day of a cell."""

    hours: list
    # Lateness of all fires of the day, in seconds.
    p50_s: float
    p99_s: float


def day(due, cells, cell, costs):
    """Returns the day of one of `cells` equal cells. Fails if the fleet has more fires than the cells can make in a day."""
    per_s = rate(cell, costs).per_s
    if sum(due) / cells > per_s * DAY:
        raise ValueError(
            f"{cells} cell(s) make {cells * per_s * DAY:,.0f} fires a day, and the fleet has {sum(due):,.0f}: use more cells"
        )
    floor = costs["lateness_ms"] / 1e3
    backlog, done, waits = 0.0, [], []
    # A second day: the first one begins with the backlog of its evening.
    for second in range(2 * DAY):
        arrived = due[second % DAY] / cells
        if second >= DAY:
            waits.append((arrived, floor + backlog / per_s, floor + (backlog + arrived) / per_s))
        worked = min(backlog + arrived, per_s)
        backlog += arrived - worked
        if second >= DAY:
            done.append(worked)
    hours = [hour(waits[start : start + HOUR], done[start : start + HOUR], cell, costs) for start in range(0, DAY, HOUR)]
    return Day(hours, percentile(waits, 0.5), percentile(waits, 0.99))


def hour(waits, done, cell, costs):
    cpu_s = (costs["fire"]["database_cpu_us"] + costs["provision"]["database_cpu_us"]) / 1e6
    share = lambda fires, seconds: fires * cpu_s / (cell.database_cores * seconds)
    minutes = [sum(done[start : start + 60]) for start in range(0, HOUR, 60)]
    return Hour(
        fires=sum(arrived for arrived, _, _ in waits),
        p50_s=percentile(waits, 0.5),
        p99_s=percentile(waits, 0.99),
        max_s=max((last for arrived, _, last in waits if arrived), default=0),
        database=share(sum(done), HOUR),
        database_busiest_minute=share(max(minutes), 60),
        wal_bytes=sum(done) * (costs["fire"]["wal_bytes"] + costs["provision"]["wal_bytes"]),
    )


def percentile(waits, part):
    """Returns the time within which this part of the fires is sent. Those of one second are spread from first to last."""
    # Most seconds are alike: those without a backlog.
    alike = Counter()
    for arrived, first, last in waits:
        if arrived:
            alike[first, last] += arrived
    low, high = 0.0, max((last for _, last in alike), default=0)
    wanted = part * alike.total()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        within = 0.0
        for (first, last), arrived in alike.items():
            if last <= middle:
                within += arrived
            elif first < middle:
                within += arrived * (middle - first) / (last - first)
        low, high = (middle, high) if within < wanted else (low, middle)
    return high
