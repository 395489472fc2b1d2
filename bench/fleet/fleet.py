"""A fleet of agents: how many of their one-shots are due in each second of a day (UTC)."""

from array import array
from dataclasses import dataclass, field

HOUR = 3600
DAY = 24 * HOUR

# Shares of the agents by the UTC offset of their users, in hours: an assumption, as are the shares below.
TIME_ZONES = {
    -8: 0.12, -7: 0.04, -6: 0.08, -5: 0.18, -3: 0.06, 0: 0.07, 1: 0.15, 2: 0.06, 3: 0.05, 5.5: 0.09, 8: 0.06, 9: 0.03,
    10: 0.01,
}  # fmt: skip


@dataclass(frozen=True)
class Fleet:
    """Each agent has one recurring job. Shares are of the agents; the rest has a job a day at any second."""

    agents: int = 10_000_000
    # At 09:00 of the user's time zone, daily.
    morning: float = 0.45
    # At every full hour.
    hourly: float = 0.10
    # At :00 and :30.
    half_hourly: float = 0.05
    # Period over which the agents of one instant spread their one-shots, in seconds. 1: all are due in the same second.
    spread_s: int = 1
    time_zones: dict = field(default_factory=lambda: TIME_ZONES)

    def __post_init__(self):
        shares = (self.morning, self.hourly, self.half_hourly)
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ValueError(f"the shares of schedules {shares} are not between 0 and 1, or more than 1 in sum")
        if abs(sum(self.time_zones.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of time zones add up to {sum(self.time_zones.values()):g} and not to 1")
        if self.agents < 1 or not 1 <= self.spread_s <= HOUR // 2:
            raise ValueError("agents must be at least 1, and the spread 1 s to 30 min")

    def due(self):
        """Returns the number of one-shots that are due in each second of the day."""
        rest = self.agents * (1 - self.morning - self.hourly - self.half_hourly)
        due = array("d", [rest / DAY]) * DAY
        for hour in range(24):
            self._add(due, hour * HOUR, self.agents * (self.hourly + self.half_hourly))
            self._add(due, hour * HOUR + HOUR // 2, self.agents * self.half_hourly)
        for offset, share in self.time_zones.items():
            self._add(due, round((9 - offset) * HOUR), self.agents * self.morning * share)
        return due

    def _add(self, due, start, count):
        for second in range(start, start + self.spread_s):
            due[second % DAY] += count / self.spread_s
