"""The machine on which a figure was measured; every table names it."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Return date, processor, cores, memory, and the machine's load before the run."""
    load = os.getloadavg()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _value(Path("/proc/cpuinfo"), "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_value(Path("/proc/meminfo"), "MemTotal").split()[0]) / 2**20, 1),
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "load_before": round(load, 2),
    }


def machine_line(machine: dict[str, Any]) -> str:
    """Write the description of a machine in one line."""
    line = (
        f"{machine['date']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB; {machine['system']}"
    )
    line += "".join(f"; {machine[key]}" for key in ("card", "runtimes") if machine.get(key))
    # The load is an average of a minute: half a core of it is what a quiet machine has.
    if machine["load_before"] > 0.5:
        line += f". **The machine was not quiet: load {machine['load_before']} before the run**"
    return line


def _value(path: Path, key: str) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"
