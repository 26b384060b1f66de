"""A process and all that it started, as Linux counts them: their processor time and memory."""

import contextlib
import os
from pathlib import Path

_PROC = Path("/proc")


def family_core_s(pid: int) -> float:
    """Processor seconds used so far by a process and all that it started and that still run.

    Raises:
        ProcessLookupError: There is no such process.
    """
    return sum(_family_ticks(pid).values()) / os.sysconf("SC_CLK_TCK")


def family_mib(pid: int) -> float:
    """Memory of a process and all that it started, now; what they share counts once (PSS).

    Raises:
        ProcessLookupError: There is no such process.
    """
    total_kib = 0
    for member in _family_ticks(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            rollup = (_PROC / str(member) / "smaps_rollup").read_text(encoding="ascii")
            total_kib += next(
                int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")
            )
    return total_kib / 1024


def _family_ticks(pid: int) -> dict[int, int]:
    """Process ids, and the clock ticks of processor time that each has used."""
    processes: dict[int, tuple[int, int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                processes[int(entry.name)] = _parent_and_ticks(entry / "stat")
    if pid not in processes:
        raise ProcessLookupError(f"no process {pid}")
    family = {pid}
    while more := {child for child, (parent, _) in processes.items() if parent in family} - family:
        family |= more
    return {member: processes[member][1] for member in family}


def _parent_and_ticks(stat: Path) -> tuple[int, int]:
    """Fields 4, and 14 (user) and 15 (system), of proc(5)."""
    # The name before the last parenthesis may hold anything.
    fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return int(fields[1]), int(fields[11]) + int(fields[12])
