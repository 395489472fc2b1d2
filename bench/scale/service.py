"""A service with a private Postgres and any number of replicas on this machine, in a folder that is removed with it."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from processes import Child, Failed, cpu_s, environment, output, rss_bytes, server_cpu_s

START_S = 120
POLL_S = 0.02
SERVE_S = 0.005
# A file in each folder that a run has created.
MARK = "created-by-bench-scale"


def until(condition, limit_s, child, poll_s=POLL_S):
    """Waits until the condition holds; fails if the process ends, or after the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if not child.is_running():
            raise child.failed("ended unexpectedly")
        if time.monotonic() > deadline:
            raise child.failed(f"was not ready within {limit_s} s")
        time.sleep(poll_s)


def answers(url):
    """True if a GET of the URL returns 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def create(folder):
    """Creates the folder of a run. One that an earlier run left is removed, and no other."""
    if folder.exists():
        if not (folder / MARK).exists():
            raise Failed(f"{folder} exists, and no run has created it: name another --dir")
        remove(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def remove(folder):
    remove_data(folder)
    shutil.rmtree(folder)


def remove_data(folder):
    """Removes the data of the database, which is elsewhere if the server's user could not enter the folder."""
    usual = folder / "dev/postgres"
    data = usual.resolve()
    if usual.is_symlink() and (data.parent / "of").exists():
        shutil.rmtree(data.parent)
    else:
        shutil.rmtree(usual, ignore_errors=True)


class Database:
    """The database of a service."""

    def __init__(self, url, programs):
        self.url, self.programs = url, programs
        parts = urlsplit(url)
        # pgbench has no option for a URL.
        host = parse_qs(parts.query).get("host", [parts.hostname])[0]
        self.connection = ["-h", host, "-p", parts.port or 5432, "-U", parts.username]
        self.name = parts.path.strip("/")

    def run(self, sql, timeout=7200, database=None):
        """Runs statements and returns the rows of their results as lists of texts."""
        command = [self.programs / "psql", "-qAtX", "-F", "\t", "-v", "ON_ERROR_STOP=1", *self.connection]
        text = output("psql", [*command, "-c", sql, database or self.name], timeout)
        return [line.split("\t") for line in text.splitlines()]

    def value(self, sql, **options):
        return self.run(sql, **options)[0][0]

    def number(self, sql, **options):
        return float(self.value(sql, **options))

    def session(self):
        """A connection for many short queries: a new one costs the server more than they do."""
        return Session([self.programs / "psql", "-qAtX", *self.connection, self.name])

    def server_pid(self):
        """The process id of the server, whose children are its sessions."""
        return int(Path(self.value("SHOW data_directory"), "postmaster.pid").read_text().split("\n", 1)[0])


class Session:
    """One connection, for queries with one value."""

    def __init__(self, command):
        self.psql = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.psql.stdin.close()
        self.psql.wait()

    def number(self, sql):
        self.psql.stdin.write(f"{sql};\n")
        self.psql.stdin.flush()
        line = self.psql.stdout.readline()
        if not line:
            raise Failed(f"the connection to the database ended at: {sql}")
        return float(line)


class Service:
    """`nas-cron dev` and its database. `start` may be called again after `stop`; the data stays until the block ends."""

    def __init__(self, options, name):
        self.binary, self.programs = options.binary, options.programs
        self.folder = options.dir / f"run-{name}"
        self.dev_dir = self.folder / "dev"
        self.stack, self.replicas = ExitStack(), []

    def __enter__(self):
        create(self.folder)
        try:
            self.start()
            # Statistics of statements need a restart of the server.
            self.database.run("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
            self.stop()
            self.start()
            self.database.run("CREATE EXTENSION pg_stat_statements")
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, failed, *_):
        self.stop()
        # The logs of a failure stay.
        (remove if failed is None else remove_data)(self.folder)

    def start(self):
        command = [self.binary, "dev", "--no-demo", "--listen", "127.0.0.1:0", "--dir", self.dev_dir]
        dev_json = self.dev_dir / "dev.json"
        dev_json.unlink(missing_ok=True)
        self.child = self.stack.enter_context(Child("nas-cron dev", command, self.folder / "nas-cron.log"))
        until(dev_json.exists, START_S, self.child)
        self.dev = json.loads(dev_json.read_text())
        self.url, self.metrics_url = self.dev["portal_url"], self.dev["metrics_url"]
        self.database = Database(self.dev["database_url"], self.programs)
        self.postgres_pid = self.database.server_pid()

    def stop(self):
        self.stack.close()
        self.replicas.clear()

    def settings(self, listen, metrics):
        """The settings of a replica."""
        return {
            "NAS_CRON_DATABASE_URL": self.dev["database_url"],
            "NAS_CRON_KEY_ENCRYPTION_KEY_FILE": self.dev_dir / "key-encryption-key",
            "NAS_CRON_PORTAL_URL": self.url,
            "NAS_CRON_PORTAL_JWKS_URL": f"{self.url}/dev/portal/jwks.json",
            "NAS_CRON_CALLBACK_ALLOW": "127.0.0.0/8",
            "NAS_CRON_LISTEN": listen,
            "NAS_CRON_METRICS_LISTEN": metrics,
            "NAS_CRON_DRAIN_DELAY": "0s",
        }

    def command(self, *arguments, timeout=600):
        """Runs an operator's command and returns its stdout."""
        settings = self.settings("127.0.0.1:0", "127.0.0.1:0")
        return output(f"nas-cron {' '.join(arguments)}", [self.binary, *arguments], timeout, settings)

    def add_replica(self):
        """Starts a replica and returns the seconds until it was ready."""
        listen, metrics = free_address(), free_address()
        log = self.folder / f"replica-{len(self.replicas) + 2}.log"
        began = time.monotonic()
        replica = Child("nas-cron serve", [self.binary, "serve"], log, self.settings(listen, metrics))
        self.replicas.append((self.stack.enter_context(replica), f"http://{metrics}/metrics"))
        until(lambda: answers(f"http://{listen}/readyz"), START_S, replica, SERVE_S)
        return time.monotonic() - began

    def pids(self):
        return [self.child.pid, *(replica.pid for replica, _ in self.replicas)]

    def cpu_s(self):
        """CPU seconds of all replicas."""
        return sum(map(cpu_s, self.pids()))

    def database_cpu_s(self):
        return server_cpu_s(self.postgres_pid)

    def rss_bytes(self):
        """Resident memory of the largest replica."""
        return max(map(rss_bytes, self.pids()))

    def bench(self, *arguments, timeout=7200):
        """Runs `nas-cron bench` and returns its report. A fire that was early or lost does not fail: the report has it."""
        command = [self.binary, "bench", "--dir", self.dev_dir, "--json", *arguments]
        for _, metrics_url in self.replicas:
            command += ["--metrics-url", metrics_url]
        text = output("nas-cron bench", command, timeout, accepted=(0, 1))
        if not text.strip():
            raise Failed(f"nas-cron bench {' '.join(map(str, arguments))} printed no report")
        return json.loads(text)

    def metrics(self):
        """The metrics of the first process, by name with labels."""
        with urllib.request.urlopen(self.metrics_url, timeout=30) as response:
            lines = response.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line and line[0] != "#")}
