"""Processor time, memory and engine processes of a process and all its descendants on Linux.

Where two servers take turns, one must be idle before the other begins: a service still runs the
batch that was in flight when its clients hung up.
"""

import contextlib
import os
import threading
import time
from pathlib import Path

ENGINE_MODULE = "service.pool.engine"
FRONT_END_MODULE = "service.front_end"

_PROC = Path("/proc")
_LOOK_S = 0.1
# Of one core. An idle service wakes up for its timers; a batch in flight takes what it gets.
_IDLE_SHARE = 0.15
_IDLE_TIMEOUT_S = 60.0


class BusyError(RuntimeError):
    """A process without requests still uses the processor."""


def family_core_s(pid: int) -> float:
    """Return the processor seconds used so far by a process and its running descendants.

    Raises:
        ProcessLookupError: The process does not exist.
    """
    return sum(_family_ticks(pid).values()) / os.sysconf("SC_CLK_TCK")


def family_mib(pid: int) -> float:
    """Return the present memory of a process and its descendants; shared pages count once (PSS).

    Raises:
        ProcessLookupError: The process does not exist.
    """
    total_kib = 0
    for member in _family_ticks(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            total_kib += _kib(_PROC / str(member) / "smaps_rollup", "Pss")
    return total_kib / 1024


def peak_resident_mib() -> float:
    """Largest resident memory of this process so far.

    Not `getrusage`: a child's figure there begins with what its parent held at the fork.
    """
    return _kib(_PROC / "self" / "status", "VmHWM") / 1024


def engine_pids(pid: int) -> set[int]:
    """Process ids of the engine processes under a server in the mode `pool`."""
    return _pids_of(pid, ENGINE_MODULE)


def front_end_pids(pid: int) -> set[int]:
    """Process ids of the front ends under a server in the mode `pool`."""
    return _pids_of(pid, FRONT_END_MODULE)


def _pids_of(pid: int, module: str) -> set[int]:
    """Process ids under a process that run a module."""
    found: set[int] = set()
    for member in _family_ticks(pid).keys() - {pid}:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            words = (_PROC / str(member) / "cmdline").read_bytes().split(b"\0")
            if module.encode() in words:
                found.add(member)
    return found


def wait_until_idle(pid: int, *, timeout_s: float = _IDLE_TIMEOUT_S) -> None:
    """Wait until a process and all that it started use almost no processor time.

    Args:
        pid: Process id.
        timeout_s: Longest wait in seconds.

    Raises:
        BusyError: They were not idle in that time.
    """
    end_s = time.monotonic() + timeout_s
    used_s = family_core_s(pid)
    while True:
        time.sleep(_LOOK_S)
        before_s, used_s = used_s, family_core_s(pid)
        if used_s - before_s <= _IDLE_SHARE * _LOOK_S:
            return
        if time.monotonic() > end_s:
            raise BusyError(
                f"process {pid} used {used_s - before_s:.2f} s of the processor within the last "
                f"{_LOOK_S} s; expected it to be idle {timeout_s:g} s after the load ended"
            )


class MemoryWatch:
    """Reads the memory of a process family every second while its block runs.

    Attributes:
        samples: `time.monotonic()` and MiB of each reading.
    """

    def __init__(self, pid: int, period_s: float = 1.0) -> None:
        self.samples: list[tuple[float, float]] = []
        self._pid = pid
        self._period_s = period_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            with contextlib.suppress(ProcessLookupError):
                self.samples.append((time.monotonic(), family_mib(self._pid)))
            if self._end.wait(self._period_s):
                return


def mean_mib(samples: list[tuple[float, float]], *, from_s: float, to_s: float) -> float:
    """Mean of the readings between two times.

    Raises:
        ValueError: There are none.
    """
    chosen = [mib for time_s, mib in samples if from_s <= time_s <= to_s]
    if not chosen:
        raise ValueError(f"no memory was read between {from_s:.1f} and {to_s:.1f} s")
    return sum(chosen) / len(chosen)


def _family_ticks(pid: int) -> dict[int, int]:
    """Return process ids, and the clock ticks of processor time that each has used."""
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
    """Read fields 4, and 14 (user) and 15 (system), of proc(5)."""
    # The name before the last parenthesis may hold anything.
    fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return int(fields[1]), int(fields[11]) + int(fields[12])


def _kib(path: Path, key: str) -> int:
    """Read a figure in kB of proc(5)."""
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise RuntimeError(f"no {key} in {path}")
