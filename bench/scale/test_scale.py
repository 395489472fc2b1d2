"""Tests of what follows from the measurements: python3 -m unittest discover bench/scale"""

import contextlib
import io
import json
import shutil
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

import costs
import load
import loads
import options
import page
import pages
import plot
import publish
import results
import statements
import tables
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

    def test_growth_is_relative_to_pgbench_and_to_the_smallest_size(self):
        found = {"10000": grown(0.25, 0.3, 6), "100": grown(0.5, 0.4, 4), "1000": grown(None, 0.1, 5)}
        self.assertEqual(tables.relative(tables.burst, found), {"10000": 0.5, "100": 1, "1000": None})
        self.assertEqual(tables.relative(tables.lateness, found)["10000"], 1.5)
        unknown = {"100": grown(None, 0.4, 4), "1000": grown(0.1, 0.3, 6)}
        self.assertEqual(tables.relative(tables.burst, unknown), {"100": None, "1000": None}, "the metrics did not show it")

    def test_replicas_are_compared_with_one(self):
        self.assertEqual(loads.relative([2, 3, 1], lambda value: value), 1.5)
        self.assertIsNone(loads.relative([0, 3], lambda value: value))

    def test_first_fire_is_recognised_in_the_output_of_dev(self):
        self.assertRegex("09:00:01  dev-hosted  fired         1.4 ms  due 2026-11-30T09:00:01Z, verified", loads.FIRE)
        self.assertNotRegex("09:00:01  dev-hosted  MISSING             due 2026-11-30T09:00:01Z", loads.FIRE)

    def test_every_measure_has_rows_in_the_tables(self):
        shown = {"costs", *tables.LOADS, *(row.measure for row in tables.ROWS)}
        self.assertEqual(shown, set(options.MEASURES))

    def test_sizes_are_columns_in_the_terminal(self):
        found = {"dev": {"first_fire_s": 2.25}, "start": {"1000": {"ready_s": 0.5}, "200": {"ready_s": None}}}
        self.assertEqual(
            [" ".join(line.split()) for line in tables.terminal(found).splitlines()],
            [
                "measure value aim",
                "nas-cron dev in an empty folder",
                "to the first verified fire 2.25 s ≤ 3 s",
                "",
                "armed one-shots 200 1,000 aim",
                "start of a replica unknown 0.50 s ≤ 1 s",
            ],
        )


def grown(burst, provision, p99, **more):
    return {
        "pgbench_upserts_per_s": 20_000,
        "bench": {"lateness_ms": {"p99": p99}, "durable_fires_per_s": 7000, "provisions_per_s": 8000},
        "per_pgbench": {"burst": burst, "provision": provision},
        "list_ms": {"p99": 1.5},
        "metrics_ms": {"p99": 0.7},
        "jobs_list_overdue_s": 0.1,
        "jobs_list_dead_s": 0.2,
        "drop_history_s": 0.3,
        **more,
    }


def about(date, command="make bench-scale"):
    return {"date": date, "command": command, "machine": "2 cores", "nas_cron": "0.1.0", "postgres": "15.18"}


def level(armed, **measures):
    return {"armed": armed, "one_shot_bytes": 480, "history_row_bytes": 300, **measures}


def run_of(date, command="make bench-scale", **measures):
    return {"about": about(date, command), "measures": measures}


IDLE = {"statements_per_s": 0.9, "service_cpu_percent": 0.1, "database_cpu_percent": 0.2, "rss_mb": 28.0}
SUPERSEDES = {"count": 5000, "bytes_after": 490}
GROWN = [level(100, idle=IDLE, growth=grown(0.5, 0.4, 4)), level(2000, growth=grown(0.4, 0.3, 5), supersedes=SUPERSEDES)]


class Merging(unittest.TestCase):
    def merged(self, published, run):
        return results.merged(published, run["about"], results.by_measure(run["measures"], options.MEASURES))

    def test_run_replaces_what_it_measured_and_nothing_else(self):
        old = self.merged({}, run_of("old", dev={"first_fire_s": 1}, levels=GROWN))
        new = self.merged(old, run_of("new", costs={}, dev={"first_fire_s": 2}))
        self.assertEqual(new["dev"], {"about": about("new"), "first_fire_s": 2})
        self.assertEqual({name: new[name] for name in ("idle", "growth")}, {name: old[name] for name in ("idle", "growth")})
        self.assertNotIn("costs", new)
        self.assertEqual(old["dev"]["first_fire_s"], 1, "unchanged")

    def test_idle_is_replaced_by_size_and_growth_with_all_sizes(self):
        old = self.merged({}, run_of("old", levels=[*GROWN, level(300, idle=IDLE)]))
        levels = [level(2000, idle=IDLE, growth=grown(1, 1, 1)), level(3000, growth=grown(1, 1, 1))]
        new = self.merged(old, run_of("new", levels=levels))
        dates = lambda name: [(size, one["about"]["date"]) for size, one in new[name].items()]
        self.assertEqual(dates("idle"), [("100", "old"), ("300", "old"), ("2000", "new")], "in the order of numbers")
        self.assertEqual(dates("growth"), [("2000", "new"), ("3000", "new")])

    def test_growth_has_the_bytes_and_the_supersedes_of_its_size(self):
        growth = self.merged({}, run_of("date", levels=GROWN))["growth"]
        self.assertEqual([one["one_shot_bytes"] for one in growth.values()], [480, 480])
        self.assertEqual((growth["2000"]["supersedes"], "supersedes" in growth["100"]), (SUPERSEDES, False))

    def test_runs_name_the_sizes_if_others_are_of_another_run(self):
        levels = [level(100, idle=IDLE), level(2000, idle=IDLE)]
        published = self.merged({}, run_of("old", dev={"first_fire_s": 1}, levels=levels))
        self.assertEqual([line[0] for line in page.runs(published)], ["measures", "idle, dev"])
        published = self.merged(published, run_of("new", levels=levels[1:]))
        lines = [line[:2] for line in page.runs(published)[1:]]
        self.assertEqual(lines, [["idle (100 armed), dev", "old"], ["idle (2,000 armed)", "new"]])


class Site:
    """A browser of pages with links."""

    LINKS = {
        "/ops": ["/ops/events", "/ops/jobs?state=dead", "/ops/jobs?state=stuck", "/ops/assets/style.css"],
        "/ops/events": ["/ops/webhook?webhook_id=1", "/ops/webhook?webhook_id=2"],
        "/ops/webhook?webhook_id=1": ["/ops/webhook?webhook_id=1&amp;before=7"],
        "/ops/jobs?state=dead": ["/ops/job?instance_id=a&amp;job_id=1", "/ops/job?instance_id=b&amp;job_id=2", "/ops"],
    }

    def get(self, path):
        return "".join(f'<a href="{link}">' for link in self.LINKS.get(path, [])), 0


class Pages(unittest.TestCase):
    def test_one_page_of_each_kind_is_found_and_the_switch(self):
        self.assertEqual(
            pages.found(Site()),
            [
                "/ops",
                pages.SWITCH,
                "/ops/events",
                "/ops/jobs?state=dead",
                "/ops/jobs?state=stuck",
                "/ops/webhook?webhook_id=1",
                "/ops/job?instance_id=a&job_id=1",
                "/ops/webhook?webhook_id=1&before=7",
            ],
        )


class Plot(unittest.TestCase):
    def test_panels_have_a_line_per_figure_that_is_known(self):
        found = {"100": grown(None, 0.4, 4), "2000": grown(0.4, 0.3, 5), "30000": grown(0.4, 0.2, 400)}
        root = xml.etree.ElementTree.fromstring(plot.svg(found))
        lines = [line.get("points").split() for line in root.findall("{http://www.w3.org/2000/svg}polyline")]
        self.assertEqual([len(line) for line in lines], [0, 3, 3, 3, 3], "burst has no first size to compare with")

    def test_latencies_are_between_ticks_around_them(self):
        ticks, position = plot.logarithmic({"one": {100: 0.75, 2000: 3.0}})
        self.assertEqual([text for _, text in ticks], ["0.5 ms", "1 ms", "2 ms", "5 ms"])
        self.assertAlmostEqual(position(0.5), 0)
        self.assertAlmostEqual(position(5), 1)


class Publishing(unittest.TestCase):
    """In a copy of the files."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for path in (publish.PUBLISHED, publish.PAGE, publish.PLOT, publish.COSTS):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(options.ROOT / path, self.root / path)

    def file(self, run):
        path = self.root / "run.json"
        path.write_text(json.dumps(run), encoding="utf-8")
        return path

    def publish(self, run, only=options.MEASURES):
        read, found = results.read(self.file(run), only)
        return publish.publish(read["about"], found, self.root)

    def texts(self):
        return {path: path.read_text(encoding="utf-8") for path in self.root.rglob("*") if path.is_file()}

    def test_published_page_and_plot_are_those_of_the_results(self):
        publish.check()

    def test_run_is_published_in_its_parts_of_the_page(self):
        before = (self.root / publish.PAGE).read_text(encoding="utf-8")
        written = self.publish(run_of("2031-01-02 03:04 UTC", dev={"first_fire_s": 2.71}, levels=GROWN))
        self.assertEqual(written, [publish.PUBLISHED, publish.PAGE, publish.PLOT])
        publish.check(self.root)
        after = (self.root / publish.PAGE).read_text(encoding="utf-8")
        sizes, bytes_after = "| armed one-shots | 100 | 2,000 |", "after 5,000 supersedes | – | 490 |"
        for text in ("| 2031-01-02 03:04 UTC |", "| 2.71 s |", sizes, bytes_after):
            self.assertIn(text, after)
        self.assertEqual(page.PART.split(before)[0], page.PART.split(after)[0])
        self.assertEqual(page.PART.split(before)[-1], page.PART.split(after)[-1])

    def test_costs_are_published_for_the_model_only(self):
        cost = {"database_cpu_us": 1, "service_cpu_us": 2, "wal_bytes": 3}
        point = {"one_shots": 1000, "lateness_p99_ms": 1, "cores": 2}
        run = run_of("date", costs={"fire": cost, "provision": cost, "point": point}, dev={"first_fire_s": 1})
        before = self.texts()
        self.assertEqual(self.publish(run, ["costs"]), [publish.COSTS])
        changed = [path for path, text in self.texts().items() if before.get(path) not in (None, text)]
        self.assertEqual(changed, [self.root / publish.COSTS])
        self.assertEqual(json.loads(changed[0].read_text())["about"], about("date"))

    def test_page_that_was_changed_by_hand_is_found_and_drawn_again(self):
        for path in (publish.PAGE, publish.PLOT):
            text = (self.root / path).read_text(encoding="utf-8")
            (self.root / path).write_text(text.replace("1,000,000", "1,000,001"), encoding="utf-8")
            with self.assertRaisesRegex(Failed, f"{path} differs .* --draw"):
                publish.check(self.root)
            publish.draw(self.root)
            self.assertEqual((self.root / path).read_text(encoding="utf-8"), text)

    def test_page_without_a_part_is_rejected_and_nothing_is_written(self):
        (self.root / publish.PAGE).write_text("no parts", encoding="utf-8")
        run = run_of("date", dev={"first_fire_s": 1})
        self.file(run)
        before = self.texts()
        with self.assertRaisesRegex(Failed, "must have each of these parts"):
            self.publish(run)
        self.assertEqual(self.texts(), before)

    def test_results_that_mean_nothing_are_not_published(self):
        for run, why in (
            (run_of("date", 'make bench-scale BENCH="--short"', dev={"first_fire_s": 1}), "--short run"),
            (run_of("date", 'make bench-scale BENCH="--only dev --short"', dev={"first_fire_s": 1}), "--short run"),
            (run_of("date", levels=GROWN[:1]), "growth of one size"),
        ):
            with self.subTest(run["about"]["command"]), self.assertRaisesRegex(Failed, why):
                self.publish(run)

    def test_other_files_are_rejected_as_results_by_name(self):
        peers = json.loads((options.ROOT / "docs/performance/peers.json").read_text(encoding="utf-8"))
        published = json.loads((self.root / publish.PUBLISHED).read_text(encoding="utf-8"))
        costs_of_fleet = json.loads((self.root / publish.COSTS).read_text(encoding="utf-8"))
        without_about = [{"about": {}, "measures": {}}, {"about": about(1), "measures": {}}]
        for other in (peers, published, costs_of_fleet, [], None, *without_about):
            with self.assertRaisesRegex(Failed, "run.json is not a result of bench/scale"):
                results.read(self.file(other), options.MEASURES)
        (self.root / "text").write_text("no JSON", encoding="utf-8")
        for name in ("text", "missing"):
            with self.assertRaisesRegex(Failed, f"{name} could not be read"):
                results.read(self.root / name, options.MEASURES)

    def test_measure_of_another_form_is_rejected_unless_it_is_left_out(self):
        run = run_of("date", jwks={"fires_alone": {"p99": 1}}, dev={"first_fire_s": 1})
        with self.assertRaisesRegex(Failed, "run.json: jwks is not as this version.*per_s.*--only"):
            results.read(self.file(run), options.MEASURES)
        self.assertEqual(results.read(self.file(run), ["dev"])[1], {"dev": {"first_fire_s": 1}})
        with self.assertRaisesRegex(Failed, "has none of herd: it has jwks, dev"):
            results.read(self.file(run), ["herd"])
        for levels in (7, [7], [{"idle": IDLE}], [level("many", idle=IDLE)], [level(100, growth=[])]):
            with self.subTest(levels), self.assertRaisesRegex(Failed, "is not as this version"):
                results.read(self.file(run_of("date", levels=levels)), options.MEASURES)


class Options(unittest.TestCase):
    def test_short_sizes_give_way_to_sizes_that_are_named(self):
        chosen = options.parse(["--short", "--burst", "777"])
        self.assertEqual((chosen.burst, chosen.jobs), (777, options.SHORT["jobs"]))
        self.assertEqual(options.parse([]).levels, [10_000, 100_000, 1_000_000, 10_000_000])

    def test_options_that_exclude_each_other_are_rejected_before_a_run(self):
        for arguments, why in (
            (["--publish", "--short"], "--short and --publish"),
            (["--publish", "--levels", "10000"], "two or more --levels"),
            (["--check", "--only", "dev"], "leave out --only, dev"),
            (["--sho"], "unrecognized arguments"),
        ):
            with self.subTest(arguments), contextlib.redirect_stderr(io.StringIO()) as errors, self.assertRaises(SystemExit):
                options.parse(arguments)
            self.assertIn(why, errors.getvalue())
        self.assertTrue(options.parse(["--publish", "--only", "herd", "--levels", "10000"]).publish)


if __name__ == "__main__":
    unittest.main()
