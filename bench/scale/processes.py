"""Child processes that end with their block in any case, and what they use of the machine."""

import os
import signal
import subprocess
from pathlib import Path

# Time to end after SIGTERM, before SIGKILL.
STOP_S = 60
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Failed(Exception):
    """A measure could not be made; the message names the reason."""


def environment(settings=None):
    """The environment without settings of a deployment, which would change what is measured, and with `settings`."""
    kept = ("NAS_CRON_POSTGRES_BIN",)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NAS_CRON_") or name in kept}
    return inherited | {name: str(value) for name, value in (settings or {}).items()}


class Child:
    """A process with a log of stdout and stderr. Ends by SIGTERM at the end of the block, by SIGKILL if that takes long."""

    def __init__(self, name, command, log, settings=None):
        self.name, self.log = name, Path(log)
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(settings),
                # Its own session: ^C reaches this process only, which stops the others in order.
                start_new_session=True,
            )
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def is_running(self):
        return self.process.poll() is None

    def failed(self, what):
        end = "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
        return Failed(f"{self.name} {what}" + (f"; the end of its log:\n{end}" if end else ""))

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.is_running():
                self.process.send_signal(number)
            try:
                self.process.wait(STOP_S)
                return
            except subprocess.TimeoutExpired:
                continue


def output(name, command, timeout, settings=None, accepted=(0,)):
    """Runs a command to its end and returns its stdout."""
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=timeout, env=environment(settings)
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} did not end within {timeout:.0f} s") from None
    except OSError as error:
        raise Failed(f"{name} could not be started: {error}") from None
    if done.returncode not in accepted:
        raise Failed(f"{name} failed with exit code {done.returncode}:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def stat(pid):
    """Returns the fields of /proc/PID/stat after the name, or None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def cpu_s(pid, with_ended_children=False):
    """Returns the CPU seconds of a process, and of its children that have ended."""
    fields = stat(pid)
    return sum(map(int, fields[11 : 15 if with_ended_children else 13])) / TICKS if fields else 0.0


def rss_bytes(pid):
    fields = stat(pid)
    return int(fields[21]) * PAGE if fields else 0


def children(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat(entry)
            if fields and int(fields[1]) == pid:
                found.append(int(entry))
    return found


def server_cpu_s(pid):
    """Returns the CPU seconds of a Postgres server and of all its processes, those that have ended included."""
    return cpu_s(pid, with_ended_children=True) + sum(map(cpu_s, children(pid)))


def machine_s():
    """Returns the seconds of all cores so far, busy and idle."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = (fields[3] + fields[4]) / TICKS
    return sum(fields) / TICKS - idle, idle
