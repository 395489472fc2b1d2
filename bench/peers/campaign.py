"""All rounds of a comparison."""

import shutil
import sys
import time
from datetime import datetime, timezone

import calibration
import machine
import ours
import peer
from processes import Child
from summary import brief
from systems import OURS, SYSTEMS


def run(options, tools, keep):
    """Measures all systems in every round and returns the results. Calls `keep` with the results so far."""
    results = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command(options),
        "load": vars(options.load),
        "machine": machine.facts(options.dir),
        "versions": versions(options, tools),
        "systems": {name: SYSTEMS[name].title for name in options.systems},
        "calibration": [],
        "runs": [],
    }
    progress = Progress(options.rounds * (1 + len(options.systems)))
    for number in range(options.rounds):
        with progress.step(f"round {number + 1}, the machine's limits") as step:
            with Folder(options.dir) as folder:
                limits = calibration.measure(tools, folder, options.short)
            results["calibration"].append(limits)
            keep(results)
            step.done(", ".join(f"{name} {value}/s" for name, value in limits.items()))
        for name in rotated(options.systems, number):
            system = SYSTEMS[name]
            with progress.step(f"round {number + 1}, {system.title}") as step:
                with Folder(options.dir) as folder:
                    measured = (ours if name == OURS else peer).run(system, options.load, tools, folder)
                results["runs"].append({"round": number + 1, "system": name, **measured})
                keep(results)
                step.done(brief(measured))
    return results


def command(options):
    default = "make bench-peers"
    if sys.argv[1:]:
        return f'{default} BENCH="{" ".join(sys.argv[1:])}"'
    return default


def versions(options, tools):
    with Folder(options.dir) as folder:
        server = [tools.helper, "postgres", "--dir", folder / "postgres"]
        with Child("Postgres", server, folder / "postgres.log") as server:
            programs = server.response()["programs"]
        return tools.versions([SYSTEMS[name] for name in options.systems], programs)


def rotated(systems, number):
    """Another system begins in each round: what the machine does over time hits all of them."""
    first = number % len(systems)
    return systems[first:] + systems[:first]


class Folder:
    """An empty folder for one step, removed at its end. After a failure it stays, with its logs."""

    def __init__(self, parent):
        self.path = parent / f"run-{datetime.now(timezone.utc):%H%M%S%f}"

    def __enter__(self):
        self.path.mkdir()
        return self.path

    def __exit__(self, kind, *_):
        if kind in (None, KeyboardInterrupt):
            shutil.rmtree(self.path)


class Progress:
    """Prints each step with its number, and the estimated rest."""

    def __init__(self, count):
        self.count, self.number, self.start = count, 0, time.monotonic()

    def step(self, title):
        self.number += 1
        return Step(f"[{self.number}/{self.count}] {title}", self)

    def rest(self):
        per_step = (time.monotonic() - self.start) / self.number
        minutes = round(per_step * (self.count - self.number) / 60)
        return f"about {minutes} min left" if minutes else "less than a minute left"


class Step:
    def __init__(self, title, progress):
        self.title, self.progress = title, progress

    def __enter__(self):
        print(f"{self.title} …", file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_):
        pass

    def done(self, found):
        print(f"    {found} ({self.progress.rest()})", file=sys.stderr, flush=True)
