"""The results for people, as lines of cells: in the terminal, and in docs/performance.md."""

from dataclasses import dataclass
from typing import Callable

from options import POPULATED

UNKNOWN = "unknown"
NOT_MEASURED = "–"


def plain(lines):
    """Formats lines of the same length as columns, without their Markdown."""
    lines = [[cell.replace("**", "").replace("`", "") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n" for line in lines)


def markdown(lines):
    """Formats a table; the first line has the names of the columns."""
    header, *body = [f"| {' | '.join(line)} |\n" for line in lines]
    return header + "|" + "---|" * len(lines[0]) + "\n" + "".join(body)


def terminal(found):
    """All tables that `found` has figures for."""
    parts = [costs(found["costs"])] if "costs" in found else []
    parts += [lines for lines in (loads(found), growth(found)) if len(lines) > 1]
    return "\n".join(map(plain, parts))


def shown(value, unit="", digits=1):
    return UNKNOWN if value is None else f"{value:,.{digits}f}{unit}"


def costs(found):
    lines = [["costs", "value"]]
    for name in ("fire", "provision"):
        for part in ("database", "service"):
            lines.append([f"CPU of the {part} per {name}", shown(found[name][f"{part}_cpu_us"], " µs", 0)])
        lines.append([f"bytes of the log per {name}", shown(found[name]["wal_bytes"], "", 0)])
    point = found["point"]
    lines.append([f"burst of {point['one_shots']:,}, p99 lateness", shown(point["lateness_p99_ms"], " ms", 0)])
    return [*lines, ["cores that it had", shown(point["cores"], "", 2)]]


def herd(found):
    load, burst = found["herd"], found["burst"]["burst"]
    yield f"{load['burst']:,} at one instant, {load['agents']:,} agents, {load['slow_agents']:,} of which hang for 30 s"
    yield "rate to the last outcome of a healthy agent", shown(load["durable_fires_per_s"], "/s", 0), ""
    yield f"relative to a burst of {burst:,} without hanging agents", shown(found["durable_relative_to_burst"], "", 2), "≥ 0.8"
    yield "last fire of the slowest healthy agent, relative to the median", shown(found["slowest_agent"], "", 2), "≤ 1.3"
    yield "memory of the service", shown(found["rss_mb"], " MB", 0), "≤ 150 MB"
    yield "early, lost", f"{load['early']}, {load['lost']}", "0, 0"


def replicas(found):
    rows = found["rows"]
    bench = rows[0]["bench"]
    numbers = [str(row["replicas"]) for row in rows]
    yield f"{bench['jobs']:,} one-shots, then {bench['burst']:,} at one instant, on {listed(numbers)} replicas of one machine"
    for row in rows:
        bench = row["bench"]
        count = "1 replica" if row["replicas"] == 1 else f"{row['replicas']} replicas"
        yield f"{count}: p99 lateness", shown(bench["lateness_ms"]["p99"], " ms"), ""
        yield f"{count}: burst to the last outcome", shown(bench["durable_fires_per_s"], "/s", 0), ""
        yield f"{count}: statements per fire, with its provisions", shown(row["statements_per_fire"], "", 2), ""
    yield "p99 lateness, relative to one replica", shown(found["p99_relative_to_one"], "", 2), "≤ 1.5"
    yield "statements per fire, relative to one replica", shown(found["statements_relative_to_one"], "", 2), "≤ 1.5"
    yield "early, duplicates", f"{found['early']}, {found['duplicates']}", "0, 0"


def jwks(found):
    yield "public keys fetched while fires are under way"
    yield "requests", shown(found["per_s"], "/s", 0), ""
    yield "p99 of the requests", shown(found["p99_ms"], " ms"), "≤ 20 ms"
    yield "failed requests", str(found["failed"]), "0"
    yield "p99 lateness of the fires, relative to fires alone", shown(found["p99_relative"], "", 2), "≤ 1.5"


def dev(found):
    yield "`nas-cron dev` in an empty folder"
    yield "to the first verified fire", shown(found["first_fire_s"], " s", 2), "≤ 3 s"


LOADS = {"herd": herd, "replicas": replicas, "jwks": jwks, "dev": dev}


def loads(found):
    """A line per figure of the measures on an empty database, below one that says the load."""
    lines = [["measure", "value", "aim"]]
    for name, rows in LOADS.items():
        if name in found:
            title, *figures = rows(found[name])
            lines += [[f"**{title}**", "", ""], *map(list, figures)]
    return lines


def listed(names):
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


@dataclass(frozen=True)
class Row:
    """A figure of a measure at each size. `value` returns it, or None if it is unknown."""

    measure: str
    title: str
    value: Callable
    unit: str = ""
    digits: int = 2
    aim: str = ""
    # To the figure of the smallest size: 1 is flat.
    is_relative: bool = False


def lateness(one):
    return one["bench"]["lateness_ms"]["p99"]


def burst(one):
    return one["per_pgbench"]["burst"]


def provision(one):
    return one["per_pgbench"]["provision"]


ROWS = [
    Row("growth", "lateness, p99", lateness, " ms"),
    Row("growth", "lateness, relative to the smallest size", lateness, aim="≤ 1.5", is_relative=True),
    Row("growth", "burst to the last outcome", lambda one: one["bench"]["durable_fires_per_s"], "/s", 0),
    Row("growth", "provisions", lambda one: one["bench"]["provisions_per_s"], "/s", 0),
    Row("growth", "pgbench's upserts into a table of the same size", lambda one: one["pgbench_upserts_per_s"], "/s", 0),
    Row("growth", "burst per upsert", burst),
    Row("growth", "burst per upsert, relative to the smallest size", burst, aim="≥ 0.67", is_relative=True),
    Row("growth", "provisions per upsert", provision),
    Row("growth", "provisions per upsert, relative to the smallest size", provision, aim="≥ 0.67", is_relative=True),
    Row("growth", "list of one agent, p99", lambda one: one["list_ms"]["p99"], " ms", 2, "≤ 5 ms"),
    Row("growth", "`/metrics`, p99", lambda one: one["metrics_ms"]["p99"], " ms"),
    Row("growth", "`jobs list --overdue`", lambda one: one["jobs_list_overdue_s"], " s"),
    Row("growth", "`jobs list --state dead`", lambda one: one["jobs_list_dead_s"], " s"),
    Row("growth", "dropping half of the history", lambda one: one["drop_history_s"], " s"),
    Row("growth", "bytes per one-shot", lambda one: one["one_shot_bytes"], "", 0, "flat"),
    Row("start", "start of a replica", lambda one: one["ready_s"], " s", 2, "≤ 1 s"),
    Row("idle", "idle: statements", lambda one: one["statements_per_s"], "/s", 2, "≤ 1/s"),
    Row("idle", "idle: CPU of the service", lambda one: one["service_cpu_percent"], " %", 2, "≤ 0.5 % of a core"),
    Row("idle", "idle: CPU of the database", lambda one: one["database_cpu_percent"], " %"),
    Row("idle", "idle: memory of the service", lambda one: one["rss_mb"], " MB", 0, "≤ 64 MB"),
]


def growth(found):
    """A line per figure of the measures on a filled database, with a column per size."""
    sizes = sorted({size for name in POPULATED for size in found.get(name, {})}, key=int)
    lines = [["armed one-shots", *(f"{int(size):,}" for size in sizes), "aim"]]
    for name in ("growth", "start", "idle"):
        measured = found.get(name, {})
        for row in ROWS if measured else ():
            if row.measure == name:
                values = (relative if row.is_relative else by_size)(row.value, measured)
                lines.append([row.title, *cells(values, sizes, row.unit, row.digits), row.aim])
        if name == "growth":
            lines += superseded(measured, sizes)
    return lines


def by_size(value, measured):
    return {size: value(one) for size, one in measured.items()}


def relative(value, measured):
    """The values by size, relative to that of the smallest: 1 is flat."""
    values = by_size(value, measured)
    first = values[min(values, key=int)]
    return {size: round(one / first, 4) if one is not None and first else None for size, one in values.items()}


def cells(values, sizes, unit, digits):
    return [shown(values[size], unit, digits) if size in values else NOT_MEASURED for size in sizes]


def superseded(measured, sizes):
    after = {size: one["supersedes"] for size, one in measured.items() if "supersedes" in one}
    for count in sorted({one["count"] for one in after.values()}):
        values = {size: one["bytes_after"] for size, one in after.items() if one["count"] == count}
        yield [f"bytes per one-shot after {count:,} supersedes", *cells(values, sizes, "", 0), "flat"]
