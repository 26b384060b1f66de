"""The process in which `loadtests.alone.engine` runs an engine.

It prints the engine's facts as a line of JSON. Then it reads one turn a line from stdin, as JSON,
and answers each with its result.
"""

import functools
import json
import mmap
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Bundle, load_bundle, parse_precision
from engines.batches import run_batch
from engines.golden import golden_problem
from engines.protocol import Engine, Tile
from engines.registry import load_engine
from loadtests.alone.engine import EngineFacts, EngineTurn
from loadtests.processes import peak_resident_mib
from semsr.error_text import last_words
from service.hosting.loading import resolve_engine
from service.settings import Settings


def _main(path: str, name: str, precision: str) -> None:
    bundle = load_bundle(Path(path))
    # As the service would run it: precision, threads and device from the same settings.
    name, options, _ = resolve_engine(bundle, Settings(), name=name)
    if precision:
        options = replace(options, precision=parse_precision(precision))
    engine = load_engine(name, bundle, options)
    _write(asdict(_facts(engine, bundle)))
    turns = _Turns(engine, bundle)
    for line in sys.stdin:
        _write(asdict(turns.take(**json.loads(line))))


def _write(reply: object) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def _facts(engine: Engine, bundle: Bundle) -> EngineFacts:
    levels: int | None = 0
    problem = None
    if engine.name != "identity":  # it has no model
        golden = bundle.golden()
        sr = run_batch(engine, golden.lr).sr
        is_comparable = sr.shape == golden.sr.shape
        levels = int(np.abs(sr.astype(np.int16) - golden.sr).max()) if is_comparable else None
        problem = golden_problem(sr, golden, precision=engine.precision)
    return EngineFacts(engine.name, engine.precision, engine.slots, levels, problem or "")


class _Turns:
    """Turns of an engine with the bundle's golden tile."""

    def __init__(self, engine: Engine, bundle: Bundle) -> None:
        self._engine = engine
        self._lr: Tile = bundle.golden().lr[0, 0]
        self._largest = bundle.manifest.max_batch_size
        # Of each caller; it stays registered, and thus in use, until the process ends.
        self._registered: list[npt.NDArray[np.uint8]] = []

    def take(
        self, calls: int, seconds: float, batch: int, callers: int, *, registered: bool
    ) -> EngineTurn:
        """Take one turn; see `EngineTurns.run`."""
        places = [self._place(index, batch, registered=registered) for index in range(callers)]
        # All callers start together, so that each is slowed down by the others from the beginning.
        start = threading.Barrier(callers)
        time_calls = functools.partial(self._time_calls, calls, seconds, start)
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(lambda place: self._engine.run(*place), places))
            core_began_s = time.process_time()
            times_s = [time_s for found in pool.map(time_calls, places) for time_s in found]
            core_s = time.process_time() - core_began_s
        return EngineTurn(
            batch=batch,
            times_ms=[1e3 * time_s for time_s in times_s],
            core_ms=1e3 * core_s / (len(times_s) * batch),
            peak_mib=peak_resident_mib(),
            callers=callers,
        )

    def _time_calls(
        self,
        calls: int,
        seconds: float,
        start: threading.Barrier,
        place: tuple[Sequence[Tile], Sequence[Tile]],
    ) -> list[float]:
        times_s: list[float] = []
        elapsed_s = 0.0
        start.wait()
        while len(times_s) < calls or elapsed_s < seconds:
            start_s = time.perf_counter()
            self._engine.run(*place)
            times_s.append(time.perf_counter() - start_s)
            elapsed_s += times_s[-1]
        return times_s

    def _place(
        self, caller: int, batch: int, *, registered: bool
    ) -> tuple[Sequence[Tile], Sequence[Tile]]:
        """Return tiles, and arrays for their answers."""
        height, width = self._lr.shape
        sr_shape = (self._engine.scale * height, self._engine.scale * width)
        if not registered:
            lr = np.repeat(self._lr[None], batch, axis=0)
            return list(lr), [np.empty(sr_shape, dtype=np.uint8) for _ in range(batch)]
        lr_bytes, sr_bytes = height * width, sr_shape[0] * sr_shape[1]
        while len(self._registered) <= caller:
            memory = _whole_pages(self._largest * (lr_bytes + sr_bytes))
            self._engine.register(memory)
            self._registered.append(memory)
        memory = self._registered[caller]
        lr = memory[: batch * lr_bytes].reshape(batch, height, width)
        lr[:] = self._lr
        first = self._largest * lr_bytes
        return list(lr), list(memory[first : first + batch * sr_bytes].reshape(batch, *sr_shape))


def _whole_pages(size: int) -> npt.NDArray[np.uint8]:
    pages = -(-size // mmap.PAGESIZE)
    return np.frombuffer(mmap.mmap(-1, pages * mmap.PAGESIZE), dtype=np.uint8)


if __name__ == "__main__":
    with last_words():
        _main(*sys.argv[1:])
