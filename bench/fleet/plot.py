"""The plot of a fleet's day: lateness and database load per hour, a line for each number of cells. SVG without libraries."""

import math

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 84, 34, 40
# Of the logarithmic axis, in seconds.
TICKS = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 360_000]
COLOURS = ["#7c2d12", "#c2410c", "#f97316", "#0e7490", "#155e75", "#475569"]


def svg(days):
    """`days` has the day of a cell by the number of cells."""
    lateness = {cells: [hour.p99_s for hour in day.hours] for cells, day in days.items()}
    load = {cells: [100 * hour.database for hour in day.hours] for cells, day in days.items()}
    parts = [
        panel("Lateness, p99 of the one-shots that are due in the hour (logarithmic)", lateness, 0, logarithmic(lateness)),
        panel("CPU of a cell's database, over the hour", load, HEIGHT, linear(load)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{2 * HEIGHT}" viewBox="0 0 {WIDTH} {2 * HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{2 * HEIGHT}" fill="white"/>\n{"".join(parts)}</svg>\n'
    )


def logarithmic(lines):
    """Returns the ticks with their texts, and the position of a value from 0 to 1. An hour without fires is at the bottom."""
    values = [value for line in lines.values() for value in line if value > 0]
    low = max((tick for tick in TICKS if tick <= min(values)), default=TICKS[0])
    high = min((tick for tick in TICKS if tick >= max(values) and tick > low), default=TICKS[-1])
    ticks = [(tick, duration(tick)) for tick in TICKS if low <= tick <= high]
    share = lambda value: math.log(max(value, low) / low) / math.log(high / low)
    return ticks, lambda value: min(share(value), 1)


def linear(lines):
    highest = max(map(max, lines.values()))
    # Five ticks at most.
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if highest <= 5 * step)
    top = step * max(1, math.ceil(highest / step))
    return [(tick, f"{tick} %") for tick in range(0, top + 1, step)], lambda value: value / top


def duration(seconds):
    for limit, unit, factor in ((1, "ms", 1000), (60, "s", 1), (3600, "min", 1 / 60), (math.inf, "h", 1 / 3600)):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError("unreachable")


def panel(title, lines, offset, scale):
    ticks, position = scale
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x = lambda hour: LEFT + (right - LEFT) * hour / 23
    y = lambda value: offset + bottom - (bottom - TOP) * position(value)
    parts = [f'<text x="{LEFT}" y="{offset + 20}" font-size="13" font-weight="bold">{title}</text>\n']
    for tick, text in ticks:
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{right}" stroke="#e2e8f0"/>\n')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{text}</text>\n')
    for hour in range(0, 24, 3):
        parts.append(f'<text x="{x(hour):.1f}" y="{offset + bottom + 18}" text-anchor="middle">{hour:02}:00</text>\n')
    parts.append(f'<text x="{right + 8}" y="{offset + bottom + 18}">UTC</text>\n')
    for (cells, line), colour in zip(lines.items(), COLOURS):
        points = " ".join(f"{x(hour):.1f},{y(value):.1f}" for hour, value in enumerate(line))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>\n')
    parts += legend(lines, offset, right)
    return "".join(parts)


def legend(lines, offset, right):
    for row, ((cells, _), colour) in enumerate(zip(lines.items(), COLOURS)):
        at = offset + TOP + 10 + 18 * row
        yield f'<path d="M{right + 8} {at - 4}h14" stroke="{colour}" stroke-width="2.5"/>\n'
        yield f'<text x="{right + 26}" y="{at}">{cells} {"cell" if cells == 1 else "cells"}</text>\n'
