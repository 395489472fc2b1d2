#!/usr/bin/env python3
"""Drive a real hermes-agent through a running nas-cron: loopback only, and all jobs are plain scripts.

The steps, in the order of ``Journey.checks``:

1. The driver writes a temporary ``HERMES_HOME``: the access token of one agent of ``nas-cron dev``, the cron provider
  ``chronos`` with the service as its portal, and one script per job that records the time of each run. It starts
  ``hermes serve`` with it; that process receives the fires, runs the jobs and re-arms them.
2. While the agent has only a job that is due in years, the driver arms a one-shot under the agent's identity whose
  callback is a small server in this process. This gives the arrival time of a fire, to the microsecond, and a genuine
  fire token. The driver then tests the agent's verifier: the agent must accept the genuine token with 202 and run the
  job, and reject a token that is forged, expired or for another agent with 401 and run nothing.
3. ``hermes cron create`` arms a one-shot (microseconds) and then a recurring job (six-field cron). No run may begin
  before its due time or more than ``LATEST_US`` after it. ``list`` must contain, byte for byte, the ``fire_at`` of the
  agent's ``jobs.json``, because the agent compares them as strings.
4. ``hermes cron remove`` and the agent's clean-up of unknown one-shots must disarm permanently. The service must stop
  firing a job that was deleted from the agent without a cancel (200 ``gone``).

A check that must end before a due time is repeated with twice the time if the machine was too slow for it
(``Journey.before_due``). No other check depends on the speed of the machine.

Every check prints ``ok <name>`` or ``FAILED <name>: <reason>``; the last line is ``<n> passed, <n> failed``; the exit
code is 0 only if no check failed. Run it with a python that has the packages of ``requirements.txt``.
"""

from __future__ import annotations

import argparse
import ctypes
import http.server
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

# Not UTC, and not whole hours: a service that stores the instant and formats it again fails the checks.
AGENT_ZONE = "Asia/Kathmandu"
AGENT_OFFSET = timezone(timedelta(hours=5, minutes=45))

LATEST_US = 60_000_000  # maximum lateness of a run, on a machine that is busy with other work
WATCHED_US = 2_000_000  # time after the due time for which the driver watches that a job does not run
HOUR = 3600.0
# Of the recurring job, by period in seconds.
CRON_SCHEDULES = {
    **{seconds: f"* * * * * */{seconds}" for seconds in (5, 10, 15, 20, 30)},
    **{minutes * 60: f"*/{minutes} * * * *" for minutes in (1, 2, 4)},
}
CRON_RUNS = 3
TRIES = 5  # of a check that must end before a due time, with twice the time for each
SERVE_STARTS_WITHIN = 180.0  # usually 1 to 3 s, but far more with a cold disk cache
CLI_ENDS_WITHIN = 180.0
SETTLED_WITHIN = 120.0  # from a response of the agent to the change in `list`
CALL_ENDS_WITHIN = 60.0

# For direct mode, in which QStash calls the agent: QStash fires in whole seconds, and nas-cron publishes each call some
# seconds ahead and reads the log of QStash at intervals.
DIRECT_WATCHED_US = 4_000_000
DIRECT_FIRE_AHEAD = 6.0
DIRECT_TOKEN_OUTLIVES = 300

T = TypeVar("T")


class Failure(Exception):
    """The reason of a failed check, as shown in the test's output."""


def require(condition: object, why: str) -> None:
    if not condition:
        raise Failure(why)


def eventually(seconds: float, probe: Callable[[], T]) -> T:
    """Returns the first result of ``probe`` without a `Failure`; after the timeout raises the last `Failure`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return probe()
        except Failure as last:
            if time.monotonic() >= deadline:
                raise Failure(f"{last} (waited {seconds:.1f} s)") from None
        time.sleep(0.05)


def now_us() -> int:
    return time.time_ns() // 1000


def instant_us(iso: str) -> int:
    """Returns the instant of an ISO 8601 text in integer microseconds, because a float would round it."""
    return (datetime.fromisoformat(iso) - datetime.fromtimestamp(0, timezone.utc)) // timedelta(microseconds=1)


def sleep_until(instant: int) -> None:
    time.sleep(max(0.0, (instant - now_us()) / 1e6))


def in_seconds(seconds: float) -> str:
    """Returns a due time in the format of the agent, never on a whole millisecond."""
    due = datetime.fromtimestamp(time.time() + seconds, AGENT_OFFSET)
    return due.replace(microsecond=due.microsecond // 1000 * 1000 + 457).isoformat()


def require_in_its_instant(what: str, began: int, due: str) -> None:
    late = began - instant_us(due)
    require(late >= 0, f"{what} {-late / 1000:.1f} ms before its due time {due}")
    require(late <= LATEST_US, f"{what} {late / 1000:.0f} ms after its due time {due}")


# --- HTTP -----------------------------------------------------------------------------------------------------------

# Without the proxy of the environment: all calls are on loopback.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.text)
        except ValueError:
            raise Failure(f"invalid JSON in {self}") from None

    def __str__(self) -> str:
        return f"{self.status} {self.text[:200]}"


def call(method: str, url: str, body: object = None, **headers: str) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **names}, method=method)
    try:
        with HTTP.open(request, timeout=CALL_ENDS_WITHIN) as response:
            return Answer(response.status, response.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(errors="replace"))
    except OSError as error:
        raise Failure(f"{method} {url}: {error}") from None


class Service:
    """A client of the agent API that uses the agent's access token."""

    def __init__(self, portal_url: str, access_token: str) -> None:
        self.base = f"{portal_url.rstrip('/')}/api/agent-cron"
        self.bearer = f"Bearer {access_token}"

    def listing(self) -> dict[str, list[dict[str, Any]]]:
        answer = call("GET", f"{self.base}/list", Authorization=self.bearer)
        require(answer.status == 200, f"list returned {answer}")
        return answer.json

    def armed(self, job_id: str) -> str | None:
        """Returns ``fire_at`` of the job's one-shot, exactly as in ``list``."""
        return next((row["fire_at"] for row in self.listing()["armed"] if row["job_id"] == job_id), None)

    def require_forgotten(self, job_id: str) -> None:
        """Requires that the job is neither armed nor dead in ``list``, as after a delivery or a cancel."""
        listing = self.listing()
        for part in ("armed", "dead"):
            mine = [row for row in listing.get(part, []) if row["job_id"] == job_id]
            require(not mine, f"still in list.{part}: {mine}")

    def provision(self, job_id: str, fire_at: str, callback_url: str) -> None:
        body = {
            "job_id": job_id,
            "fire_at": fire_at,
            "agent_callback_url": callback_url,
            "dedup_key": f"{job_id}:{fire_at}",
        }
        answer = call("POST", f"{self.base}/provision", body, Authorization=self.bearer)
        require(answer.status == 200 and answer.json.get("schedule_id"), f"provision returned {answer}")


@dataclass(frozen=True)
class Caught:
    at: int
    path: str
    token: str
    body: Any


class Catcher:
    """An agent's callback that records and accepts fires.

    The real agent does not report when a fire arrived, and a fire of an unknown job leaves no trace there. One-shots
    whose fires must be observed are armed for this callback instead.
    """

    def __init__(self) -> None:
        self.caught: list[Caught] = []
        catcher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at = now_us()
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                catcher.caught.append(Caught(at, self.path, token, json.loads(body)))
                answer = b'{"status":"accepted"}'
                self.send_response(202)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fires_of(self, job_id: str) -> list[Caught]:
        return [one for one in self.caught if one.body.get("job_id") == job_id]

    def wait_for(self, job_id: str, due: str) -> Caught:
        def arrived() -> Caught:
            fires = self.fires_of(job_id)
            require(fires, f"no fire for {job_id}, due {due}, arrived at {self.url}")
            return fires[0]

        return eventually((instant_us(due) - now_us() + LATEST_US) / 1e6 + SETTLED_WITHIN, arrived)


# --- the agent ------------------------------------------------------------------------------------------------------


LIBC = ctypes.CDLL(None)  # loaded here, because as little as possible may happen between fork and exec
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For children: a test that times out kills this driver with SIGKILL, so that no ``finally`` runs here."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Job:
    name: str
    id: str


class Agent:
    """hermes-agent, installed beside this interpreter, with a temporary home."""

    def __init__(self, home: Path, port: int, portal_url: str, jwks_url: str, agent: dict[str, Any]) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.session = secrets.token_urlsafe(32)
        self.server: subprocess.Popen[bytes] | None = None
        self.cli_seconds = 1.0
        self.numbers = itertools.count(1)
        self.write_home(portal_url, jwks_url, agent)

    def write_home(self, portal_url: str, jwks_url: str, agent: dict[str, Any]) -> None:
        chronos = {
            "portal_url": portal_url,
            "callback_url": self.url,
            "expected_audience": f"agent:{agent['instance_id']}",
            "nas_jwks_url": jwks_url,
        }
        # JSON is valid YAML, and needs no package for correct quoting.
        config = {"timezone": AGENT_ZONE, "cron": {"provider": "chronos", "chronos": chronos}}
        # No refresh token, and a late expiry, because refreshes would be sent to the vendor's portal.
        login = {
            "access_token": agent["access_token"],
            "expires_at": (datetime.now(timezone.utc) + timedelta(days=30)).isoformat(),
        }
        auth = {"version": 1, "active_provider": "nous", "providers": {"nous": login}}
        (self.home / "config.yaml").write_text(json.dumps(config, indent=1))
        (self.home / "auth.json").write_text(json.dumps(auth, indent=1))
        (self.home / "auth.json").chmod(0o600)
        (self.home / "scripts").mkdir()

    def environment(self) -> dict[str, str]:
        # Only PATH is inherited: proxies and keys of the caller must not affect the agent, and a separate HOME keeps it
        # from reading the caller's files.
        home = str(self.home)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": home,
            "HERMES_HOME": home,
            "LC_ALL": "C.UTF-8",  # also for the decimal point of the scripts' timestamps
            "HERMES_DASHBOARD_SESSION_TOKEN": self.session,
        }

    def spawn(self, arguments: list[str], out: str, err: str) -> subprocess.Popen[bytes]:
        # The console script beside this interpreter. The path is not resolved: a venv's python is a symbolic link.
        hermes = Path(sys.executable).parent / "hermes"
        with (self.home / out).open("ab") as stdout, (self.home / err).open("ab") as stderr:
            return subprocess.Popen(
                [str(hermes), *arguments],
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def serve(self) -> None:
        """Starts the server and waits for its announcement: an open port could belong to another process."""
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(self.port)]
        self.server = self.spawn(arguments, "serve.out", "serve.err")
        deadline = time.monotonic() + SERVE_STARTS_WITHIN
        while "HERMES_BACKEND_READY" not in self.text_of("serve.out"):
            ended = self.server.poll()
            require(ended is None, f"`hermes serve` ended with {ended}")
            require(time.monotonic() < deadline, f"`hermes serve` was not ready within {SERVE_STARTS_WITHIN:g} s")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.server:
            end(self.server)

    def cli(self, *arguments: str) -> None:
        began = time.monotonic()
        child = self.spawn(list(arguments), "cli.out", "cli.err")
        try:
            code = child.wait(CLI_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            raise Failure(f"`hermes {' '.join(arguments)}` did not end within {CLI_ENDS_WITHIN:g} s") from None
        finally:
            end(child)
        self.cli_seconds = max(self.cli_seconds, time.monotonic() - began)
        require(code == 0, f"`hermes {' '.join(arguments)}` ended with {code}")

    @property
    def lead(self) -> float:
        """Time until a job is due that is usually enough for a command and the checks of its effect."""
        return 2 * self.cli_seconds + 1.5

    def create(self, kind: str, schedule: str) -> Job:
        name = f"{kind}_{next(self.numbers)}"
        # bash 5 has EPOCHREALTIME; other shells need GNU date. Each job has its own file.
        script = f'printf "%s\\n" "${{EPOCHREALTIME:-$(date +%s.%N)}}" >> {name}.runs\n'
        (self.home / "scripts" / f"{name}.sh").write_text(script)
        self.cli(
            "cron", "create", schedule, "--name", name, "--script", f"{name}.sh", "--no-agent", "--deliver", "local"
        )
        mine = [job["id"] for job in self.jobs() if job["name"] == name]
        require(len(mine) == 1, f"jobs.json contains {len(mine)} jobs named {name}")
        return Job(name, mine[0])

    def remove(self, job: Job) -> None:
        self.cli("cron", "remove", job.id)

    def delete_behind_its_back(self, job: Job) -> None:
        """Deletes a job by the dashboard's route, which edits the store without a call to the cron provider."""
        answer = call("DELETE", f"{self.url}/api/cron/jobs/{job.id}", X_Hermes_Session_Token=self.session)
        require(answer.status == 200, f"the dashboard's DELETE returned {answer}")
        require(self.next_run(job) is None, f"jobs.json still contains {job}")

    def jobs(self) -> list[dict[str, Any]]:
        return json.loads((self.home / "cron" / "jobs.json").read_text())["jobs"]

    def next_run(self, job: Job) -> str | None:
        return next((one["next_run_at"] for one in self.jobs() if one["id"] == job.id), None)

    def is_claimed(self, job: Job) -> bool:
        return any(one["id"] == job.id and one.get("fire_claim") for one in self.jobs())

    def runs(self, job: Job) -> list[int]:
        """Returns the times of the job's runs, in microseconds."""
        return [int(Decimal(line) * 1_000_000) for line in self.text_of(f"scripts/{job.name}.runs").split()]

    def fire(self, token: str | None, job_id: str) -> Answer:
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        return call("POST", f"{self.url}/api/cron/fire", {"job_id": job_id}, **bearer)

    def text_of(self, name: str) -> str:
        try:
            return (self.home / name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def print_tails(self) -> None:
        for name in ("serve.out", "serve.err", "cli.out", "cli.err", "logs/agent.log"):
            print(f"--- the end of {name}")
            # Every start lists the plugins, which are irrelevant here.
            lines = [line for line in self.text_of(name).splitlines() if "hermes_cli.plugins" not in line]
            print("\n".join(lines[-25:]))


def end(child: subprocess.Popen[bytes]) -> None:
    """Ends the child and its descendants: each child leads a process group."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # The group ended with its leader.
    child.wait()


# --- tokens ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signer:
    key: Any
    kid: str
    alg: str

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self.key, self.alg, headers={"kid": self.kid})


def stranger(kid: str, alg: str) -> Signer:
    """A key of the right type under the service's ``kid``: others would be rejected before the signature check."""
    key = ec.generate_private_key(ec.SECP256R1()) if alg == "ES256" else rsa.generate_private_key(65537, 2048)
    return Signer(key, kid, alg)


def with_broken_signature(token: str) -> str:
    head, claims, signature = token.split(".")
    # In the middle, because the last character of base64 may contain unused bits.
    at = len(signature) // 2
    return f"{head}.{claims}.{signature[:at]}{'A' if signature[at] != 'A' else 'B'}{signature[at + 1 :]}"


def with_other_claims(token: str) -> str:
    head, _, signature = token.split(".")
    unsigned = jwt.encode({**read_unverified(token), "jti": uuid.uuid4().hex}, None, "none")
    return f"{head}.{unsigned.split('.')[1]}.{signature}"


def read_unverified(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


@dataclass(frozen=True)
class Fault:
    """A fault of a token, and the reason in the agent's log if the signature is valid."""

    name: str
    reason: str
    claims: dict[str, Any]

    def put_into(self, good: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in {**good, **self.claims}.items() if value is not None}


FORGED = "Signature verification failed"
LONG_AGO = 1_700_000_000  # unix seconds; the agent's leeway is 30 s
FAULTS = [
    Fault("expired", "Signature has expired", {"iat": LONG_AGO, "nbf": LONG_AGO, "exp": LONG_AGO + 90}),
    Fault("wrong_aud", "Audience doesn't match", {"aud": "agent:another"}),
    Fault("wrong_iss", "Invalid issuer", {"iss": "http://127.0.0.1:1"}),
    Fault("wrong_purpose", "purpose claim", {"purpose": "agent"}),
    Fault("missing_purpose", "purpose claim", {"purpose": None}),
]


# --- checks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[], None]
    needs: tuple[str, ...] = ()


@dataclass
class Report:
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def run(self, check: Check) -> None:
        """Runs a check. It fails if a check that it needs has not passed."""
        missing = [name for name in check.needs if name not in self.passed]
        if missing:
            return self.fail(check.name, f"needs {', '.join(missing)}")
        try:
            check.run()
        except Failure as failure:
            self.fail(check.name, str(failure))
        except Exception as error:  # A bug in this script is a failed check and must not abort the report.
            traceback.print_exc()
            self.fail(check.name, f"{type(error).__name__}: {error}")
        else:
            self.passed.add(check.name)
            print(f"ok {check.name}", flush=True)

    def fail(self, name: str, why: str) -> None:
        self.failed.add(name)
        print(f"FAILED {name}: {' '.join(why.split())}", flush=True)


class Journey:
    def __init__(self, options: argparse.Namespace) -> None:
        dev = json.loads(options.dev_json.read_text())
        self.identity = dev["agents"][options.agent]
        self.portal_url = dev["portal_url"]
        self.service = Service(self.portal_url, self.identity["access_token"])
        bystander = None if options.bystander is None else dev["agents"][options.bystander]
        self.bystander = bystander and Service(self.portal_url, bystander["access_token"])
        self.catcher = Catcher()
        self.direct = options.direct
        self.brief = options.brief
        self.watched_us = DIRECT_WATCHED_US if self.direct else WATCHED_US
        self.agent = Agent(options.home, options.port, self.portal_url, dev["jwks_url"], self.identity)
        self.accepted = 0
        self.signer = None
        if options.signing_key_pem:
            self.signer = Signer(options.signing_key_pem.read_text(), options.kid, options.alg)

    def checks(self) -> list[Check]:
        checks = [
            Check("access_token_lasts", self.access_token_lasts),
            Check("serve_starts", self.serve_starts, ("access_token_lasts",)),
            Check("verifier_has_a_job", self.verifier_has_a_job, ("serve_starts",)),
            Check("fire_caught", self.fire_caught, ("access_token_lasts",)),
            Check("fire_in_its_instant", self.fire_in_its_instant, ("fire_caught",)),
            Check("fire_as_promised", self.fire_as_promised, ("fire_caught",)),
            Check("fire_token_opens_nothing_else", self.fire_token_opens_nothing_else, ("fire_caught",)),
            *self.verifier_checks(),
            Check("provision_seen", self.provision_seen, ("serve_starts",)),
            Check("fired_on_time", self.fired_on_time, ("provision_seen",)),
            Check("gone_from_list", self.gone_from_list, ("fired_on_time",)),
        ]
        if self.brief:
            return checks
        return [
            *checks,
            Check("recurring_rearms", self.recurring_rearms, ("serve_starts",)),
            Check("cancelled", self.cancelled, ("recurring_rearms",)),
            Check("orphan_cancelled", self.orphan_cancelled, ("verifier_has_a_job",)),
            Check("unknown_job_let_go", self.unknown_job_let_go, ("serve_starts",)),
            Check("delivered_once", self.delivered_once, ("fire_caught",)),
        ]

    # - preconditions

    def access_token_lasts(self) -> None:
        left = read_unverified(self.identity["access_token"])["exp"] - time.time()
        require(left > 180, f"the access token in --dev-json expires in {left:.0f} s; the checks take a minute")

    def serve_starts(self) -> None:
        self.agent.serve()

    # - one fire, received by this process

    def catch_fire(self, service: Service) -> tuple[Caught, str]:
        """Only while nothing else is due soon: the service treats a new callback as a move of the whole agent."""
        job_id, due = uuid.uuid4().hex[:12], self.soon()
        service.provision(job_id, due, self.catcher.url)
        return self.catcher.wait_for(job_id, due), due

    def soon(self) -> str:
        return in_seconds(DIRECT_FIRE_AHEAD if self.direct else 1.0)

    def fire_caught(self) -> None:
        self.genuine, self.genuine_due = self.catch_fire(self.service)

    def fire_in_its_instant(self) -> None:
        require_in_its_instant("fired", self.genuine.at, self.genuine_due)

    def fire_as_promised(self) -> None:
        fire, due = self.genuine, self.genuine_due
        require(fire.path == "/api/cron/fire", f"POSTed to {fire.path}")
        require(fire.body.get("fire_at") == due, f"armed for {due}, fired with {fire.body}")
        header, claims = jwt.get_unverified_header(fire.token), read_unverified(fire.token)
        require(header.get("kid"), f"no kid in {header}")
        require(header["alg"] in ("ES256", "RS256"), f"signed with {header['alg']}")
        expected = {
            "iss": self.portal_url,
            "aud": f"agent:{self.identity['instance_id']}",
            "purpose": "cron_fire",
            "job_id": fire.body["job_id"],
            "fire_at": fire.body["fire_at"],
        }
        seen = {name: claims.get(name) for name in expected}
        require(seen == expected, f"claims {seen}, not {expected}")
        if self.direct:
            begins, ends = (claims[name] - instant_us(due) // 1_000_000 for name in ("nbf", "exp"))
            require((begins, ends) == (0, DIRECT_TOKEN_OUTLIVES), f"valid from {begins} s to {ends} s after {due}")
        else:
            lifetime = claims["exp"] - claims["iat"]
            require(60 <= lifetime <= 120, f"the fire token has a lifetime of {lifetime} s")
        require(claims.get("jti"), "no jti")

    def fire_token_opens_nothing_else(self) -> None:
        answer = call("GET", f"{self.service.base}/list", Authorization=f"Bearer {self.genuine.token}")
        require(answer.status == 401, f"list with a fire token returned {answer}")

    # - the agent's verifier

    def verifier_checks(self) -> Iterator[Check]:
        needs = ("fire_caught", "verifier_has_a_job")

        def refusal(name: str, reason: str | None, token: Callable[[], str | None]) -> Check:
            return Check(f"verifier_rejects_{name}", lambda: self.require_refused(token(), reason), needs)

        # First, because the genuine token expires; the agent's verifier checks the signature of the others before.
        yield Check("verifier_accepts_genuine", lambda: self.require_accepted(self.genuine.token), needs)
        yield Check("unknown_job_is_gone", self.unknown_job_is_gone, needs)
        yield refusal("no_token", None, lambda: None)
        # The agent's reason to reject the access token depends on whether the portal's keys are in the same JWKS.
        yield refusal("access_token", None, lambda: self.identity["access_token"])
        yield refusal("broken_signature", FORGED, lambda: with_broken_signature(self.genuine.token))
        yield refusal("changed_claims", FORGED, lambda: with_other_claims(self.genuine.token))
        for one in FAULTS:
            yield refusal(f"forged_{one.name}", FORGED, partial(self.forged, one))
        if other := self.bystander:
            yield refusal("token_of_another_agent", "Audience doesn't match", lambda: self.catch_fire(other)[0].token)
        for one in FAULTS if self.signer else []:
            yield refusal(f"signed_{one.name}", one.reason, partial(self.signed, one))
        yield Check("refused_runs_nothing", self.refused_runs_nothing, needs)
        if self.signer:
            yield Check("verifier_accepts_signed", lambda: self.require_accepted(self.signed()), needs)

    def verifier_has_a_job(self) -> None:
        self.create_far_away()

    def create_far_away(self) -> None:
        # Due so late that only the fires of this driver run it.
        self.far_away = self.agent.create("far_away", "0 0 29 2 *")

    @cached_property
    def stranger(self) -> Signer:
        header = jwt.get_unverified_header(self.genuine.token)
        return stranger(header["kid"], header["alg"])

    def forged(self, one: Fault) -> str:
        return self.stranger.sign(one.put_into(self.claims()))

    def signed(self, one: Fault | None = None) -> str:
        return self.signer.sign(one.put_into(self.claims()) if one else self.claims())

    def claims(self) -> dict[str, Any]:
        """Returns current, valid claims, based on the genuine token's."""
        now = int(time.time())
        return {**read_unverified(self.genuine.token), "iat": now, "nbf": now, "exp": now + 90, "jti": uuid.uuid4().hex}

    def require_refused(self, token: str | None, reason: str | None) -> None:
        """Requires 401 and the reason in the log: the agent also returns 401 if it could not fetch the keys."""
        before = len(self.agent.text_of("logs/agent.log"))
        answer = self.agent.fire(token, self.far_away.id)
        require(answer.status == 401, f"the agent returned {answer}")

        def logged() -> None:
            line = self.agent.text_of("logs/agent.log")[before:].strip()
            require(reason is None or reason in line, f"401, but not for {reason!r}: the agent's log has {line!r}")

        eventually(30.0, logged)

    def refused_runs_nothing(self) -> None:
        time.sleep(0.5)  # an accepted fire runs about 10 ms after the response
        runs = len(self.agent.runs(self.far_away))
        require(runs == self.accepted, f"{self.accepted} fires were accepted, and the job ran {runs} times")

    def require_accepted(self, token: str) -> None:
        before = len(self.agent.runs(self.far_away))
        answer = self.agent.fire(token, self.far_away.id)
        require(answer.status == 202, f"the agent returned {answer}")
        self.accepted += 1

        def ran_once() -> None:
            runs = len(self.agent.runs(self.far_away)) - before
            require(runs == 1, f"accepted, and ran {runs} times")
            # Until the claim is released, the agent answers a second fire with 202 and drops it.
            require(not self.agent.is_claimed(self.far_away), "accepted, and still running")

        eventually(SETTLED_WITHIN, ran_once)

    def unknown_job_is_gone(self) -> None:
        answer = self.agent.fire(self.genuine.token, uuid.uuid4().hex[:12])
        require(answer.status == 200 and answer.json.get("status") == "gone", f"the agent returned {answer}")

    # - due times

    def before_due(self, due_in: Callable[[float], str], check: Callable[[str], T]) -> tuple[T, str]:
        """Returns the result of ``check`` and the due time that ``due_in`` set, at least the given seconds ahead.

        A check that did not end before the due time proves nothing: it is repeated with twice the time.
        """
        lead = self.agent.lead
        for left in reversed(range(TRIES)):
            due = due_in(lead)
            try:
                result = check(due)
            except Failure:
                if not left or now_us() < instant_us(due):
                    raise
            else:
                if now_us() < instant_us(due):
                    return result, due
            lead = 2 * max(lead, self.agent.lead)
        raise Failure(f"this machine is too slow: the check did not end before {due}")

    def agreed_fire_at(self, job: Job) -> str:
        """Returns the text that both sides have. They are read one after the other, so a mismatch may be temporary."""
        armed, stored = self.service.armed(job.id), self.agent.next_run(job)
        require(stored is not None, f"jobs.json has no next run for {job}")
        require(armed == stored, f"list says {armed!r}, jobs.json says {stored!r}")
        return stored

    def wait_for_run(self, job: Job, number: int, due: str) -> None:
        def ran() -> int:
            runs = self.agent.runs(job)
            require(len(runs) >= number, f"{job.name} ran {len(runs)} times, the run due {due} is missing")
            return runs[number - 1]

        began = eventually((instant_us(due) - now_us() + LATEST_US) / 1e6 + SETTLED_WITHIN, ran)
        require_in_its_instant(f"{job.name} ran", began, due)

    # - a one-shot

    def provision_seen(self) -> None:
        def create(due: str) -> Job:
            job = self.agent.create("one_shot", due)
            # Without a wait: the command ends after the service's 200, which guarantees that the one-shot is stored.
            fire_at = self.agreed_fire_at(job)
            require(fire_at == due, f"requested {due}, armed for {fire_at}")
            return job

        self.one_shot, self.one_shot_due = self.before_due(in_seconds, create)

    def fired_on_time(self) -> None:
        self.wait_for_run(self.one_shot, 1, self.one_shot_due)

    def gone_from_list(self) -> None:
        eventually(SETTLED_WITHIN, lambda: self.service.require_forgotten(self.one_shot.id))
        runs = self.agent.runs(self.one_shot)
        require(len(runs) == 1, f"the one-shot ran {len(runs)} times")

    # - a recurring job

    def create_recurring(self, lead: float) -> None:
        """The next run is due soon after a run, or almost a period later: enough for a command."""
        periods = list(CRON_SCHEDULES)
        period = next((one for one in periods if one >= lead), periods[-1])
        self.recurring = self.agent.create("recurring", CRON_SCHEDULES[period])

    def recurring_next(self) -> tuple[int, str]:
        """Returns the number of runs, and the next due time: all runs before it are counted, as it is still ahead."""

        def read() -> tuple[int, str]:
            runs, due = len(self.agent.runs(self.recurring)), self.agreed_fire_at(self.recurring)
            require(now_us() < instant_us(due), f"due {due}, and not armed for another time")
            require(runs == len(self.agent.runs(self.recurring)), "runs again and again, faster than this script")
            return runs, due

        return eventually(SETTLED_WITHIN, read)

    def recurring_rearms(self) -> None:
        self.create_recurring(min(self.agent.lead, 30.0))  # the runs of a longer period would take minutes
        for _ in range(CRON_RUNS):
            runs, due = self.recurring_next()
            offset = datetime.fromisoformat(due).tzinfo
            require(offset == AGENT_OFFSET, f"armed for {due}: the agent does not use {AGENT_ZONE}")
            self.wait_for_run(self.recurring, runs + 1, due)
        self.recurring_next()

    def cancelled(self) -> None:
        def next_due(lead: float) -> str:
            if self.agent.next_run(self.recurring) is None:
                self.create_recurring(lead)  # removed too late
            runs, due = self.recurring_next()
            if instant_us(due) - now_us() < lead * 1e6:
                self.wait_for_run(self.recurring, runs + 1, due)
                runs, due = self.recurring_next()
            self.runs = runs
            return due

        def remove(_: str) -> None:
            self.agent.remove(self.recurring)
            self.service.require_forgotten(self.recurring.id)

        _, due = self.before_due(next_due, remove)
        sleep_until(instant_us(due) + self.watched_us)
        more = len(self.agent.runs(self.recurring)) - self.runs
        require(more == 0, f"removed, and ran {more} times more")
        self.service.require_forgotten(self.recurring.id)

    # - jobs that only one side knows

    def orphan_cancelled(self) -> None:
        """A removed job would not run even if it were fired. A one-shot for the catcher shows that no fire is sent.

        Each command of the agent cancels the listed one-shots that the agent does not know. The command here must not
        arm anything, because the fires of the orphan would then follow the agent to its callback.
        """

        def due_in(lead: float) -> str:
            if self.agent.next_run(self.far_away) is None:
                self.create_far_away()  # removed too late
            return in_seconds(lead + 1)

        def cancel(due: str) -> str:
            orphan = uuid.uuid4().hex[:12]
            self.service.provision(orphan, due, self.catcher.url)
            require(self.service.armed(orphan) == due, f"{orphan} is not in list")
            self.agent.remove(self.far_away)
            self.service.require_forgotten(orphan)
            self.service.require_forgotten(self.far_away.id)
            return orphan

        orphan, due = self.before_due(due_in, cancel)
        sleep_until(instant_us(due) + self.watched_us)
        fires = self.catcher.fires_of(orphan)
        require(not fires, f"cancelled, and fired {len(fires)} times")

    def unknown_job_let_go(self) -> None:
        # Its fire must not be due before it is deleted. So it is armed for soon by the driver, after that.
        lost = self.agent.create("lost", in_seconds(HOUR))
        self.agent.delete_behind_its_back(lost)
        require(self.service.armed(lost.id), "not armed, so that no fire can find the job gone")
        due = self.soon()
        self.service.provision(lost.id, due, self.agent.url)
        sleep_until(instant_us(due))
        eventually(LATEST_US / 1e6 + SETTLED_WITHIN, lambda: self.service.require_forgotten(lost.id))
        require(not self.agent.runs(lost), "a deleted job ran")

    def delivered_once(self) -> None:
        fires = self.catcher.fires_of(self.genuine.body["job_id"])
        require(len(fires) == 1, f"accepted the first time, and fired {len(fires)} times")


# --- the command ----------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev-json", type=Path, required=True, help="dev.json of a running `nas-cron dev --no-demo`")
    parser.add_argument("--agent", type=int, required=True, help="index of the agent in dev.json")
    parser.add_argument("--home", type=Path, required=True, help="HERMES_HOME: an empty or a new folder")
    parser.add_argument("--port", type=int, required=True, help="a free port on loopback for `hermes serve`")
    parser.add_argument(
        "--bystander", type=int, help="index of another, unused agent, whose fire token is presented to this one"
    )
    parser.add_argument("--signing-key-pem", type=Path, help="the service's signing key, to mint invalid fire tokens")
    parser.add_argument("--kid", help="the kid of --signing-key-pem")
    parser.add_argument("--alg", choices=["ES256", "RS256"], help="the algorithm of --signing-key-pem")
    parser.add_argument("--brief", action="store_true", help="only the verifier and a one-shot")
    parser.add_argument("--direct", action="store_true", help="direct mode: QStash calls the agents itself")
    options = parser.parse_args()
    if options.signing_key_pem and not (options.kid and options.alg):
        parser.error("--signing-key-pem needs --kid and --alg")
    options.home = options.home.absolute()
    options.home.mkdir(parents=True, exist_ok=True)
    if any(options.home.iterdir()):
        parser.error(f"--home {options.home} is not empty")
    return options


def main() -> int:
    journey, report = Journey(arguments()), Report()
    # Raises an exception, so that the child processes are ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for check in journey.checks():
            report.run(check)
    finally:
        journey.agent.stop()
    if report.failed:
        journey.agent.print_tails()
    print(f"{len(report.passed)} passed, {len(report.failed)} failed", flush=True)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
