"""Times every read of the admin API, with the filters of its lists: `admin.py URL`, with a token in NAS_CRON_ADMIN_TOKEN.

For a database that `populate.py` has filled; `pages.py` uses it on its own. The routes are those of the service's OpenAPI
document. Prints a Markdown table, the slowest first, in milliseconds: the first call, and the median and the slowest of the
others.
"""

import argparse
import json
import os
import statistics
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import tables
from processes import Failed

WARM = 8

# What `populate.py` has stored.
NAMES = {"instance_id": "scale-77", "job_id": "job-7", "org_id": "scale"}

# Queries of the lists beside the one without parameters: filters that match everything, little and nothing.
QUERIES = {
    "list_jobs": [
        "limit=200",
        "org_id=scale",
        "org_id=none",
        "instance_id=scale-77",
        "state=dead",
        "state=dead&org_id=scale&error=none",
        "state=armed&error=none",
        "state=dormant",
        "parked=true",
        "overdue=true",
        "outcome=gone",
        "next_attempt_before=2100-01-01T00:00:00Z",
        "fire_at_from=2100-01-01T00:00:00Z",
    ],
    "count_redrivable_jobs": ["org_id=scale", "error=none"],
    "list_agents": [
        "limit=1000",
        "org_id=scale",
        "org_id=none",
        "enabled=false",
        "enabled=true",
        "search=scale-7",
        "search=http",
        "search=none&org_id=scale",
    ],
    "list_audit_log": ["actor=none", "action=none", "subject=instance_id=none"],
    "list_auth_profiles": ["org_id=scale"],
    "list_events": ["type=clock.drifted"],
    "list_logins": ["org_id=scale"],
}


class Client:
    def __init__(self, url, token):
        self.url, self.headers = url.rstrip("/"), {"Authorization": f"Bearer {token}"}

    def get(self, path):
        return self.call("GET", path)

    def call(self, method, path, body=None):
        """Returns the body of the answer, and the milliseconds until it was complete."""
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers if body is None else {**self.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=600) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            raise Failed(f"{path}: status {error.code}: {error.read().decode()}") from error
        return json.loads(body), (time.perf_counter() - began) * 1e3


def calls(document):
    """Yields the route and the path of each call."""
    for route, item in document["paths"].items():
        operation = item.get("get")
        if not operation or not route.startswith("/api/admin/"):
            continue
        names = {name: urllib.parse.quote(value) for name, value in NAMES.items()}
        try:
            path = route.format(**names)
        except KeyError:
            continue  # of a webhook, of which there is none
        for query in ["", *QUERIES.get(operation["operationId"], [])]:
            yield route.removeprefix("/api/admin/"), query, f"{path}?{query}"


def measure(url, token, progress=lambda _: None):
    """Returns the times of every call, the slowest first."""
    client = Client(url, token)
    document, _ = client.get("/openapi.json")
    rows = []
    for route, query, path in calls(document):
        cold, *warm = [client.get(path)[1] for _ in range(1 + WARM)]
        rows.append({"route": route, "query": query, "cold_ms": cold, "p50_ms": statistics.median(warm), "max_ms": max(warm)})
        progress(f"{path}: {cold:.1f} ms, then {rows[-1]['p50_ms']:.1f} ms")
    return sorted(rows, key=lambda row: -row["p50_ms"])


def lines(rows):
    yield ["route", "query", "first", "others, median", "others, slowest"]
    for row in rows:
        query = f"`{row['query']}`" if row["query"] else ""
        times = [tables.shown(row[name], " ms", 1) for name in ("cold_ms", "p50_ms", "max_ms")]
        yield [f"`{row['route']}`", query, *times]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="base URL of the listener of the admin API")
    chosen = parser.parse_args()
    token = os.environ.get("NAS_CRON_ADMIN_TOKEN") or sys.exit("admin: set NAS_CRON_ADMIN_TOKEN")
    try:
        print(tables.markdown(list(lines(measure(chosen.url, token)))))
    except Failed as failed:
        sys.exit(f"admin: {failed}")


if __name__ == "__main__":
    main()
