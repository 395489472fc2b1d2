"""The limits of the machine, measured in the same run: without them, results of two machines or hours are not comparable."""

import json
import os
import re
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from options import IN_FLIGHT
from processes import Child, Failed, output
from systems import System

HERE = Path(__file__).resolve().parent
PERIOD_S = 4
# The sink must not be what limits the systems.
MINIMUM_POSTS = 20_000


def measure(tools, folder, short):
    """Returns the limits by name, in events per second."""
    period = 1 if short else PERIOD_S
    return {
        "pgbench_upserts": upserts(tools, folder, period),
        "fdatasyncs": fdatasyncs(folder / "fdatasync", period / 2),
        "es256_signs": signs(tools, period / 2),
        **posts(tools, folder, period),
    }


def upserts(tools, folder, seconds):
    with Child("Postgres", [tools.helper, "postgres", "--dir", folder / "calibration"], folder / "postgres.log") as server:
        started = server.response()
        url = urlsplit(started["url"])
        # pgbench has no options for a socket's folder and a database in one URL.
        host, database = parse_qs(url.query)["host"][0], url.path.strip("/")
        connection = ["-h", host, "-p", url.port, "-U", url.username, database]
        # A folder of links often has only those of the server.
        programs = (Path(started["programs"]) / "postgres").resolve().parent
        for program in ("psql", "pgbench"):
            if not (programs / program).exists():
                raise Failed(f"{programs} has no {program}: install the package with Postgres's clients")
        output("psql", [programs / "psql", "-q", "-f", HERE / "upsert-table.sql", *connection], 30)
        load = ["-n", "-M", "prepared", "-c", IN_FLIGHT, "-j", 2, "-T", seconds, "-f", HERE / "upsert.sql"]
        text = output("pgbench", [programs / "pgbench", *load, *connection], seconds + 60)
        tps = re.search(r"^tps = ([0-9.]+) \(without", text, re.MULTILINE)
        if not tps:
            raise Failed(f"pgbench reported no rate:\n{text}")
        return round(float(tps[1]))


def fdatasyncs(path, seconds):
    """Writes 8 KiB and syncs, as Postgres does with its log for one client."""
    page, count = bytes(8192), 0
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.pwrite(file, bytes(16 * 2**20), 0)
        os.fsync(file)
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            os.pwrite(file, page, count % 2048 * 8192)
            getattr(os, "fdatasync", os.fsync)(file)
            count += 1
        return round(count / (time.monotonic() - start))
    finally:
        os.close(file)
        os.unlink(path)


def posts(tools, folder, seconds):
    with Child("the sink", [tools.helper, "sink"], folder / "sink.log") as sink:
        url = sink.response()["url"]
        sink.request({"expect": {"prefix": "c", "agents": 1, "due_ms": [0]}})
        text = output("the POST load", [tools.helper, "posts", "--url", url, "--period", f"{seconds}s"], seconds + 60)
        node = tools.node_limits({"sink": url, "connections": System.connections, "seconds": seconds / 2})
    return {
        "raw_posts": round(json.loads(text)["posts_per_s"]),
        "node_es256_tokens": node["tokens_per_s"],
        "node_fires": node["fires_per_s"],
    }


def signs(tools, seconds):
    period = f"{round(seconds * 1000)}ms"
    return round(json.loads(output("the signing load", [tools.helper, "signs", "--period", period], 60))["signs_per_s"])


def warnings(limits):
    if limits["raw_posts"] < MINIMUM_POSTS:
        return [f"the sink accepts only {limits['raw_posts']} POST/s: it may limit the bursts"]
    return []
