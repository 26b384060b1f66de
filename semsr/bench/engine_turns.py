"""One engine alone, a few tiles at a time, in turns with something else.

A shared machine drifts by more than a millisecond within minutes. What is to be compared to the
millisecond is therefore measured in turns: some tiles here, some there, again and again. The engine
runs in a process of its own (`python -m semsr.bench.engine_turns`) that sleeps between its turns.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from export.bundle import load_bundle
from semsr.bench.engine_loop import LoopError
from service.engines import load_engine
from service.loading import resolve_engine
from service.settings import Settings


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

    def run(self, tiles: int) -> list[float]:
        """Run single tiles, one after the other; returns the milliseconds of each.

        Raises:
            LoopError: The engine's process ended.
        """
        stdin, stdout, stderr = self._child.stdin, self._child.stdout, self._child.stderr
        if stdin is None or stdout is None or stderr is None:  # never, with PIPE
            raise LoopError("the engine's process has no pipes")
        try:
            stdin.write(f"{tiles}\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; what it said last comes below
        line = stdout.readline()
        if not line:
            words = stderr.read().strip().splitlines()[-1:] or ["the engine's process ended"]
            raise LoopError(words[0])
        return json.loads(line)

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
    engine.run(tile)
    for line in sys.stdin:
        times_ms: list[float] = []
        for _ in range(int(line)):
            start_s = time.perf_counter()
            engine.run(tile)
            times_ms.append(1e3 * (time.perf_counter() - start_s))
        sys.stdout.write(json.dumps(times_ms) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
