"""Child processes that exchange JSON lines, and that end with their block in any case."""

import json
import os
import queue
import subprocess
import threading

# Time for a response that needs no work.
PROMPT_S = 60
# Time to end after stdin has ended or SIGTERM, before SIGKILL.
STOP_S = 30


class Failed(Exception):
    """A process did not do what it should; the message names it and its log."""


def environment():
    """The environment without settings of a deployment, which would change what is measured."""
    kept = ("NAS_CRON_POSTGRES_BIN",)
    return {name: value for name, value in os.environ.items() if not name.startswith("NAS_CRON_") or name in kept}


class Child:
    """A process whose stderr goes to a log. It ends at the end of stdin, or if it does not read that, by SIGTERM."""

    def __init__(self, name, command, log, reads_stdin=True):
        self.name, self.log, self.reads_stdin = name, log, reads_stdin
        self.lines = queue.Queue()
        with open(log, "ab") as stderr:
            # Its own session: ^C reaches this process only, which stops the others in order.
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment(),
                start_new_session=True,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def failed(self, what):
        with open(self.log, errors="replace") as log:
            end = "".join(log.readlines()[-12:]).rstrip()
        return Failed(f"{self.name} {what}" + (f"; the end of its log:\n{end}" if end else ""))

    def response(self, timeout=PROMPT_S):
        """Returns the next line of stdout, parsed."""
        try:
            line = self.lines.get(timeout=timeout)
        except queue.Empty:
            raise self.failed(f"did not respond within {timeout:.0f} s") from None
        if line is None:
            raise self.failed("ended unexpectedly")
        return json.loads(line)

    def request(self, value, timeout=PROMPT_S):
        try:
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.failed("ended unexpectedly") from None
        return self.response(timeout)

    def is_running(self):
        return self.process.poll() is None

    def stop(self):
        """Ends the process, the hard way if it does not end in time."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        ends = [self.process.terminate, self.process.kill]
        for end in [lambda: None, *ends] if self.reads_stdin else ends:
            end()
            try:
                self.process.wait(STOP_S)
                return
            except subprocess.TimeoutExpired:
                continue


def output(name, command, timeout):
    """Runs a command to its end and returns its stdout."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment())
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} did not end within {timeout:.0f} s") from None
    except OSError as error:
        raise Failed(f"{name} could not be started: {error}") from None
    if done.returncode != 0:
        raise Failed(f"{name} failed with exit code {done.returncode}:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
