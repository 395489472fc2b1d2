"""Teaches Schemathesis the forms of texts that JSON Schema cannot describe, and lets it call from many addresses.

It only shapes the requests that Schemathesis takes for valid. Every check applies to every operation.
"""

import itertools
from datetime import datetime

import requests.sessions
import schemathesis
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

# The service limits calls with an invalid admin token per client address.
ADDRESSES = [f"127.1.0.{number}" for number in range(1, 201)]


class FromAddress(HTTPAdapter):
    """Sends requests from one address of this machine."""

    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, source_address=(self.address, 0), **kwargs)


class FromManyAddresses(HTTPAdapter):
    """Sends each request from the next address."""

    adapters = itertools.cycle([FromAddress(address) for address in ADDRESSES])

    def send(self, request, **kwargs):
        return next(self.adapters).send(request, **kwargs)


requests.sessions.HTTPAdapter = FromManyAddresses

# Nothing listens there: the service calls no other machine.
PATHS = st.lists(st.sampled_from(["a", "b-c", "%20", "~x", "1"]), max_size=3)
URLS = st.builds(
    lambda scheme, port, path: "/".join([f"{scheme}://127.0.0.1:{port}", *path]),
    st.sampled_from(["http", "https"]),
    st.sampled_from([1, 7, 9]),
    PATHS,
)
schemathesis.openapi.format("uri", URLS)
# What looks like a secret is rejected.
schemathesis.openapi.format("auth-profile", st.from_regex(r"[a-z]{1,8}:[a-z0-9]{1,8}(\.[a-z]{1,8})?", fullmatch=True))
KEYS = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"]
schemathesis.openapi.format("openssh-key", st.sampled_from(KEYS))
# Tokens end in the future.
TIMES = st.datetimes(min_value=datetime(2100, 1, 1), max_value=datetime(9000, 1, 1))
schemathesis.openapi.format("date-time", TIMES.map(lambda at: at.replace(microsecond=0).isoformat() + "Z"))

# Rejections that depend on what is stored, or on a header and a body together: no schema can have them.
BEYOND_SCHEMAS = [
    "after: not a cursor",
    "after: the cursor belongs to another selection",
    "replaces: must be an identity of this agent",
    # RFC 6749, 5.2: an unknown refresh token gets 400. It is in the form or in a header.
    '"error":"invalid_grant"',
    "refresh_token: is missing",
    "refresh_token: must equal the header",
    "all: must be true to redrive without any condition",
    # Schemathesis also takes times from earlier responses, and they have passed.
    "expires_at: must be in the future",
    # Half of all encodings do not name a point of the curve.
    "agent_public_key: is not a valid Ed25519 public key",
]


def parts(value):
    """Returns a value and everything within it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value] + [part for one in inner for part in parts(one)]


def is_sound(part):
    """Texts may be too long in bytes: JSON Schema counts characters. Large integers are rejected in any JSON."""
    if isinstance(part, str):
        return part.isascii() or len(part.encode()) <= 255
    return not isinstance(part, (int, float)) or abs(part) < 2**53


@schemathesis.hook
def filter_case(context, case):
    """Leaves out cases that no schema can tell from valid ones."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return True
    values = [dict(case.path_parameters or {}), dict(case.query or {}), case.body]
    return all(is_sound(part) for value in values for part in parts(value))


@schemathesis.hook
def map_query(context, query):
    """Permits a redrive without conditions: it needs one, or `all`."""
    return {"all": "true", **(query or {})} if context.operation.path == "/api/admin/jobs/redrive" else query


@schemathesis.hook
def map_body(context, body):
    """Moves a limit that lies before the fire."""
    if isinstance(body, dict) and isinstance(body.get("not_after"), str) and isinstance(body.get("fire_at"), str):
        return {**body, "not_after": max(body["not_after"], body["fire_at"])}
    return body


def has_international_url(case):
    """The service also accepts URLs that are not ASCII, as people write them. The format `uri` does not."""
    urls = [part for part in parts(case.body) if isinstance(part, str) and part.startswith("http")]
    return any(not url.isascii() for url in urls)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Accepts that a valid request is rejected for one of the reasons above, and that an international URL is accepted."""
    if isinstance(failure, AcceptedNegativeData) and "not matching the 'uri' format" in failure.message:
        return not has_international_url(case)
    is_rejection = isinstance(failure, RejectedPositiveData) and response.status_code == 400
    return not is_rejection or not any(reason in response.text for reason in BEYOND_SCHEMAS)
