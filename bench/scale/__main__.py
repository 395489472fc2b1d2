"""Measures how nas-cron behaves at scale on this machine: `make bench-scale`. See bench/scale/README.md."""

import json
import os
import platform
import signal
import sys
from datetime import datetime, timezone

import costs
import loads
import options
import populated
import preflight
import publish
import results
import tables
from processes import Failed, output
from service import Service, create, remove

ENDED_BY_SIGNAL = 130


def main():
    # Everything is stopped then. A shell may have set SIGINT to be ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    try:
        chosen = options.parse()
        if chosen.check or chosen.draw:
            publish.check() if chosen.check else publish.draw()
            return 0
        run, found = results.read(chosen.results, chosen.only) if chosen.results else measure(chosen)
        if chosen.publish:
            for path in publish.publish(run["about"], found):
                after = "; run `python3 bench/fleet --publish` now" if path == publish.COSTS else ""
                populated.progress(f"published {path}{after}")
        print(json.dumps(run) if chosen.json else tables.terminal(found), end="\n" if chosen.json else "")
        return 0
    except Failed as failed:
        print(f"bench-scale: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return ENDED_BY_SIGNAL


def measure(chosen):
    """Returns the results as they are kept in a file, and by measure."""
    chosen.programs = options.programs(chosen.programs)
    for warning in preflight.check(chosen):
        populated.progress(f"warning: {warning}")
    path = chosen.dir / f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}.json"
    run = {"about": about(chosen), "measures": {}}
    for name, found in measured(chosen):
        run["measures"][name] = found
        path.write_text(publish.text(run), encoding="utf-8")
    populated.progress(f"results in {path}")
    return run, results.by_measure(run["measures"], chosen.only)


def about(chosen):
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "command": command(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "nas_cron": output("nas-cron", [chosen.binary, "--version"], 30).split()[1],
        "postgres": output("psql", [chosen.programs / "psql", "--version"], 30).split()[2],
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def command(arguments):
    """Returns the command that repeats a run, without paths of this machine."""
    kept = [part for before, part in zip(["", *arguments], arguments) if not {before, part} & {"--binary", "--dir", "--programs"}]
    return f'make bench-scale BENCH="{" ".join(kept)}"' if kept else "make bench-scale"


def measured(chosen):
    """Yields the name and the results of each measure. An empty service of its own for each load."""
    empty = {"costs": costs.measure, "herd": loads.herd, "replicas": loads.replicas, "jwks": loads.jwks}
    for name, measure in empty.items():
        if name in chosen.only:
            populated.progress(name)
            with Service(chosen, name) as service:
                yield name, measure(service, chosen)
    if "dev" in chosen.only:
        populated.progress("dev")
        yield "dev", dev(chosen)
    wanted = [name for name in chosen.only if name in options.POPULATED]
    if wanted:
        with Service(chosen, "populated") as service:
            levels = []
            # Only growth compares sizes.
            for count in chosen.levels if "growth" in wanted else chosen.levels[-1:]:
                levels.append(populated.level(service, chosen, count, wanted))
                yield "levels", levels
            if "growth" in wanted and chosen.supersedes:
                populated.progress(f"{chosen.supersedes:,} supersedes")
                levels[-1]["supersedes"] = populated.supersede(service, chosen.supersedes)
                yield "levels", levels


def dev(chosen):
    folder = chosen.dir / "run-dev"
    create(folder)
    found = loads.dev(chosen, folder)
    remove(folder)
    return found


sys.exit(main())
