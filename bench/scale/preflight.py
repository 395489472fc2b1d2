"""Checks of the machine before any load: a run of an hour must not fail at its end."""

import os
import resource
import shutil

from options import POPULATED
from processes import Failed

DESCRIPTORS = 8192
# Bytes per armed one-shot with its history and the table of pgbench, and of everything else.
PER_ONE_SHOT = 2000
REST = 4 * 2**30
BUSY = 0.25


def check(options):
    """Fails with the first thing that is missing. Returns warnings."""
    if not options.binary.exists():
        raise Failed(f"{options.binary} is missing: make bench-scale builds it, or name a build with --binary")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
            raise Failed(f"{hard} file descriptors are too few: raise the limit to {DESCRIPTORS} (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    try:
        options.dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(f"--dir {options.dir} could not be created: {error}") from None
    populated = any(name in options.only for name in POPULATED)
    needed = REST + (options.levels[-1] * PER_ONE_SHOT if populated else 0)
    free = shutil.disk_usage(options.dir).free
    if free < needed:
        raise Failed(
            f"--dir {options.dir} has {free / 2**30:.0f} GiB free, and this run needs {needed / 2**30:.0f} GiB: "
            "name another folder, or use smaller --levels"
        )
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    if busy < BUSY:
        return []
    return [f"the machine is busy (load {os.getloadavg()[0]:.1f}): the figures will be those of what is left of it"]
