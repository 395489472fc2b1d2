"""Reads times, JSON, URLs and tokens as Python does.

stdin:  {"times": ["…"], "json": ["<base64>"], "urls": ["…"], "tokens": {"jwks": …, "issuer": "…", "tokens": ["…"]}}
stdout: {"times": [microseconds since 1970 or null], "json": [{"value": …} or null], "written": [["…", microseconds]],
         "urls": [[{"scheme", "host", "port"} or null, by urllib and by rfc3986]], "tokens": [{"client_id", "org_id"} or null]}

Each member of stdin is optional. `written` are random texts of isoformat(), which real agents send.
"""

import base64
import json
import random
import sys
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import jwt
import rfc3986

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


def by_urllib(text):
    try:
        parts = urlsplit(text)
        return {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
    except ValueError:
        return None


def by_rfc3986(text):
    try:
        uri = rfc3986.uri_reference(text)
        authority = uri.authority_info()
        port = authority["port"]
        return {
            "scheme": uri.scheme.lower(),
            "host": authority["host"].lower(),
            "port": int(port) if port else None,
        }
    except (rfc3986.exceptions.RFC3986Exception, AttributeError, UnicodeError):
        return None


def verified(token, keys, issuer):
    """Returns the claims that are compared, by the rules that PyJWT and nas-cron share."""
    try:
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token,
            key,
            algorithms=["ES256", "ES384", "EdDSA", "RS256", "PS256"],
            issuer=issuer,
            leeway=30,
            options={"require": ["exp", "iss"], "verify_aud": False},
        )
        texts = {name: claims[name] for name in ("client_id", "org_id") if isinstance(claims.get(name), str)}
        # The reader of this output refuses half a surrogate pair.
        return {name: text.encode("utf-8", "replace").decode() for name, text in texts.items()}
    except (jwt.PyJWTError, KeyError, ValueError, TypeError, OverflowError):
        return None


asked = json.load(sys.stdin)
tokens = asked.get("tokens", {"jwks": {"keys": []}, "issuer": "", "tokens": []})
keys = {key["kid"]: jwt.PyJWK(key) for key in tokens["jwks"]["keys"]}
json.dump(
    {
        "times": [time(text) for text in asked.get("times", [])],
        "json": [parsed(text) for text in asked.get("json", [])],
        "written": list(written()),
        "urls": [[by_urllib(text), by_rfc3986(text)] for text in asked.get("urls", [])],
        "tokens": [verified(token, keys, tokens["issuer"]) for token in tokens["tokens"]],
    },
    sys.stdout,
)
