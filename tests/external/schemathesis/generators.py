"""Teaches Schemathesis the forms of texts that JSON Schema cannot describe, and lets it call from many addresses.

It only shapes the requests that Schemathesis takes for valid. No check and no operation is excluded.
"""

import itertools

import requests.sessions
import schemathesis
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter

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
# Tokens must not have expired.
TIMES = st.datetimes(
    min_value=__import__("datetime").datetime(2100, 1, 1), max_value=__import__("datetime").datetime(9000, 1, 1)
)
schemathesis.openapi.format("date-time", TIMES.map(lambda at: at.isoformat() + "Z"))
