"""Speed of one engine on this machine, by which `engines.auto` chooses."""

import time
from concurrent.futures import ThreadPoolExecutor

from bundle_format.bundle import Bundle
from engines.batches import known_tiles
from engines.golden import verify_golden
from engines.protocol import Engine, EngineOptions, Tile, batch_buckets
from engines.registry import device_kind, load_engine

MEASURE_SECONDS = 1.5
GPU_CALLERS = 2
"""Batches that are in flight while an engine is measured on a GPU, if it has slots for them."""


def measure(name: str, bundle: Bundle, options: EngineOptions) -> float:
    """Measure one engine in this process, as the service under load uses it.

    On a CPU it runs one tile at a time. On a GPU it runs batches of every prepared size, several at
    once if it has slots for them.

    Returns:
        Tiles per second, on a GPU of the fastest batch size.
    """
    engine = load_engine(name, bundle, options)
    # A fast engine that computes something else must lose here, not at every start.
    verify_golden(engine, bundle)
    if device_kind(options.device) == "cpu":
        return _tiles_per_s(engine, bundle, 1, callers=1, seconds=MEASURE_SECONDS)
    sizes = batch_buckets(bundle.manifest.max_batch_size)
    callers = min(engine.slots, GPU_CALLERS)
    seconds = MEASURE_SECONDS / len(sizes)
    return max(
        _tiles_per_s(engine, bundle, size, callers=callers, seconds=seconds) for size in sizes
    )


def _tiles_per_s(
    engine: Engine, bundle: Bundle, batch_size: int, *, callers: int, seconds: float
) -> float:
    """Run batches on as many threads as callers; return the tiles per second of all together."""

    def quartile_s(lr: list[Tile], sr: list[Tile]) -> float:
        """Lower quartile of the calls' times: other load on the machine slows some of them."""
        engine.run(lr, sr)
        times_s: list[float] = []
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s or len(times_s) < 3:
            start_s = time.perf_counter()
            engine.run(lr, sr)
            times_s.append(time.perf_counter() - start_s)
        return sorted(times_s)[len(times_s) // 4]

    memory = [known_tiles(engine, batch_size, bundle.manifest.tile) for _ in range(callers)]
    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(quartile_s, *tiles) for tiles in memory]
        return sum(batch_size / call.result() for call in calls)
