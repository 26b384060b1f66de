"""Checks before an engine may serve: the golden tile, and a warm-up."""

import time

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import TOLERANCES, Bundle, Golden, Precision, psnr_db
from engines.batches import known_tiles, run_batch
from engines.protocol import Engine, EngineError, batch_buckets
from engines.sixteen_bit import SixteenBitEngine, verify_golden_16_bit


def verify_golden(engine: Engine, bundle: Bundle) -> int:
    """Run the bundle's golden tile and compare it with the reference.

    Returns:
        The largest difference found, in grey levels. 0 for the identity engine, which has no model.

    Raises:
        EngineError: The output differs by more than the tolerance, or has another shape.
    """
    if engine.name == "identity":
        return 0
    golden = bundle.golden()
    sr = run_batch(engine, golden.lr).sr
    problem = golden_problem(sr, golden, precision=engine.precision)
    if problem:
        raise EngineError(
            f"engine {engine.name!r} in {engine.precision} differs from the golden tile of "
            f"{bundle.path}: {problem}"
        )
    if isinstance(engine, SixteenBitEngine):
        verify_golden_16_bit(engine, bundle)
    return int(np.abs(sr.astype(np.int16) - golden.sr).max())


def golden_problem(
    sr: npt.NDArray[np.uint8], golden: Golden, *, precision: Precision
) -> str | None:
    """Compare an engine's answer for the golden tile with the reference.

    Args:
        sr: (N, 1, scale*H, scale*W) uint8, the answer.
        golden: Golden tile of the bundle.
        precision: Execution precision, which decides the tolerance.

    Returns:
        Description of the problem, or None.
    """
    if sr.shape != golden.sr.shape or sr.dtype != np.uint8:
        return f"it gave {sr.dtype} {sr.shape}; expected uint8 {golden.sr.shape}"
    error = np.abs(sr.astype(np.int16) - golden.sr)
    return TOLERANCES[precision].problem(
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        psnr_db=psnr_db(sr, golden.sr),
    )


def warm_up(engine: Engine, bundle: Bundle, *, max_batch_size: int) -> dict[int, float]:
    """Run every prepared batch size up to the largest, and measure it.

    Returns:
        Seconds by batch size, of its second run, since the first one allocates memory.
    """
    lr, sr = known_tiles(engine, max_batch_size, bundle.manifest.tile)
    seconds: dict[int, float] = {}
    for batch_size in batch_buckets(max_batch_size):
        engine.run(lr[:batch_size], sr[:batch_size])
        started_s = time.perf_counter()
        engine.run(lr[:batch_size], sr[:batch_size])
        seconds[batch_size] = max(time.perf_counter() - started_s, 1e-9)
    return seconds
