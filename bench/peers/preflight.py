"""Checks of the machine before any load: a run of 20 minutes must not fail at its end."""

import os
import resource
import shutil
import socket
import sys

from processes import Failed

# The sink has a connection per connection of a worker, and the service one or more per agent.
DESCRIPTORS = 4096
FREE_BYTES = 2 * 2**30
# Load average per core from which the machine counts as busy.
BUSY = 0.25


def check(options, systems, tools):
    """Fails with the first thing that is missing. Returns warnings."""
    raise_descriptor_limit()
    check_listening()
    if any(system.redis for system in systems) and not tools.redis:
        raise Failed("redis-server is missing: run scripts/ensure-redis, or leave out bullmq with --systems")
    check_folder(options.dir)
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    if busy < BUSY:
        return []
    return [f"the machine is busy (load {os.getloadavg()[0]:.1f}): the figures will be those of what is left of it"]


def raise_descriptor_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
            raise Failed(f"{hard} file descriptors are too few: raise the limit to {DESCRIPTORS} (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def check_listening():
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
    except OSError as error:
        raise Failed(f"no port of 127.0.0.1 is free: {error}") from None


def check_folder(folder):
    kind = file_system(folder)
    if kind in ("tmpfs", "ramfs"):
        raise Failed(f"--dir {folder} is on {kind}, where fsync costs nothing: name a folder on a disk")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(f"--dir {folder} could not be created: {error}") from None
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise Failed(f"--dir {folder} has {free / 2**30:.1f} GiB free, and a run needs {FREE_BYTES / 2**30:.0f} GiB")


def file_system(folder):
    """The type of the file system, or "unknown" where /proc is missing."""
    if not sys.platform.startswith("linux"):
        return "unknown"
    best = ("", "unknown")
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            _, point, kind, *_ = line.split()
            above = point == "/" or f"{folder}/".startswith(f"{point.rstrip('/')}/")
            if above and len(point) >= len(best[0]):
                best = (point, kind)
    return best[1]
