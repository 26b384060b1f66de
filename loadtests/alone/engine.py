"""One engine alone: no HTTP, no queue; the baseline of the service's throughput.

The engine runs in a process of its own (`python -m loadtests.alone.engine`), as in the service. So
runtimes do not share threads or memory, and each has its own peak of memory. A shared machine
drifts by more than a tenth within minutes. Compared cases therefore take turns, a few tiles each,
and the engine sleeps between its turns.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Precision, load_bundle, parse_precision
from engines.protocol import Engine
from engines.registry import load_engine
from loadtests.processes import peak_resident_mib
from semsr.error_text import last_words
from service.hosting.loading import resolve_engine
from service.settings import Settings

BATCH_SIZES = (1, 2, 4, 8)


class EngineProcessError(RuntimeError):
    """An engine could not be loaded or failed; the message is the last line of its process."""


@dataclass(frozen=True)
class EngineTurn:
    """Result of one turn.

    Attributes:
        batch: Tiles in a call.
        times_ms: Milliseconds of each call.
        core_ms: Processor time of a tile, summed over the cores.
        peak_mib: Largest resident memory of the process so far.
    """

    batch: int
    times_ms: list[float]
    core_ms: float
    peak_mib: float = 0.0

    @property
    def tiles_per_s(self) -> float:
        """Tiles per second over all calls."""
        return 1e3 * self.batch * len(self.times_ms) / sum(self.times_ms)

    @property
    def ms(self) -> float:
        """Median time of a call in milliseconds."""
        return statistics.median(self.times_ms)

    def __add__(self, other: "EngineTurn") -> "EngineTurn":
        """Combine two turns, such as those before and after a turn of the service."""
        times_ms = [*self.times_ms, *other.times_ms]
        core_ms = self.core_ms * len(self.times_ms) + other.core_ms * len(other.times_ms)
        peak_mib = max(self.peak_mib, other.peak_mib)
        return EngineTurn(self.batch, times_ms, core_ms / len(times_ms), peak_mib)


class EngineTurns:
    """An engine in a process of its own, as a context manager; `run` measures one turn."""

    def __init__(self, bundle: Path, engine: str, *, precision: Precision | None = None) -> None:
        """Load the engine.

        Args:
            bundle: Bundle that it runs.
            engine: Engine name; threads come from the settings, as for the service.
            precision: Execution precision; None takes the settings' or the bundle's.

        Raises:
            EngineProcessError: It cannot be loaded.
        """
        arguments = [str(bundle), engine, precision or ""]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "loadtests.alone.engine", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.run(1)
        except EngineProcessError:
            self.__exit__()
            raise

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._child.pid

    def run(self, calls: int, *, seconds: float = 0.0, batch: int = 1) -> EngineTurn:
        """Call the engine repeatedly; the first call, with cold caches, does not count.

        Args:
            calls: Least number of counted calls, at least one.
            seconds: Least time of the counted calls together.
            batch: Tiles in each call.

        Raises:
            EngineProcessError: The engine's process ended.
        """
        stdin, stdout, stderr = self._child.stdin, self._child.stdout, self._child.stderr
        if stdin is None or stdout is None or stderr is None:  # never, with PIPE
            raise EngineProcessError("the engine's process has no pipes")
        try:
            stdin.write(f"{calls} {seconds} {batch}\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; its last words are read below
        line = stdout.readline()
        if not line:
            words = stderr.read().strip().splitlines()[-1:] or ["the engine's process ended"]
            raise EngineProcessError(words[0])
        return EngineTurn(**json.loads(line))

    def __enter__(self) -> "EngineTurns":
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._child.kill()
        self._child.communicate()


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


def _main(bundle: str, name: str, precision: str) -> None:
    loaded = load_bundle(Path(bundle))
    # As the service would run it: precision and threads from the same settings.
    name, options, _ = resolve_engine(loaded, Settings(), name=name)
    if precision:
        options = replace(options, precision=parse_precision(precision))
    engine = load_engine(name, loaded, options)
    tile = loaded.golden().lr
    for line in sys.stdin:
        calls, seconds, batch = line.split()
        turn = _take_turn(engine, np.repeat(tile, int(batch), axis=0), int(calls), float(seconds))
        sys.stdout.write(json.dumps(asdict(turn)) + "\n")
        sys.stdout.flush()


def _take_turn(
    engine: Engine, tiles: npt.NDArray[np.uint8], calls: int, seconds: float
) -> EngineTurn:
    lr = [tile[0] for tile in tiles]
    sides = [engine.scale * side for side in lr[0].shape]
    sr = [np.empty(sides, dtype=np.uint8) for _ in lr]
    engine.run(lr, sr)
    times_s: list[float] = []
    elapsed_s = 0.0
    core_began_s = time.process_time()
    while len(times_s) < calls or elapsed_s < seconds:
        start_s = time.perf_counter()
        engine.run(lr, sr)
        times_s.append(time.perf_counter() - start_s)
        elapsed_s += times_s[-1]
    core_s = time.process_time() - core_began_s
    return EngineTurn(
        batch=len(tiles),
        times_ms=[1e3 * time_s for time_s in times_s],
        core_ms=1e3 * core_s / (len(times_s) * len(tiles)),
        peak_mib=peak_resident_mib(),
    )


if __name__ == "__main__":
    with last_words():
        _main(*sys.argv[1:])
