"""Reads times and JSON as Python does.

stdin:  {"times": ["…"], "json": ["<base64>"]}
stdout: {"times": [microseconds since 1970 or null], "json": [{"value": …} or null], "written": [["…", microseconds]]}

`written` are random texts of isoformat(), which real agents send.
"""

import base64
import json
import random
import sys
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def micros(at):
    return (at - EPOCH) // timedelta(microseconds=1)


def time(text):
    try:
        at = datetime.fromisoformat(text)
        return None if at.tzinfo is None else micros(at)
    except (ValueError, OverflowError):
        return None


def parsed(text):
    try:
        return {"value": json.loads(base64.b64decode(text).decode("utf-8"))}
    except (ValueError, RecursionError):
        return None


def written():
    # Seeded, so that a failure can be repeated.
    source = random.Random(13)
    for _ in range(1000):
        zone = timezone(timedelta(minutes=source.randint(-1439, 1439)))
        at = EPOCH + timedelta(
            days=source.randint(1, 2_900_000),
            seconds=source.randint(0, 86399),
            microseconds=source.choice([0, source.randint(1, 999_999)]),
        )
        at = at.astimezone(zone)
        yield at.isoformat(), micros(at)


asked = json.load(sys.stdin)
json.dump(
    {
        "times": [time(text) for text in asked["times"]],
        "json": [parsed(text) for text in asked["json"]],
        "written": list(written()),
    },
    sys.stdout,
)
