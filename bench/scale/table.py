"""The results for people: one line per figure, with what it should be."""

from populated import flatness


def text(measures):
    lines = [line for name, found in measures.items() for line in ROWS[name](found)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def shown(value, unit="", digits=1):
    return "unknown" if value is None else f"{value:,.{digits}f}{unit}"


def of_costs(found):
    for name in ("fire", "provision"):
        for part in ("database", "service"):
            yield f"CPU of the {part} per {name}", shown(found[name][f"{part}_cpu_us"], " µs", 0), ""
        yield f"bytes of the log per {name}", shown(found[name]["wal_bytes"], "", 0), ""
    point = found["point"]
    yield f"burst of {point['one_shots']:,}, p99 lateness", shown(point["lateness_p99_ms"], " ms", 0), ""
    yield "  cores that it had", shown(point["cores"], "", 2), ""


def of_herd(found):
    yield "herd: rate to the last outcome, relative to a burst", shown(found["durable_relative_to_burst"], "", 2), "≥ 0.8"
    yield "  slowest healthy agent, relative to the median", shown(found["slowest_agent"], "", 2), "≤ 1.3"
    yield "  memory of the service", shown(found["rss_mb"], " MB", 0), "≤ 150 MB"
    yield "  early, lost", f"{found['herd']['early']}, {found['herd']['lost']}", "0, 0"


def of_replicas(found):
    for row in found["rows"]:
        bench = row["bench"]
        count = "1 replica" if row["replicas"] == 1 else f"{row['replicas']} replicas"
        yield f"{count}: p99 lateness", shown(bench["lateness_ms"]["p99"], " ms"), ""
        yield "  burst to the last outcome", shown(bench["durable_fires_per_s"], "/s", 0), ""
        yield "  statements per fire, with its provisions", shown(row["statements_per_fire"], "", 2), ""
    yield "p99 lateness, relative to one replica", shown(found["p99_relative_to_one"], "", 2), "≤ 1.5"
    yield "statements per fire, relative to one replica", shown(found["statements_relative_to_one"], "", 2), "≤ 1.5"
    yield "early, duplicates", f"{found['early']}, {found['duplicates']}", "0, 0"


def of_jwks(found):
    yield f"JWKS at {found['per_s']:,.0f} requests/s, p99", shown(found["p99_ms"], " ms"), "≤ 20 ms"
    yield "  failed requests", str(found["failed"]), "0"
    yield "  fires' p99 lateness, relative to alone", shown(found["p99_relative"], "", 2), "≤ 1.5"


def of_dev(found):
    yield "nas-cron dev from nothing to its first fire", shown(found["first_fire_s"], " s", 2), "≤ 3 s"


def of_levels(levels):
    for level in levels:
        yield f"{level['armed']:,} armed: bytes per one-shot", shown(level["one_shot_bytes"], "", 0), "flat"
        if start := level.get("start"):
            yield "  start", shown(start["ready_s"], " s", 2), "≤ 1 s"
        if idle := level.get("idle"):
            yield "  idle: statements", shown(idle["statements_per_s"], "/s", 2), "≤ 1/s"
            yield "  idle: CPU of the service", shown(idle["service_cpu_percent"], " %", 2), "≤ 0.5 % of a core"
            yield "  idle: CPU of the database", shown(idle["database_cpu_percent"], " %", 2), ""
            yield "  idle: memory of the service", shown(idle["rss_mb"], " MB", 0), "≤ 64 MB"
        if growth := level.get("growth"):
            yield from of_growth(growth)
        if bloat := level.get("supersedes"):
            yield f"  bytes per one-shot after {bloat['count']:,} supersedes", shown(bloat["bytes_after"], "", 0), "flat"
    if flat := flatness(levels):
        yield "largest relative to smallest: burst per pgbench upsert", shown(flat["burst"], "", 2), "≥ 0.67"
        yield "  provisions per pgbench upsert", shown(flat["provision"], "", 2), "≥ 0.67"
        yield "  p99 lateness", shown(flat["lateness_p99"], "", 2), "≤ 1.5"


def of_growth(growth):
    bench = growth["bench"]
    yield "  p99 lateness", shown(bench["lateness_ms"]["p99"], " ms"), ""
    yield "  burst to the last outcome", shown(bench["durable_fires_per_s"], "/s", 0), ""
    yield "  provisions", shown(bench["provisions_per_s"], "/s", 0), ""
    yield "  pgbench upserts, table of the same size", shown(growth["pgbench_upserts_per_s"], "/s", 0), ""
    yield "  list of one agent, p99", shown(growth["list_ms"]["p99"], " ms"), "≤ 5 ms"
    yield "  /metrics, p99", shown(growth["metrics_ms"]["p99"], " ms"), ""
    yield "  jobs list --overdue", shown(growth["jobs_list_overdue_s"], " s", 2), ""
    yield "  jobs list --state dead", shown(growth["jobs_list_dead_s"], " s", 2), ""
    yield "  dropping half of the history", shown(growth["drop_history_s"], " s", 2), ""


ROWS = {
    "costs": of_costs, "herd": of_herd, "replicas": of_replicas, "jwks": of_jwks, "dev": of_dev, "levels": of_levels,
}  # fmt: skip
