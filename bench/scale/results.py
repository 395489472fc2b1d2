"""The results of a run by measure, and the published ones: of each measure the newest, with the run that it is from."""

import json

import options
import tables
from processes import Failed

ABOUT = ("date", "command", "machine", "nas_cron", "postgres")
# Of a level, these belong to its growth.
OF_GROWTH = ("one_shot_bytes", "history_row_bytes", "supersedes")


def read(path, only):
    """Returns the results that a former run has written to `path`, and of its measures those in `only`."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failed(f"--results {path} could not be read: {error}") from None
    about, measures = (run.get(key) if isinstance(run, dict) else None for key in ("about", "measures"))
    is_about = isinstance(about, dict) and all(isinstance(about.get(key), str) for key in ABOUT)
    if not is_about or not isinstance(measures, dict):
        raise Failed(f"--results {path} is not a result of bench/scale: name a file that a run has written to target/bench-scale")
    if not (found := checked(path, measures, only)):
        raise Failed(f"--results {path} has none of {', '.join(only)}: it has {', '.join(measures) or 'no measures'}")
    return run, found


def checked(path, measures, only):
    """The measures by name. Fails if a table cannot show one of them."""
    name = "levels"
    try:
        found = by_measure(measures, only)
        for name in found:
            tables.terminal({name: found[name]})
        return found
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Failed(
            f"--results {path}: {name} is not as this version of bench/scale writes it ({error!r}): "
            "measure it again, or name the other measures with --only"
        ) from None


def by_measure(measures, only):
    """The results by measure. Those of `options.POPULATED` are by the number of armed one-shots, as in JSON a text."""
    found = {name: measure for name, measure in measures.items() if name in options.MEASURES}
    for level in measures.get("levels", []):
        for name in options.POPULATED:
            if name in level:
                found.setdefault(name, {})[str(level["armed"])] = of_level(name, level)
    return {name: found[name] for name in options.MEASURES if name in found and name in only}


def of_level(name, level):
    also = {key: level[key] for key in OF_GROWTH if key in level} if name == "growth" else {}
    return {**level[name], **also}


def is_short(about):
    return "--short" in about["command"].replace('"', " ").split()


def merged(published, about, found):
    """Returns `published` with the measures of `found` in place of its own. The costs are published elsewhere."""
    new = dict(published)
    for name, measure in found.items():
        if name in options.POPULATED:
            # Growth compares sizes, so all of them are of one run.
            kept = {} if name == "growth" else new.get(name, {})
            sizes = kept | {size: {"about": about, **one} for size, one in measure.items()}
            new[name] = {size: sizes[size] for size in sorted(sizes, key=int)}
        elif name != "costs":
            new[name] = {"about": about, **measure}
    return {name: new[name] for name in options.MEASURES if name in new}
