"""The plots of docs/performance/: one point per system, and a bar over the range of the rounds."""

import summary
from options import IN_FLIGHT
from systems import OURS

COLOURS = {True: "#c2410c", False: "#475569"}
# The second series of a plot.
PALE = {True: "#fdba74", False: "#cbd5e1"}
ROW_HEIGHT = 0.42


def prepared():
    import matplotlib

    matplotlib.use("svg")
    # Texts stay texts, and the same results give the same file.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "nas-cron", "font.family": "sans-serif"}
    from matplotlib import pyplot

    return pyplot


def start(pyplot, results, title, label):
    names = summary.systems(results)[::-1]
    figure, axes = pyplot.subplots(figsize=(8, 1.1 + ROW_HEIGHT * len(names)), layout="constrained")
    axes.set_yticks(range(len(names)), [results["systems"][name] for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(label)
    axes.grid(axis="x", which="major", color="#e2e8f0")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure, axes, names


def save(pyplot, figure, path):
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # One line break at the end and no blanks at the ends of lines, as in other files.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")


def lateness(pyplot, results, path):
    load = results["load"]
    title = f"Lateness of {load['jobs']:,} one-shots over {load['over_s']:g} s"
    figure, axes, names = start(pyplot, results, title, "ms, logarithmic")
    axes.set_xscale("log")
    marks = {"p50": "o", "p99": "D", "max": "|"}
    for row, name in enumerate(names):
        colour = COLOURS[name == OURS]
        found = {which: summary.of(results, name, f"lateness_{which}_ms") for which in marks}
        axes.plot([found["p50"].median, found["max"].median], [row, row], color=colour, linewidth=1, alpha=0.5)
        for which, mark in marks.items():
            at, size = found[which], 11 if which == "max" else 6
            axes.plot([at.low, at.high], [row, row], color=colour, linewidth=4, alpha=0.25, solid_capstyle="butt")
            axes.plot(at.median, row, mark, color=colour, markersize=size)
    handles = [axes.plot([], [], mark, color=COLOURS[False], label=which)[0] for which, mark in marks.items()]
    axes.legend(handles=handles, loc="lower right", frameon=False, ncols=3, bbox_to_anchor=(1, 1), fontsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    save(pyplot, figure, path)


def bars(pyplot, results, path, title, keys):
    """Bars of one or two rates with their labels, the first one in front of the second."""
    figure, axes, names = start(pyplot, results, title, "per second; lines: range of the rounds")
    if len(keys) > 1:
        handles = [axes.barh(0, 0, color=colours[False], label=keys[key]) for key, colours in zip(keys, (COLOURS, PALE))]
        axes.legend(handles=handles, loc="lower right", frameon=False, ncols=2, bbox_to_anchor=(1, 1), fontsize=9)
    for row, name in enumerate(names):
        for key, colours in zip(keys, (COLOURS, PALE)):
            found = summary.of(results, name, key)
            if found is None:
                continue
            front = key == next(iter(keys))
            height, above = (0.36, 3) if front else (0.62, 2)
            axes.barh(row, found.median, height, color=colours[name == OURS], zorder=above)
            axes.plot([found.low, found.high], [row, row], color="black", linewidth=1, zorder=4)
            if front:
                axes.annotate(
                    f" {summary.number(found.median)}",
                    (max(filter(None, (limit(results, name, key) for key in keys))), row),
                    va="center",
                    fontsize=9,
                )
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    save(pyplot, figure, path)


def limit(results, name, key):
    found = summary.of(results, name, key)
    return found and found.high


def write(results, folder):
    """Writes all plots."""
    pyplot = prepared()
    load = results["load"]
    folder.mkdir(parents=True, exist_ok=True)
    lateness(pyplot, results, folder / "lateness.svg")
    rates = {"burst_done_per_s": "to the last outcome", "burst_arrived_per_s": "to the last arrival"}
    bars(pyplot, results, folder / "burst.svg", f"{load['burst']:,} one-shots at one instant", rates)
    title = f"{max(load['jobs'], load['burst']):,} one-shots armed, {IN_FLIGHT} calls in flight"
    bars(pyplot, results, folder / "arming.svg", title, {"armed_per_s": "armed"})
