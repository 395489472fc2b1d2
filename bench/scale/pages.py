"""Times the operators' page and the admin API on a large database: `make bench-pages`.

It fills the database of a service of its own, signs in, and finds the pages by the links on them. A page is **cold** when it is
the first request after a restart of the service and of Postgres, and **warm** afterwards. A request ends with the last byte.
Then it times every read of the admin API (`admin.py`), and changes of many jobs (`writes.py`).
"""

import argparse
import html
import json
import re
import statistics
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import admin
import populate
import tables
import webhook
import writes
from options import ROOT, number, programs
from populated import progress
from processes import Failed
from service import Service

# The longest that any page may take.
AIM_MS = 300
WARM = 20
# Pages of the overview, which is kept for 5 s: with this pause, one warm request in five reads it again.
OF_OVERVIEW = {"/ops", "/ops/load", "/ops/backends"}
PAUSE_S = 1.05
# No page links to a switch, because only postgres is configured: a switch to another backend has the status 409. This one is to the
# active backend. It runs the statements of any other, but finds no one-shot to count.
SWITCH = "/ops/backends/switch?backend=postgres"

# Everything that a front page can have: a busy hour to come, fires of two days, dormant jobs, holds, unreachable agents.
TROUBLES = """
UPDATE one_shots SET next_attempt_at = now() + interval '30 min' + (hashtext(job_id || instance_id) & 1023) * interval '1.75 s'
WHERE instance_id IN (SELECT instance_id FROM instances WHERE org_id = 'scale' ORDER BY instance_id LIMIT {due} / 10)
  AND state = 'armed';
INSERT INTO fire_minutes
SELECT date_trunc('minute', now()) - n * interval '1 min', 6000, 12, 3, 0, array_fill(0, ARRAY[8]) || ARRAY[900, 4000, 1000, 100, 10]
FROM generate_series(0, 2879) AS n ON CONFLICT DO NOTHING;
UPDATE one_shots SET state = 'delivered', next_attempt_at = NULL, due_since = NULL, last_outcome = 'delivered'
WHERE job_id = 'job-7' AND instance_id IN (SELECT instance_id FROM instances ORDER BY instance_id DESC LIMIT 2000) AND state = 'armed';
INSERT INTO awaited_rearms
SELECT instance_id, job_id, schedule_id, now() - interval '1 day', 'daily', now(), now(), '1 d', now()
FROM one_shots WHERE state = 'delivered' AND job_id = 'job-7' ON CONFLICT DO NOTHING;
INSERT INTO holds (scope, scope_id, reason)
SELECT 'instance', instance_id, 'bench' FROM instances WHERE instance_id LIKE 'scale-1%9' ORDER BY 2 LIMIT 100 ON CONFLICT DO NOTHING;
UPDATE instances SET unreachable_since = now(), probe_job_id = 'job-1'
WHERE instance_id IN (SELECT instance_id FROM instances WHERE instance_id LIKE 'scale-2%' ORDER BY 1 LIMIT 500);
"""

LINK = re.compile(r'href="(/ops[^"]*)"')


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Browser:
    """A browser that has signed in."""

    def __init__(self, service):
        self.base = service.dev["admin_url"]
        self.opener = urllib.request.build_opener(NoRedirects)
        fields = urllib.parse.urlencode({"token": service.dev["admin_token"]}).encode()
        headers = {"Sec-Fetch-Site": "same-origin", "Origin": "null"}
        try:
            self.opener.open(urllib.request.Request(f"{self.base}/ops/sign-in", fields, headers), timeout=30)
        except urllib.error.HTTPError as answer:
            cookie = answer.headers.get("Set-Cookie")
            if answer.status == 303 and cookie:
                self.cookie = cookie.split(";")[0]
                return
        raise Failed("signing in at /ops failed")

    def get(self, path):
        """Returns the HTML of a page, and the milliseconds to its last byte."""
        request = urllib.request.Request(self.base + path, headers={"Cookie": self.cookie})
        began = time.perf_counter()
        try:
            with self.opener.open(request, timeout=60) as response:
                text = response.read().decode()
        except urllib.error.HTTPError as error:
            raise Failed(f"{path}: status {error.code} after {time.perf_counter() - began:.1f} s") from error
        return text, (time.perf_counter() - began) * 1e3


def found(browser):
    """Returns the paths of all pages: the switch, and those that the front page and the first page of each list link to, one of each
    kind.
    """
    kinds, queue = {}, ["/ops", SWITCH]
    while queue:
        path = queue.pop(0)
        kind = kind_of(path)
        if kind in kinds or path.startswith(("/ops/assets", "/ops/sign-in", "/ops/audit?")):
            continue
        kinds[kind] = path
        queue += [html.unescape(link).split("#")[0] for link in LINK.findall(browser.get(path)[0])]
    return list(kinds.values())


def kind_of(path):
    """A page and its conditions, without the IDs in them."""
    parts = urllib.parse.urlsplit(path)
    words = {"state", "overdue", "parked", "outcome"}
    pairs = urllib.parse.parse_qsl(parts.query)
    return parts.path, tuple((name, value if name in words else "") for name, value in pairs)


def measure(service, path):
    """Returns the cold time of a page, and its warm ones."""
    service.stop()
    service.start()
    browser = Browser(service)
    _, cold = browser.get(path)
    warm = []
    for _ in range(WARM):
        time.sleep(PAUSE_S if path in OF_OVERVIEW else 0)
        warm.append(browser.get(path)[1])
    return {"path": path, "cold_ms": round(cold, 1), "p50_ms": round(statistics.median(warm), 1), "max_ms": round(max(warm), 1)}


def lines(rows):
    yield ["page", "cold", "warm, median", "warm, slowest"]
    for row in rows:
        yield [f"`{row['path']}`", *(tables.shown(row[name], " ms", 0) for name in ("cold_ms", "p50_ms", "max_ms"))]


def main():
    parser = argparse.ArgumentParser(description="Time the operators' page and the admin API on a large database.")
    add = parser.add_argument
    add("--one-shots", type=number(1000, 10**8), default=10**6, help="armed one-shots [1000000]")
    add("--history", type=number(0, 10**9), default=10**7, help="rows of history [10000000]")
    add("--due", type=number(0, 10**8), default=100_000, help="one-shots that come due within an hour, and dead letters to redrive [100000]")
    add("--dir", type=Path, default=ROOT / "target/bench-scale", help="folder of data, on a disk")
    add("--binary", type=Path, default=ROOT / "target/release/nas-cron", help="release build of nas-cron")
    add("--json", action="store_true", help="print the results as JSON")
    chosen = parser.parse_args()
    chosen.dir, chosen.binary = chosen.dir.resolve(), chosen.binary.resolve()
    try:
        chosen.programs = programs(None)
        with Service(chosen, "pages") as service:
            populate.armed(service.database, chosen.one_shots, progress)
            populate.history(service.database, chosen.history, progress)
            service.database.run(TROUBLES.format(due=chosen.due))
            webhook.create(service)
            populate.settle(service.database)
            rows = []
            for path in found(Browser(service)):
                rows.append(measure(service, path))
                progress(f"{path}: {rows[-1]['cold_ms']} ms cold, {rows[-1]['p50_ms']} ms warm")
            webhook.remove(service.database)
            service.stop()
            service.start()
            reads = admin.measure(service.dev["admin_url"], service.dev["admin_token"], progress)
            client = admin.Client(service.dev["admin_url"], service.dev["admin_token"])
            changes = writes.measure(client, service.database, chosen.due, progress)
    except Failed as failed:
        print(f"bench-pages: {failed}", file=sys.stderr)
        return 1
    if chosen.json:
        print(json.dumps({"pages": rows, "reads": reads, "changes": changes}, indent=1))
    else:
        shown = [lines(rows), admin.lines(reads), writes.lines(changes)]
        print(*(tables.markdown(list(one)) for one in shown), sep="\n\n")
    slow = [row["path"] for row in rows if max(row["cold_ms"], row["max_ms"]) > AIM_MS]
    if slow:
        print(f"bench-pages: slower than {AIM_MS} ms: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
