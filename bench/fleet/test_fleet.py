"""Tests of the model: python3 -m unittest discover bench/fleet"""

import json
import unittest
import xml.etree.ElementTree
from pathlib import Path

import page
import plot
from cells import Cell, day, percentile, rate
from check import checked, is_within_tolerance
from fleet import DAY, HOUR, Fleet

MEASURED = Path(__file__).resolve().parent / "measured.json"

# A cell makes 1,000 fires per second: its database has 1 ms of CPU for each and one usable core.
COSTS = {
    "lateness_ms": 2,
    "fire": {"database_cpu_us": 400, "service_cpu_us": 100, "client_cpu_us": 500, "wal_bytes": 1000},
    "provision": {"database_cpu_us": 600, "service_cpu_us": 100, "client_cpu_us": 0, "wal_bytes": 500},
    "point": {"one_shots": 4000, "cores": 2, "lateness_p50_ms": 1000, "lateness_p99_ms": 1980},
}
CELL = Cell(database_cores=2, usable=0.5, replicas=1, replica_cores=4, response_s=0.1, in_flight=1000)


def at(spikes):
    due = [0.0] * DAY
    for second, count in spikes.items():
        due[second] = count
    return due


class Schedule(unittest.TestCase):
    def test_every_agent_is_due_as_often_as_its_schedule_says(self):
        fleet = Fleet(agents=1_000_000, morning=0.5, hourly=0.2, half_hourly=0.1)
        due = fleet.due()
        self.assertAlmostEqual(sum(due), 1_000_000 * (0.5 + 0.2 * 24 + 0.1 * 48 + 0.2), delta=1)
        rest = 200_000 / DAY
        self.assertAlmostEqual(due[HOUR // 2] - rest, 100_000, delta=1, msg="00:30")
        # 09:00 at UTC+1.
        self.assertAlmostEqual(due[8 * HOUR] - rest, 300_000 + 500_000 * fleet.time_zones[1], delta=1)

    def test_spread_keeps_the_number_and_lowers_the_peak(self):
        together, spread = Fleet(agents=1000).due(), Fleet(agents=1000, spread_s=60).due()
        self.assertAlmostEqual(sum(together), sum(spread), delta=0.01)
        self.assertGreater(max(together), 40 * max(spread))

    def test_impossible_fleets_are_rejected(self):
        for wrong in ({"morning": 0.9, "hourly": 0.2}, {"morning": -0.1}, {"spread_s": 0}, {"agents": 0}, {"time_zones": {0: 0.5}}):
            with self.assertRaises(ValueError, msg=wrong):
                Fleet(**wrong)


class Queue(unittest.TestCase):
    def test_rate_is_that_of_the_scarcest_resource(self):
        self.assertEqual(rate(CELL, COSTS).limit, "database CPU")
        self.assertAlmostEqual(rate(CELL, COSTS).per_s, 1000)
        slow_agents = Cell(database_cores=2, usable=0.5, replicas=2, response_s=4, in_flight=1000)
        self.assertEqual((rate(slow_agents, COSTS).per_s, rate(slow_agents, COSTS).limit), (500, "attempts in flight"))

    def test_spike_is_worked_off_at_the_rate(self):
        found = day(at({HOUR: 60_000}), 1, CELL, COSTS)
        self.assertAlmostEqual(found.hours[1].max_s, 60.002, places=3)
        self.assertAlmostEqual(found.p50_s, 30.002, places=2)
        self.assertAlmostEqual(found.hours[1].database_busiest_minute, 0.5, places=3, msg="one of two cores")
        self.assertAlmostEqual(found.hours[1].wal_bytes, 60_000 * 1500, delta=1)
        self.assertEqual(found.hours[2].fires, 0)

    def test_cells_share_a_spike(self):
        due = at({HOUR: 60_000})
        self.assertAlmostEqual(day(due, 4, CELL, COSTS).p99_s - 0.002, (day(due, 1, CELL, COSTS).p99_s - 0.002) / 4, places=3)

    def test_backlog_delays_what_is_due_after_it_even_over_midnight(self):
        found = day(at({DAY - 1: 11_000, 5: 100}), 1, CELL, COSTS)
        self.assertAlmostEqual(found.hours[0].max_s, 5.102, places=2)

    def test_fleet_that_never_gets_done_is_rejected(self):
        with self.assertRaisesRegex(ValueError, "use more cells"):
            day([2000.0] * DAY, 1, CELL, COSTS)
        day([2000.0] * DAY, 2, CELL, COSTS)

    def test_percentile_is_over_fires_and_not_over_seconds(self):
        waits = [(1.0, 0.0, 1.0)] * 10 + [(90.0, 0.0, 10.0)]
        self.assertAlmostEqual(percentile(waits, 1.0), 10, places=3)
        self.assertAlmostEqual(percentile(waits, 0.5), 4.444, places=2)


class Check(unittest.TestCase):
    def test_burst_is_explained_by_the_costs_of_a_fire(self):
        self.assertEqual(checked(COSTS), {"per_s": 2000, "p50_s": 1.0, "p99_s": 1.98})
        self.assertTrue(is_within_tolerance(COSTS))
        other = COSTS | {"point": COSTS["point"] | {"lateness_p99_ms": 4000}}
        self.assertFalse(is_within_tolerance(other))

    def test_model_explains_the_published_point(self):
        costs = json.loads(MEASURED.read_text(encoding="utf-8"))
        self.assertTrue(is_within_tolerance(costs), f"{checked(costs)} is not {costs['point']}")


class Page(unittest.TestCase):
    def test_durations_have_a_unit_that_fits(self):
        shown = [plot.duration(value) for value in (0.0021, 0.5, 30, 90, 7200)]
        self.assertEqual(shown, ["2.1 ms", "500 ms", "30 s", "1.5 min", "2 h"])

    def test_plot_has_a_line_per_number_of_cells(self):
        days = {cells: day(at({HOUR: 6000}), cells, CELL, COSTS) for cells in (1, 2)}
        root = xml.etree.ElementTree.fromstring(plot.svg(days))
        self.assertEqual(len(root.findall("{http://www.w3.org/2000/svg}polyline")), 4, "two panels")

    def test_page_without_a_part_is_rejected(self):
        with self.assertRaisesRegex(ValueError, "'costs'|'spread'"):
            page.render("no parts")


if __name__ == "__main__":
    unittest.main()
