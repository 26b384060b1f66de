"""The engine alone in a loop: no HTTP, no queue; the yardstick of the service's throughput.

Runs as a process of its own (`python -m semsr.bench.engine_loop`), as the service does.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from export.bundle import load_bundle
from service.engines import load_engine
from service.loading import resolve_engine
from service.settings import Settings

BATCH_SIZES = (1, 2, 4, 8)


def engine_alone(bundle: Path, engine: str, seconds: float) -> dict[int, float]:
    """Measure tiles per second by batch size, in a process of its own, `seconds` in all."""
    child = subprocess.run(
        [sys.executable, "-m", "semsr.bench.engine_loop", str(bundle), engine, str(seconds)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return {int(size): speed for size, speed in json.loads(child.stdout).items()}


def measure(bundle: Path, name: str, seconds: float) -> dict[int, float]:
    """Measure in this process; sizes above the bundle's largest batch are left out."""
    loaded = load_bundle(bundle)
    # As the service would run it: precision and threads from the same settings.
    name, options, _ = resolve_engine(loaded, Settings(), name=name)
    engine = load_engine(name, loaded, options)
    tile = loaded.golden().lr
    sizes = [size for size in BATCH_SIZES if size <= loaded.manifest.max_batch_size]
    speeds: dict[int, float] = {}
    for size in sizes:
        batch = np.repeat(tile, size, axis=0)
        engine.run(batch)
        calls = 0
        elapsed_s = 0.0
        start_s = time.perf_counter()
        while elapsed_s < seconds / len(sizes) or calls < 2:
            engine.run(batch)
            calls += 1
            elapsed_s = time.perf_counter() - start_s
        speeds[size] = calls * size / elapsed_s
    return speeds


if __name__ == "__main__":
    path, name, seconds = sys.argv[1:]
    sys.stdout.write(json.dumps(measure(Path(path), name, float(seconds))))
