"""Tests of what follows from the measurements: python3 -m unittest discover bench/scale"""

import unittest

import costs
import load
import loads
import options
import populated
import statements
import table
from processes import Failed

REPORT = {
    "burst_lateness_ms": {"p50": 500, "p99": 990},
    "fires_per_s": 4000,
    "durable_fires_per_s": 3900,
}


def sample(at_s, provisions, fires, service_s=0.0, database_s=0.0, wal_bytes=0.0, idle_s=0.0):
    return costs.Sample(at_s, provisions, fires, service_s, database_s, 0.0, wal_bytes, 0.0, idle_s)


# A check (one provision), 100 new ones, one fire with its provision, 100 fires with their provisions, 100 again.
RUN = [
    sample(0, 0, 0),
    sample(1, 1, 0),
    sample(2, 2, 0, service_s=1, database_s=1),
    sample(3, 101, 0, service_s=2, database_s=3, wal_bytes=99_000),
    sample(4, 102, 1, service_s=2, database_s=3, wal_bytes=99_000),
    sample(5, 202, 1, service_s=3, database_s=5, wal_bytes=199_000),
    # Claimed, not fired yet.
    sample(6, 202, 1, service_s=3.5, database_s=5.5, wal_bytes=199_500),
    sample(7, 202, 51, service_s=4, database_s=6, wal_bytes=200_000, idle_s=1),
    sample(8, 202, 101, service_s=5, database_s=7, wal_bytes=399_000, idle_s=1.5),
    sample(9, 302, 101, service_s=7, database_s=10, wal_bytes=459_000, idle_s=2),
    sample(10, 302, 101, service_s=8, database_s=11, wal_bytes=459_000, idle_s=2),
]


class Load(unittest.TestCase):
    def test_length_of_a_body_is_that_of_its_head(self):
        for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nage: 3", b"HTTP/1.1 200 OK\r\nage: 3\r\ncontent-length: 12"):
            self.assertEqual(load.length(head), 12)


class Costs(unittest.TestCase):
    def test_phases_of_a_run_are_separated(self):
        found = costs.results(RUN, 100, REPORT)
        fire, again, new = found["fire"], found["provision"], found["new_provision"]
        self.assertEqual((fire["service_cpu_us"], fire["database_cpu_us"], fire["wal_bytes"]), (20_000, 20_000, 2000))
        self.assertEqual((again["service_cpu_us"], again["database_cpu_us"], again["wal_bytes"]), (20_000, 30_000, 600))
        self.assertEqual((round(new["service_cpu_us"]), new["wal_bytes"]), (10_101, 1000))

    def test_cores_are_those_that_the_run_used_and_those_that_were_idle(self):
        # Two seconds of CPU and half a second of idleness in one second.
        self.assertEqual(costs.results(RUN, 100, REPORT)["point"]["cores"], 2.5)

    def test_run_that_is_too_short_is_reported_with_the_fix(self):
        with self.assertRaisesRegex(Failed, "larger --burst"):
            costs.results(RUN[:5], 100, REPORT)


class Results(unittest.TestCase):
    def test_rate_of_pgbench_is_that_without_the_connections(self):
        text = "latency average = 2 ms\ninitial connection time = 9 ms\ntps = 1234.5 (without initial connection time)\n"
        self.assertEqual(statements.tps(text), 1234.5)

    def test_growth_is_relative_to_pgbench_and_to_the_first_level(self):
        level = lambda burst, provision, p99: {
            "growth": {"per_pgbench": {"burst": burst, "provision": provision}, "bench": {"lateness_ms": {"p99": p99}}}
        }
        self.assertIsNone(populated.flatness([level(0.5, 0.4, 4), {"idle": {}}]))
        flat = populated.flatness([level(0.5, 0.4, 4), level(0.1, 0.1, 5), level(0.25, 0.3, 6)])
        self.assertEqual(flat, {"burst": 0.5, "provision": 0.75, "lateness_p99": 1.5})
        unknown = populated.flatness([level(None, 0.4, 4), level(None, 0.3, 6)])
        self.assertIsNone(unknown["burst"], "the metrics did not show it")

    def test_replicas_are_compared_with_one(self):
        self.assertEqual(loads.relative([2, 3, 1], lambda value: value), 1.5)
        self.assertIsNone(loads.relative([0, 3], lambda value: value))

    def test_first_fire_is_recognised_in_the_output_of_dev(self):
        self.assertRegex("09:00:01  dev-hosted  fired         1.4 ms  due 2026-11-30T09:00:01Z, verified", loads.FIRE)
        self.assertNotRegex("09:00:01  dev-hosted  MISSING             due 2026-11-30T09:00:01Z", loads.FIRE)

    def test_every_measure_has_rows_in_the_table(self):
        unpopulated = set(options.MEASURES) - set(options.POPULATED)
        self.assertEqual(set(table.ROWS), unpopulated | {"levels"})
        text = table.text({"dev": {"ready_s": 1.5, "first_fire_s": 2.25}, "levels": [{"armed": 1000, "one_shot_bytes": None}]})
        self.assertEqual(
            [" ".join(line.split()) for line in text.splitlines()],
            ["nas-cron dev from nothing to its first fire 2.25 s ≤ 3 s", "1,000 armed: bytes per one-shot unknown flat"],
        )


class Options(unittest.TestCase):
    def test_short_sizes_give_way_to_sizes_that_are_named(self):
        chosen = options.parse(["--short", "--burst", "777"])
        self.assertEqual((chosen.burst, chosen.jobs), (777, options.SHORT["jobs"]))
        self.assertEqual(options.parse([]).levels, [10_000, 100_000, 1_000_000, 10_000_000])


if __name__ == "__main__":
    unittest.main()
