"""A run of another scheduler: the same measurements, in the same order, as `nas-cron bench` makes."""

import socket
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from options import IN_FLIGHT
from processes import PROMPT_S, Child, Failed

DAY_MS = 86_400_000
# From the last call that arms to the first due time.
LEAD_MS = 3_000
# For late jobs: the default poll interval of graphile-worker is 2 s, and it runs one job at a time.
STRAGGLERS_MS = 60_000
TRIES = 3
POLL_S = 0.02


class TooSlow(Exception):
    """Arming took so long that the first jobs were due before its end."""


def run(system, load, tools, folder):
    """Returns the results of one run. A slow disk may spoil one: it is then repeated on a new database."""
    for patience in range(1, TRIES + 1):
        try:
            with ExitStack() as stack:
                return Run(system, load, tools, folder, stack, patience).measure()
        except TooSlow:
            continue
    raise Failed(f"{system.title}: arming took too long in {TRIES} tries; is the machine busy?")


class Run:
    def __init__(self, system, load, tools, folder, stack, patience):
        self.load, self.patience = load, patience
        store = redis(system, tools, folder) if system.redis else postgres(tools, folder)
        options = {"peer": system.peer, "url": stack.enter_context(store), "settings": system.settings}
        self.sink = stack.enter_context(Child("the sink", [tools.helper, "sink"], folder / "sink.log"))
        options |= {"sink": self.sink.response()["url"], "connections": system.connections, "in_flight": IN_FLIGHT}
        # The client creates what is missing in the database; the worker starts on it.
        self.client = stack.enter_context(tools.child(f"{system.title}, client", "client", options, folder / "client.log"))
        self.worker = stack.enter_context(tools.child(f"{system.title}, worker", "worker", options, folder / "worker.log"))

    def measure(self):
        armed = self.load.armed
        far = now_ms() + DAY_MS
        arming = self.arm("p", [far + index * 60_000 // armed for index in range(armed)])
        spread = self.load.over_s * 1000 / self.load.jobs
        late, _ = self.fire("l", arming, self.load.jobs, lambda index: round(index * spread))
        burst, done_ms = self.fire("b", arming, self.load.burst, lambda _: 0)
        return {
            "lateness_p50_ms": late["p50_ms"],
            "lateness_p99_ms": late["p99_ms"],
            "lateness_max_ms": late["max_ms"],
            "burst_arrived_per_s": round(self.load.burst * 1000 / burst["took_ms"], 1),
            "burst_done_per_s": round(self.load.burst * 1000 / done_ms, 1),
            "armed_per_s": round(arming["per_s"], 1),
            "arming_p99_ms": round(arming["p99_ms"], 3),
            "early": late["early"] + burst["early"],
            "duplicates": late["duplicates"] + burst["duplicates"],
        }

    def arm(self, prefix, due_ms):
        jobs = {"prefix": prefix, "agents": self.load.agents, "due_ms": due_ms}
        return self.client.request({"arm": jobs}, timeout=600)

    def fire(self, prefix, arming, count, after_ms):
        """Arms jobs, and waits for their arrivals and outcomes. Returns the arrivals, and the time to the last outcome."""
        lead = LEAD_MS + 2 * self.patience * count * 1000 / arming["per_s"]
        start = now_ms() + round(lead)
        due = [start + after_ms(index) for index in range(count)]
        self.sink.request({"expect": {"prefix": prefix, "agents": self.load.agents, "due_ms": due}})
        self.arm(prefix, due)
        if now_ms() > start - LEAD_MS / 2:
            raise TooSlow
        wait = due[-1] - now_ms() + STRAGGLERS_MS
        arrived = self.sink.request({"arrivals": {"prefix": prefix, "wait_ms": wait}}, timeout=wait / 1000 + PROMPT_S)
        if arrived["lost"]:
            raise self.worker.failed(f"lost {arrived['lost']} of {count} jobs: none fired within {STRAGGLERS_MS // 1000} s")
        settled = self.client.request({"settled": {"wait_ms": STRAGGLERS_MS}}, timeout=2 * STRAGGLERS_MS / 1000)
        if settled["settled_ms"] is None:
            raise self.worker.failed(f"did not record all outcomes within {STRAGGLERS_MS // 1000} s")
        return arrived, settled["settled_ms"] - start


def now_ms():
    return time.time_ns() // 1_000_000


@contextmanager
def postgres(tools, folder):
    """Starts the same Postgres as `nas-cron dev` and yields its URL."""
    with Child("Postgres", [tools.helper, "postgres", "--dir", folder / "postgres"], folder / "postgres.log") as server:
        yield server.response()["url"]


@contextmanager
def redis(system, tools, folder):
    """Starts Redis and yields the path of its socket, which must be short."""
    with tempfile.TemporaryDirectory(prefix="nas-cron-bench-") as sockets:
        path = Path(sockets) / "redis"
        data = folder / "redis"
        data.mkdir()
        own = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", data, "--daemonize", "no"]
        command = [tools.redis, *own, *system.redis]
        with Child("Redis", command, folder / "redis.log", reads_stdin=False) as server:
            deadline = time.monotonic() + PROMPT_S
            while not accepts(path):
                if not server.is_running():
                    # It writes its log to stdout.
                    lines = [line for line in iter(server.lines.get, None)]
                    raise Failed(f"Redis ended unexpectedly:\n{''.join(lines[-12:])}")
                if time.monotonic() > deadline:
                    raise server.failed(f"did not start within {PROMPT_S} s")
                time.sleep(POLL_S)
            yield str(path)


def accepts(path):
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
