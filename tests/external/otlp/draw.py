"""Draws the traces of a job as an SVG: its provision and its attempts, from the lines that `receive.py` prints.

    python3 tests/external/otlp/draw.py report < spans > docs/production/trace.svg
"""

import json
import sys
from html import escape

WIDTH, LEFT, RIGHT, LINE, HEAD = 860, 150, 90, 22, 52
STYLE = """
    .ground { fill: #fff } .rule { stroke: #d9dce1 } .bar { fill: #3f83c8 } .root { fill: #8b98a8 } .failed { fill: #b5433c }
    .call { fill: #d0772b } text { fill: #24292e } .faint { fill: #6a727a } .head { font-weight: 600 } .due { stroke: #3f9a57 }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #111417 } .rule { stroke: #30363d } text { fill: #d8dce0 } .faint { fill: #8b949e }
    }
"""


def traces_of(spans, job):
    """Returns the root span of each trace of the job with the spans below it, in the order of time."""
    roots = [span for span in spans if span["attributes"].get("job.id") == job]
    below = {root["span_id"]: [span for span in spans if span["parent"] == root["span_id"]] for root in roots}
    return sorted(((root, sorted(below[root["span_id"]], key=lambda span: span["start"])) for root in roots), key=lambda trace: trace[0]["start"])


def duration(nanos):
    return f"{nanos / 1e6:.1f} ms" if nanos < 1e9 else f"{nanos / 1e9:.2f} s"


def title(number, root):
    names = root["attributes"]
    if root["name"] == "fire":
        answer = f"attempt {names['fire.attempt']}: {names.get('fire.outcome', 'deferred')}"
        return f"trace {number}: {answer}, {names['fire.lateness_ms']:.1f} ms after it was due"
    return f"trace {number}: provision, in the trace of the agent"


def main(job):
    spans = [span for line in sys.stdin for span in json.loads(line)["spans"]]
    traces = traces_of(spans, job)
    numbers = {root["span_id"]: number for number, (root, _) in enumerate(traces, 1)}
    parts, top = [], 0
    for root, steps in traces:
        start, whole = root["start"], root["end"] - root["start"]

        def x(at):
            return LEFT + (WIDTH - LEFT - RIGHT) * (at - start) / whole

        links = [f"{link['attributes']['nas_cron.link']} → trace {numbers.get(link['span_id'], '?')}" for link in root["links"]]
        parts.append(f'<text class="head" x="14" y="{top + 24}">{escape(title(numbers[root["span_id"]], root))}</text>')
        parts.append(f'<text class="faint" x="14" y="{top + 42}">{escape(" · ".join(["links: " + ", ".join(links)] if links else ["no links"]))}</text>')
        top += HEAD
        for depth, span in [(0, root)] + [(1, step) for step in steps]:
            kind = "failed" if span["failed"] else "root" if depth == 0 else "call" if span["kind"] == "client" else "bar"
            left, right = x(span["start"]), x(span["end"])
            parts.append(f'<text x="{14 + 14 * depth}" y="{top + 15}">{escape(span["name"].replace("/api/agent-cron/", ""))}</text>')
            parts.append(f'<rect class="{kind}" x="{left:.1f}" y="{top + 4}" width="{max(right - left, 1.5):.1f}" height="14" rx="2"/>')
            parts.append(f'<text class="faint" x="{max(right, left + 1.5) + 6:.1f}" y="{top + 15}">{duration(span["end"] - span["start"])}</text>')
            top += LINE
        for event in root["events"]:
            at = x(max(event["time"], start))
            parts.append(f'<line class="due" x1="{at:.1f}" x2="{at:.1f}" y1="{top - LINE * (len(steps) + 1)}" y2="{top}" stroke-dasharray="3 3"/>')
            parts.append(f'<text class="faint" x="{at + 4:.1f}" y="{top + 11}">{escape(event["name"])}</text>')
        top += 22
        parts.append(f'<line class="rule" x1="14" x2="{WIDTH - 14}" y1="{top}" y2="{top}"/>')
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 8}" font-family="system-ui, sans-serif" font-size="12">')
    print(f"<style>{STYLE}</style>")
    print(f'<rect class="ground" width="{WIDTH}" height="{top + 8}"/>')
    print("\n".join(parts))
    print("</svg>")


main(sys.argv[1])
