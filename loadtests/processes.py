"""The service's processes from outside: their memory, and the engine process of the mode `pool`."""

import contextlib
import threading
import time
from types import TracebackType

import psutil

from semsr.bench.family import family_mib

ENGINE_MODULE = "service.pool.engine"


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started, as they are now."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def engine_pids(pid: int) -> set[int]:
    """Process ids of the engine processes under a server in the mode `pool`."""
    found: set[int] = set()
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if process.pid != pid and ENGINE_MODULE in process.cmdline():
                found.add(process.pid)
    return found


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
