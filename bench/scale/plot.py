"""The plot of growth: rates and latencies by the number of armed one-shots. SVG without libraries."""

import math

import tables

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 200, 34, 44
COLOURS = ["#c2410c", "#0e7490", "#475569"]
# A rate may fall to this share of that of the smallest size.
AIM = 1 / 1.5

RATES = {"burst to the last outcome": tables.burst, "provisions": tables.provision}
LATENCIES = {
    "lateness": tables.lateness,
    "list of one agent": lambda one: one["list_ms"]["p99"],
    "/metrics": lambda one: one["metrics_ms"]["p99"],
}


def svg(measured):
    """`measured` has the results of growth by size, of at least two sizes."""
    sizes = sorted(map(int, measured))
    rates = {name: points(tables.relative(value, measured)) for name, value in RATES.items()}
    latencies = {name: points(tables.by_size(value, measured)) for name, value in LATENCIES.items()}
    parts = [
        panel("Rates relative to pgbench's at the same size; 1: as at the smallest size", rates, sizes, 0, linear(rates), AIM),
        panel("Latencies, p99 (logarithmic)", latencies, sizes, HEIGHT, logarithmic(latencies)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{2 * HEIGHT}" viewBox="0 0 {WIDTH} {2 * HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{2 * HEIGHT}" fill="white"/>\n{"".join(parts)}</svg>\n'
    )


def points(values):
    """The values that are known, by size in ascending order."""
    return {int(size): values[size] for size in sorted(values, key=int) if values[size]}


def all_of(lines):
    return [value for line in lines.values() for value in line.values()]


def linear(lines):
    """Returns the ticks with their texts, and the position of a value from 0 to 1."""
    step = 0.5
    top = step * math.ceil(max([*all_of(lines), 1.5]) / step)
    ticks = [(step * number, f"{step * number:g}") for number in range(round(top / step) + 1)]
    return ticks, lambda value: value / top


def logarithmic(lines):
    """The same, with ticks at 1, 2 and 5 times a power of ten."""
    values = all_of(lines) or [1]
    steps = [factor * 10.0**power for power in range(-3, 6) for factor in (1, 2, 5)]
    low = max((tick for tick in steps if tick < min(values)), default=steps[0])
    high = min((tick for tick in steps if tick > max(values)), default=steps[-1])
    ticks = [(tick, f"{tick:,g} ms") for tick in steps if low <= tick <= high]
    return ticks, lambda value: math.log(max(value, low) / low) / math.log(high / low)


def panel(title, lines, sizes, offset, scale, aim=None):
    ticks, position = scale
    right, bottom = WIDTH - RIGHT, offset + HEIGHT - BOTTOM
    # The first and the last point are not on the frame.
    x = lambda size: LEFT + 24 + (right - LEFT - 48) * math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])
    y = lambda value: bottom - (bottom - offset - TOP) * position(value)
    parts = [f'<text x="{LEFT}" y="{offset + 20}" font-size="13" font-weight="bold">{title}</text>\n']
    for tick, text in ticks:
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{right}" stroke="#e2e8f0"/>\n')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{text}</text>\n')
    for size in sizes:
        parts.append(f'<text x="{x(size):.1f}" y="{bottom + 18}" text-anchor="middle">{size:,}</text>\n')
    parts.append(f'<text x="{right + 28}" y="{bottom + 18}">armed one-shots</text>\n')
    if aim:
        parts.append(f'<path d="M{LEFT} {y(aim):.1f}H{right}" stroke="#94a3b8" stroke-dasharray="5 4"/>\n')
        parts.append(f'<text x="{right + 28}" y="{y(aim) + 4:.1f}">aim: at least {aim:.2f}</text>\n')
    for row, ((name, line), colour) in enumerate(zip(lines.items(), COLOURS)):
        at = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in line.items())
        parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="1.8"/>\n')
        for size, value in line.items():
            parts.append(f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3.5" fill="{colour}"/>\n')
        parts += legend(name, offset + TOP + 10 + 18 * row, right, colour)
    return "".join(parts)


def legend(name, at, right, colour):
    yield f'<path d="M{right + 8} {at - 4}h14" stroke="{colour}" stroke-width="2.5"/>\n'
    yield f'<text x="{right + 28}" y="{at}">{name}</text>\n'
