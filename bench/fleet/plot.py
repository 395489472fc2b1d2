"""The plot of a fleet's day: lateness and database load per hour, a line for each number of cells. SVG without libraries."""

import math

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 84, 34, 40
COLOURS = ["#7c2d12", "#c2410c", "#f97316", "#0e7490", "#155e75", "#475569"]


def svg(days):
    """`days` has the day of a cell by the number of cells."""
    lateness = {cells: [hour.p99_s for hour in day.hours] for cells, day in days.items()}
    load = {cells: [100 * hour.database_busiest_minute for hour in day.hours] for cells, day in days.items()}
    parts = [
        panel("Lateness, p99 of the one-shots that are due in the hour (logarithmic)", lateness, 0, logarithmic(lateness)),
        panel("CPU of a cell's database in the busiest minute of the hour", load, HEIGHT, linear(load)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{2 * HEIGHT}" viewBox="0 0 {WIDTH} {2 * HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{2 * HEIGHT}" fill="white"/>\n{"".join(parts)}</svg>\n'
    )


def logarithmic(lines):
    """Returns the ticks with their texts, and the position of a value from 0 to 1. An hour without fires is at the bottom."""
    values = [value for line in lines.values() for value in line if value > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    ticks = [(10**power, duration(10**power)) for power in range(low, high + 1)]
    return ticks, lambda value: (math.log10(max(value, 10**low)) - low) / (high - low)


def linear(lines):
    top = max(10, math.ceil(max(map(max, lines.values())) / 10) * 10)
    step = 10 if top <= 50 else 20
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
