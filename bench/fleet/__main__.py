"""Models a fleet of agents on 1 to 16 cells, from measured costs: lateness and database load per hour. See docs/scaling.md."""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import page
import plot
from cells import Cell, day, rate
from check import checked
from fleet import Fleet

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
PAGE, PLOT = DOCS / "scaling.md", DOCS / "performance/fleet.svg"

# Of the page's table, in seconds.
SPREADS = (1, 60, 300, 900)

EXAMPLES = """
Examples:
  python3 bench/fleet                                    ten million agents on 1 to 16 cells
  python3 bench/fleet --agents 500000 --cells 1,2 --svg fleet.svg
  python3 bench/fleet --spread-s 300                     agents spread what is due at one instant over 5 min
  python3 bench/fleet --database-cores 32 --replicas 6 --json
  python3 bench/fleet --publish                          renew docs/scaling.md after `make bench-scale BENCH="--only costs --publish"`
"""


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="bench/fleet",
        description="Model a fleet of agents on cells of nas-cron, from measured costs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, fleet, cell = parser.add_argument, Fleet(), Cell()
    add("--agents", type=int, default=fleet.agents, help=f"agents, each with one recurring job [{fleet.agents}]")
    add("--morning", type=float, default=fleet.morning, help=f"share that is due at 09:00 of its time zone [{fleet.morning}]")
    add("--hourly", type=float, default=fleet.hourly, help=f"share that is due at every full hour [{fleet.hourly}]")
    add("--half-hourly", type=float, default=fleet.half_hourly, help=f"share that is due at :00 and :30 [{fleet.half_hourly}]")
    add("--spread-s", type=int, default=fleet.spread_s, help="seconds over which agents spread what is due at one instant [1]")
    add("--cells", default="1,2,4,8,16", help="numbers of cells [1,2,4,8,16]")
    add("--database-cores", type=float, default=cell.database_cores, help=f"cores of a cell's primary [{cell.database_cores}]")
    add("--replicas", type=int, default=cell.replicas, help=f"replicas of a cell [{cell.replicas}]")
    add("--replica-cores", type=float, default=cell.replica_cores, help=f"cores of a replica [{cell.replica_cores}]")
    add("--usable", type=float, default=cell.usable, help=f"share of the cores that is used at most [{cell.usable}]")
    add("--response-s", type=float, default=cell.response_s, help=f"time until an agent has accepted a fire [{cell.response_s}]")
    add("--in-flight", type=int, default=cell.in_flight, help=f"attempts in flight per replica [{cell.in_flight}]")
    add("--costs", type=Path, default=HERE / "measured.json", help="costs, as bench/scale measures them")
    add("--svg", type=Path, metavar="FILE", help="write the plot")
    add("--json", action="store_true", help="print every hour as JSON")
    add("--publish", action="store_true", help="renew docs/scaling.md and its plot; with no other options")
    add("--check", action="store_true", help="fail if docs/scaling.md or its plot differ from what --publish would write")
    options = parser.parse_args(arguments)
    cells = options.cells.split(",")
    if not all(part.isdecimal() and int(part) >= 1 for part in cells):
        parser.error(f"--cells must be at least 1, as numbers separated by commas, and not {options.cells!r}")
    options.cells = [int(part) for part in cells]
    try:
        options.fleet = Fleet(options.agents, options.morning, options.hourly, options.half_hourly, options.spread_s)
        options.cell = Cell(
            options.database_cores,
            options.replicas,
            options.replica_cores,
            options.usable,
            options.response_s,
            options.in_flight,
        )
    except ValueError as error:
        parser.error(str(error))
    others = set(arguments if arguments is not None else sys.argv[1:]) - {"--publish", "--check"}
    if (options.publish or options.check) and others:
        parser.error(f"--publish and --check are for the page's own fleet: leave out {', '.join(sorted(others))}")
    return options


def main():
    options = parse()
    try:
        costs = json.loads(options.costs.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return fail(f"--costs {options.costs} could not be read: {error}")
    due = options.fleet.due()
    try:
        days = {cells: day(due, cells, options.cell, costs) for cells in options.cells}
        found = {"costs": costs, "days": days, "cell": options.cell, "checked": checked(costs)}
    except ValueError as error:
        return fail(str(error))
    except KeyError as error:
        return fail(f"--costs {options.costs} has no {error}: it is not a result of bench/scale --only costs")
    if options.svg:
        options.svg.write_text(plot.svg(days), encoding="utf-8")
    if options.publish or options.check:
        return publish(found | {"spreads": spreads(options, costs)}, options.check)
    if options.json:
        cells = {str(cells): asdict(one) for cells, one in days.items()}
        print(json.dumps({"rate": asdict(rate(options.cell, costs)), "checked": found["checked"], "cells": cells}))
    else:
        print(page.fleet_part(**found) + "\nThe measured point:\n" + page.check_part(**found), end="")
    return 0


def spreads(options, costs):
    """The p99 of the worst hour by the number of cells, for each period of `SPREADS`."""
    worst = lambda day: max(hour.p99_s for hour in day.hours)
    fleets = {period: replace(options.fleet, spread_s=period).due() for period in SPREADS}
    return {
        period: {cells: worst(day(due, cells, options.cell, costs)) for cells in options.cells}
        for period, due in fleets.items()
    }


def publish(found, check):
    wanted = {PAGE: page.render(PAGE.read_text(encoding="utf-8"), **found), PLOT: plot.svg(found["days"])}
    for path, text in wanted.items():
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            return fail(f"{path} differs from its costs: run `python3 bench/fleet --publish`")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 0


def fail(why):
    print(f"bench/fleet: {why}", file=sys.stderr)
    return 1


sys.exit(main())
