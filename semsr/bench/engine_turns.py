"""One engine alone, a few calls at a time, in turns with something else.

A shared machine drifts by more than a tenth within minutes. What is to be compared is therefore
measured in turns: some tiles here, some there, again and again. The engine runs in a process of its
own (`python -m semsr.bench.engine_turns`) that sleeps between its turns.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bundle_format.bundle import load_bundle
from engines.registry import load_engine
from semsr.bench.engine_loop import LoopError
from semsr.error_text import last_words
from service.hosting.loading import resolve_engine
from service.settings import Settings


@dataclass(frozen=True)
class EngineTurn:
    """What an engine did in a turn.

    Attributes:
        batch: Tiles in a call.
        times_ms: Of each call.
        core_ms: Processor time of a tile, summed over the cores.
    """

    batch: int
    times_ms: list[float]
    core_ms: float

    @property
    def tiles_per_s(self) -> float:
        """Over all calls."""
        return 1e3 * self.batch * len(self.times_ms) / sum(self.times_ms)

    def __add__(self, other: "EngineTurn") -> "EngineTurn":
        """Two turns as if they were one, such as those before and after something else."""
        times_ms = [*self.times_ms, *other.times_ms]
        core_ms = self.core_ms * len(self.times_ms) + other.core_ms * len(other.times_ms)
        return EngineTurn(self.batch, times_ms, core_ms / len(times_ms))


class EngineTurns:
    """A context manager; `run` measures one turn."""

    def __init__(self, bundle: Path, engine: str) -> None:
        """Load the engine.

        Args:
            bundle: What it runs.
            engine: Its name; precision and threads come from the settings, as for the service.

        Raises:
            LoopError: It cannot be loaded.
        """
        self._child = subprocess.Popen(
            [sys.executable, "-m", "semsr.bench.engine_turns", str(bundle), engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.run(1)
        except LoopError:
            self.__exit__()
            raise

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self._child.pid

    def run(self, calls: int, *, batch: int = 1) -> EngineTurn:
        """Call the engine again and again, after a call that finds cold caches and does not count.

        Args:
            calls: That are counted, one at least.
            batch: Tiles in each.

        Raises:
            LoopError: The engine's process ended.
        """
        stdin, stdout, stderr = self._child.stdin, self._child.stdout, self._child.stderr
        if stdin is None or stdout is None or stderr is None:  # never, with PIPE
            raise LoopError("the engine's process has no pipes")
        try:
            stdin.write(f"{calls} {batch}\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; what it said last comes below
        line = stdout.readline()
        if not line:
            words = stderr.read().strip().splitlines()[-1:] or ["the engine's process ended"]
            raise LoopError(words[0])
        return EngineTurn(**json.loads(line))

    def __enter__(self) -> "EngineTurns":
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._child.kill()
        self._child.communicate()


def _main(bundle: str, name: str) -> None:
    loaded = load_bundle(Path(bundle))
    name, options, _ = resolve_engine(loaded, Settings(), name=name)
    engine = load_engine(name, loaded, options)
    tile = loaded.golden().lr
    for line in sys.stdin:
        calls, batch = map(int, line.split())
        tiles = np.repeat(tile, batch, axis=0)
        engine.run(tiles)
        times_ms: list[float] = []
        core_began_s = time.process_time()
        for _ in range(calls):
            start_s = time.perf_counter()
            engine.run(tiles)
            times_ms.append(1e3 * (time.perf_counter() - start_s))
        core_ms = 1e3 * (time.process_time() - core_began_s) / (calls * batch)
        sys.stdout.write(json.dumps(asdict(EngineTurn(batch, times_ms, core_ms))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with last_words():
        _main(*sys.argv[1:])
