"""One engine alone: no HTTP, no queue; the baseline of the service's throughput.

The engine runs in a process of its own (`loadtests.alone.engine_process`), as in the service. So
runtimes do not share threads or memory, and each has its own peak of memory. A shared machine
drifts by more than a tenth within minutes. Compared cases therefore take turns, a few tiles each,
and the engine sleeps between its turns.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle_format.bundle import Precision, load_bundle

BATCH_SIZES = (1, 2, 4, 8)


class EngineProcessError(RuntimeError):
    """An engine could not be loaded or failed; the message is the last line of its process."""


@dataclass(frozen=True)
class EngineFacts:
    """Facts about a loaded engine.

    Attributes:
        engine: Engine name, never `auto`.
        precision: Execution precision.
        slots: Maximum number of concurrent calls.
        golden_levels: Largest difference from the bundle's golden tile in grey levels; None where
            the answer has another shape.
        golden_problem: Description of a difference above the tolerance; empty without one.
    """

    engine: str
    precision: Precision
    slots: int
    golden_levels: int | None
    golden_problem: str


@dataclass(frozen=True)
class EngineTurn:
    """Result of one turn.

    Attributes:
        batch: Tiles in a call.
        times_ms: Milliseconds of each call, of all callers.
        core_ms: Processor time of a tile, summed over the cores.
        peak_mib: Largest resident memory of the process so far.
        callers: Number of concurrent callers, each of which starts its next call at once.
    """

    batch: int
    times_ms: list[float]
    core_ms: float
    peak_mib: float = 0.0
    callers: int = 1

    @property
    def tiles_per_s(self) -> float:
        """Tiles per second over all calls."""
        return 1e3 * self.batch * self.callers * len(self.times_ms) / sum(self.times_ms)

    @property
    def ms(self) -> float:
        """Median time of a call in milliseconds."""
        return statistics.median(self.times_ms)

    def __add__(self, other: "EngineTurn") -> "EngineTurn":
        """Combine two turns, such as those before and after a turn of the service."""
        times_ms = [*self.times_ms, *other.times_ms]
        core_ms = self.core_ms * len(self.times_ms) + other.core_ms * len(other.times_ms)
        peak_mib = max(self.peak_mib, other.peak_mib)
        return EngineTurn(self.batch, times_ms, core_ms / len(times_ms), peak_mib, self.callers)


class EngineTurns:
    """An engine in a process of its own, as a context manager; `run` measures one turn.

    Attributes:
        facts: Facts about the engine.
    """

    def __init__(
        self,
        bundle: Path,
        engine: str,
        *,
        precision: Precision | None = None,
        time_limit_s: float | None = None,
    ) -> None:
        """Load the engine.

        Args:
            bundle: Bundle that it runs.
            engine: Engine name; threads and device come from the settings, as for the service.
            precision: Execution precision; None takes the settings' or the bundle's.
            time_limit_s: Longest wait for the engine to load, and for a turn in addition to its
                `seconds`; None waits without a limit.

        Raises:
            EngineProcessError: It cannot be loaded.
        """
        arguments = [str(bundle), engine, precision or ""]
        self._time_limit_s = time_limit_s
        # A file, because a full pipe would stop a runtime that warns a lot.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "loadtests.alone.engine_process", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.facts = EngineFacts(**self._reply(0.0))
            self.run(1)
        except EngineProcessError:
            self.__exit__()
            raise

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._child.pid

    def run(
        self,
        calls: int,
        *,
        seconds: float = 0.0,
        batch: int = 1,
        callers: int = 1,
        registered: bool = False,
    ) -> EngineTurn:
        """Call the engine repeatedly; the first call, with cold caches, does not count.

        Args:
            calls: Least number of counted calls of each caller, at least one.
            seconds: Least time of the counted calls of each caller together.
            batch: Tiles in each call.
            callers: Number of threads that call the engine concurrently.
            registered: Whether tiles and answers are in memory that the engine has registered
                (`Engine.register`), as in the service, or in ordinary memory.

        Raises:
            EngineProcessError: The engine's process ended, or exceeded the time limit.
        """
        request = {
            "calls": calls,
            "seconds": seconds,
            "batch": batch,
            "callers": callers,
            "registered": registered,
        }
        if self._child.stdin is None:  # never, with PIPE
            raise EngineProcessError("the engine's process has no pipes")
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; its last words are read below
        return EngineTurn(**self._reply(seconds))

    def _reply(self, seconds: float) -> dict[str, Any]:
        """Read one line of the child, and kill the child if that takes too long."""
        if self._child.stdout is None:  # never, with PIPE
            raise EngineProcessError("the engine's process has no pipes")
        is_late = threading.Event()
        timer = threading.Timer((self._time_limit_s or 0.0) + seconds, self._give_up, [is_late])
        if self._time_limit_s is not None:
            timer.start()
        line = self._child.stdout.readline()
        timer.cancel()
        if is_late.is_set():
            raise EngineProcessError(
                f"no reply of the engine; expected one within {self._time_limit_s:g} s"
            )
        if not line:
            raise EngineProcessError(self._last_words() or "the engine's process ended")
        return json.loads(line)

    def _give_up(self, is_late: threading.Event) -> None:
        is_late.set()
        self._child.kill()

    def _last_words(self) -> str:
        self._child.wait()
        self._errors.seek(0)
        return "".join(self._errors.read().strip().splitlines()[-1:])

    def __enter__(self) -> "EngineTurns":
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._child.kill()
        self._child.communicate()
        self._errors.close()


def engine_alone(
    bundle: Path,
    engine: str,
    seconds: float,
    *,
    precision: Precision | None = None,
    batches: Sequence[int] = BATCH_SIZES,
) -> list[EngineTurn]:
    """Measure an engine at several batch sizes, one turn each.

    Args:
        bundle: Bundle that it runs.
        engine: Engine name.
        seconds: Time for all batch sizes together.
        precision: Execution precision; None takes the settings' or the bundle's.
        batches: Batch sizes; those above the bundle's largest are left out.

    Raises:
        EngineProcessError: The engine cannot be loaded, or failed.
    """
    largest = load_bundle(bundle).manifest.max_batch_size
    sizes = [size for size in batches if size <= largest]
    with EngineTurns(bundle, engine, precision=precision) as alone:
        return [alone.run(2, seconds=seconds / len(sizes), batch=size) for size in sizes]
