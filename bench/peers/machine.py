"""Facts about the machine that a reader needs to compare results."""

import os
import platform
from pathlib import Path

from preflight import file_system


def line_of(path, name):
    """The value of a line `name: value`, or an empty text."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), "")


def facts(folder):
    kib = line_of("/proc/meminfo", "MemTotal").removesuffix(" kB")
    return {
        "cpu": line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(kib) / 2**20, 1) if kib else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": file_system(folder),
        "load_at_start": round(os.getloadavg()[0], 2),
    }
