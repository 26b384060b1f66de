"""One engine alone in a loop: no HTTP, no queue; the yardstick of the service's throughput.

Runs as a process of its own (`python -m semsr.bench.engine_loop`), as the service does, so that
runtimes do not share threads or memory and a peak belongs to one of them.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bundle_format.bundle import Precision, load_bundle, parse_precision
from engines.registry import load_engine
from semsr.bench.memory import peak_resident_mib
from semsr.error_text import last_words
from service.hosting.loading import resolve_engine
from service.settings import Settings

BATCH_SIZES = (1, 2, 4, 8)


class LoopError(RuntimeError):
    """An engine could not be loaded or failed; the message is the child's last line."""


@dataclass(frozen=True)
class Speed:
    """What one engine did at one batch size.

    Attributes:
        batch: Tiles in a call.
        tiles_per_s: Over all calls.
        ms: Median of a call.
        core_ms: Processor time of a tile, summed over the cores.
        peak_mib: Largest resident memory of the process so far.
    """

    batch: int
    tiles_per_s: float
    ms: float
    core_ms: float
    peak_mib: float


def engine_alone(
    bundle: Path,
    engine: str,
    seconds: float,
    *,
    precision: Precision | None = None,
    batches: tuple[int, ...] = BATCH_SIZES,
) -> list[Speed]:
    """Measure an engine in a process of its own, `seconds` in all.

    Args:
        bundle: What it runs.
        engine: Its name.
        seconds: For all batch sizes together.
        precision: None takes the settings' or the bundle's.
        batches: Sizes above the bundle's largest batch are left out.

    Raises:
        LoopError: The engine cannot be loaded, or failed.
    """
    arguments = [str(bundle), engine, str(seconds), precision or "", ",".join(map(str, batches))]
    child = subprocess.run(
        [sys.executable, "-m", "semsr.bench.engine_loop", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        words = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
        raise LoopError(words[0])
    return [Speed(**row) for row in json.loads(child.stdout)]


def measure(
    bundle: Path,
    name: str,
    seconds: float,
    *,
    precision: Precision | None,
    batches: tuple[int, ...],
) -> list[Speed]:
    """Measure in this process; see `engine_alone`."""
    loaded = load_bundle(bundle)
    # As the service would run it: precision and threads from the same settings.
    name, options, _ = resolve_engine(loaded, Settings(), name=name)
    if precision is not None:
        options = replace(options, precision=precision)
    engine = load_engine(name, loaded, options)
    tile = loaded.golden().lr
    sizes = [size for size in batches if size <= loaded.manifest.max_batch_size]
    speeds: list[Speed] = []
    for size in sizes:
        batch = np.repeat(tile, size, axis=0)
        engine.run(batch)
        times_s: list[float] = []
        elapsed_s = 0.0
        core_began_s = time.process_time()
        while elapsed_s < seconds / len(sizes) or len(times_s) < 2:
            start_s = time.perf_counter()
            engine.run(batch)
            times_s.append(time.perf_counter() - start_s)
            elapsed_s += times_s[-1]
        core_s = time.process_time() - core_began_s
        speeds.append(
            Speed(
                batch=size,
                tiles_per_s=len(times_s) * size / elapsed_s,
                ms=1e3 * float(np.median(times_s)),
                core_ms=1e3 * core_s / (len(times_s) * size),
                peak_mib=peak_resident_mib(),
            )
        )
    return speeds


def _main(arguments: list[str]) -> None:
    bundle, engine, seconds, precision, batches = arguments
    speeds = measure(
        Path(bundle),
        engine,
        float(seconds),
        precision=parse_precision(precision) if precision else None,
        batches=tuple(int(size) for size in batches.split(",")),
    )
    sys.stdout.write(json.dumps([asdict(speed) for speed in speeds]))


if __name__ == "__main__":
    with last_words():
        _main(sys.argv[1:])
