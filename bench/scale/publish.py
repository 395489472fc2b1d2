"""Writes what was measured into the documentation, and checks that it is there."""

import json

import options
import page
import plot
import results
from processes import Failed

PUBLISHED = "docs/performance/scale.json"
PAGE = "docs/performance.md"
PLOT = "docs/performance/growth.svg"
# Of the model of docs/scaling.md.
COSTS = "bench/fleet/measured.json"


def publish(about, found, root=options.ROOT):
    """Publishes the measures of `found`. Returns the files that it has written."""
    if results.is_short(about):
        raise Failed("the figures of a --short run mean nothing: publish another run")
    if "growth" in found and len(found["growth"]) < 2:
        raise Failed("growth of one size shows nothing: publish a run of two or more --levels, or name others with --only")
    texts = {}
    if "costs" in found:
        texts[COSTS] = text({"about": about, **found["costs"]})
    if set(found) - {"costs"}:
        now = results.merged(published(root), about, found)
        texts |= {PUBLISHED: text(now), **drawn(now, root)}
    # Nothing is written if anything fails before.
    return write(texts, root)


def draw(root=options.ROOT):
    """Draws the page and its plot again."""
    return write(drawn(published(root), root), root)


def check(root=options.ROOT):
    """Fails unless the page and its plot are those of the published results."""
    for path, content in drawn(published(root), root).items():
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != content:
            raise Failed(f"{path} differs from {PUBLISHED}: run `python3 bench/scale --draw`")


def published(root):
    return json.loads((root / PUBLISHED).read_text(encoding="utf-8"))


def drawn(published, root):
    """The texts of the page and its plot."""
    texts = {PAGE: page.render((root / PAGE).read_text(encoding="utf-8"), published)}
    return texts | ({PLOT: plot.svg(published["growth"])} if "growth" in published else {})


def write(texts, root):
    for path, content in texts.items():
        (root / path).write_text(content, encoding="utf-8")
    return list(texts)


def text(value):
    return json.dumps(value, indent=1) + "\n"
