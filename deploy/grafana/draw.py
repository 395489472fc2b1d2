"""Draws the dashboard from the data of a Prometheus, as an SVG, without Grafana and without libraries:

    python3 deploy/grafana/draw.py http://127.0.0.1:9090 --minutes 5 --rows Health,Lateness,Fires > dashboard.svg
"""

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from html import escape
from pathlib import Path

COLUMN, LINE = 42, 30
COLOURS = ["#3f83c8", "#d0772b", "#3f9a57", "#b0508f", "#8a7a2c", "#b5433c", "#5a6fb5", "#2f8f8f"]
# Each unit: limit below which it is used, factor, text.
SECONDS = [(1e-3, 1e6, "µs"), (1, 1e3, "ms"), (120, 1, "s"), (7200, 1 / 60, "min"), (172_800, 1 / 3600, "h"), (math.inf, 1 / 86_400, "d")]
BYTES = [(2**20, 2**-10, "KiB"), (2**30, 2**-20, "MiB"), (math.inf, 2**-30, "GiB")]
STYLE = """
    .ground { fill: #f4f5f7 } .panel { fill: #fff; stroke: #d9dce1 } .grid { stroke: #e4e6ea }
    text { fill: #24292e } .faint { fill: #6a727a }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #111417 } .panel { fill: #1b1f24; stroke: #30363d } .grid { stroke: #2a3037 }
      text { fill: #d8dce0 } .faint { fill: #8b949e }
    }
"""


def value_text(value, unit):
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    scales = {"s": SECONDS, "bytes": BYTES}.get(unit)
    if scales and value:
        factor, text = next((factor, text) for limit, factor, text in scales if abs(value) < limit)
        return f"{value * factor:.3g} {text}"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    return f"{value:.3g}/s" if unit == "reqps" else f"{value:.4g}"


def query(server, expression, start, end):
    """Returns the series of an expression: labels, and points of time and value."""
    expression = expression.replace("$__rate_interval", "30s").replace("$job", ".+")
    fields = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": max((end - start) / 120, 1)})
    with urllib.request.urlopen(f"{server}/api/v1/query_range?{fields}") as answer:
        result = json.load(answer)["data"]["result"]
    return [(one["metric"], [(float(at), float(value)) for at, value in one["values"]]) for one in result]


def legend(target, labels):
    text = target["legendFormat"]
    if text == "__auto":
        return ""
    for name, value in labels.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def draw(panel, series, start, end):
    """Returns the elements of a panel, at 0, 0."""
    width, height = panel["gridPos"]["w"] * COLUMN - 8, panel["gridPos"]["h"] * LINE - 8
    unit = panel["fieldConfig"]["defaults"]["unit"]
    parts = [
        f'<rect class="panel" width="{width}" height="{height}" rx="4"/>',
        f'<text x="10" y="18" font-weight="600" font-size="{11 if panel["type"] == "stat" else 12.5}">{escape(panel["title"])}</text>',
    ]
    last = lambda points: next((value for _, value in reversed(points) if not math.isnan(value)), math.nan)
    if panel["type"] == "stat":
        text = series[0][0] if series and series[0][0] else value_text(last(series[0][1]), unit) if series else "–"
        # A commit, shortened as Git does it.
        text = re.sub(r"\b([0-9a-f]{9})[0-9a-f]{31}\b", r"\1", text)
        size = min(26, width / (0.62 * len(text)))
        parts.append(f'<text x="{width / 2}" y="{height / 2 + 18}" font-size="{size:.1f}" text-anchor="middle">{escape(text)}</text>')
        return parts
    series = [(name, [(at, value) for at, value in points if math.isfinite(value)]) for name, points in series]
    top = max((value for _, points in series for _, value in points), default=0) or 1
    top = panel["fieldConfig"]["defaults"].get("max", top * 1.1)
    low = min(0, min((value for _, points in series for _, value in points), default=0))
    left, right, upper, lower = 58, width - 10, 30, height - 46
    x = lambda at: left + (right - left) * (at - start) / (end - start)
    y = lambda value: lower - (lower - upper) * (min(value, top) - low) / (top - low)
    for share in (0, 0.5, 1):
        tick = low + share * (top - low)
        parts.append(f'<path class="grid" d="M{left} {y(tick):.1f}H{right}"/>')
        parts.append(f'<text class="faint" font-size="10" x="{left - 5}" y="{y(tick) + 3:.1f}" text-anchor="end">{value_text(tick, unit)}</text>')
    across = left
    row = height - 24
    for index, (name, points) in enumerate(sorted(series, key=lambda one: -max((value for _, value in one[1]), default=0))[:8]):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{line}"/>')
        text = f"{name} {value_text(last(points), unit)}".strip()
        needed = 18 + 5.4 * len(text)
        if across + needed > right and row < height - 12:
            across, row = left, height - 10
        if across + needed <= right:
            parts.append(f'<rect x="{across}" y="{row - 7}" width="8" height="8" fill="{colour}"/>')
            parts.append(f'<text font-size="10" x="{across + 12}" y="{row}">{escape(text)}</text>')
            across += needed
    return parts


def main():
    options = argparse.ArgumentParser(description="Draws the dashboard from the data of a Prometheus, as an SVG.")
    options.add_argument("server")
    options.add_argument("--minutes", type=float, default=5)
    options.add_argument("--rows", default="", help="names of rows, separated by commas; all by default")
    options = options.parse_args()
    end = time.time()
    start = end - 60 * options.minutes
    dashboard = json.loads((Path(__file__).parent / "nas-cron.json").read_text(encoding="utf-8"))
    wanted = [name for name in options.rows.split(",") if name]
    parts, skipped, bottom, is_drawn = [], 0, 0, True
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if panel["type"] == "row":
            is_drawn = not wanted or panel["title"] in wanted
            skipped = place["y"] - bottom
        if not is_drawn:
            continue
        across, down = place["x"] * COLUMN + 8, (place["y"] - skipped) * LINE + 8
        bottom = max(bottom, place["y"] - skipped + place["h"])
        if panel["type"] == "row":
            parts.append(f'<text x="{across}" y="{down + 20}" font-size="15" font-weight="700">{panel["title"]}</text>')
            continue
        series = []
        for target in panel["targets"]:
            series += [(legend(target, labels), points) for labels, points in query(options.server, target["expr"], start, end)]
        parts.append(f'<g transform="translate({across} {down})">{"".join(draw(panel, series, start, end))}</g>')
    width, height = 24 * COLUMN + 8, bottom * LINE + 8
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif">')
    print(f'<style>{STYLE}</style><rect class="ground" width="{width}" height="{height}"/>')
    print("\n".join(parts) + "\n</svg>")


main()
