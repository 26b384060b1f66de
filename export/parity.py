"""The parity gate: an exported graph must give what FP32 torch gives, in grey levels.

Compared on a golden tile, random tiles, batches and sizes other than the bundle's; beyond the
tolerance the export fails. The graph is run through the service's own engine, so what passes here
is what is served.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from export.bundle import Bundle, ParityFigures, Precision
from export.to_onnx import GreyLevels
from models import Generator
from service.engines import Engine, EngineOptions, load_engine

# FP32 sums in another order may fall on the other side of a rounding boundary, never further.
TOLERANCE_LEVELS = 1

Batch = npt.NDArray[np.uint8]


class ParityError(Exception):
    """An exported graph differs from the reference by more than the tolerance."""


@dataclass(frozen=True)
class ParityRow:
    """One comparison.

    Attributes:
        case: What was compared.
        shape: (N, H, W) of the LR batch.
        max_error: Largest difference in grey levels.
        mean_error: Mean difference in grey levels.
    """

    case: str
    shape: tuple[int, int, int]
    max_error: float
    mean_error: float


def reference(generator: Generator, lr: Batch) -> Batch:
    """Run the generator in FP32 torch on (N, 1, H, W) uint8; gives (N, 1, s*H, s*W) uint8."""
    with torch.inference_mode():
        return GreyLevels(generator)(torch.from_numpy(lr))[0].numpy()


def run_gate(
    generator: Generator, bundle: Bundle, *, precision: Precision, threads: int
) -> list[ParityRow]:
    """Compare a bundle's graph, run by the service's own engine, with FP32 torch.

    Args:
        generator: The reference.
        bundle: Holds the graph.
        precision: Which graph.
        threads: CPU threads of the engine.

    Raises:
        ParityError: A difference is beyond the tolerance.
    """
    manifest = bundle.manifest
    engine = load_engine("onnx", bundle, EngineOptions(precision=precision, threads=threads))
    cases = standard_cases(manifest.tile, max_batch_size=manifest.max_batch_size)
    try:
        return compare(generator, engine, cases)
    finally:
        engine.close()


def compare(
    generator: Generator, engine: Engine, cases: Iterable[tuple[str, Batch]]
) -> list[ParityRow]:
    """Compare an engine with FP32 torch.

    Args:
        generator: The reference.
        engine: Runs the exported graph.
        cases: Names and LR batches (N, 1, H, W) uint8.

    Raises:
        ParityError: A difference is beyond `TOLERANCE_LEVELS`; the message holds the table.
    """
    rows = []
    for case, lr in cases:
        expected = reference(generator, lr)
        actual = engine.run(lr).sr
        if actual.shape != expected.shape:
            raise ParityError(f"{case}: the graph gave {actual.shape}, torch {expected.shape}")
        error = np.abs(actual.astype(np.int16) - expected)
        shape = (lr.shape[0], lr.shape[2], lr.shape[3])
        rows.append(ParityRow(case, shape, float(error.max()), float(error.mean())))
    if max(row.max_error for row in rows) > TOLERANCE_LEVELS:
        raise ParityError(
            f"the graph differs from torch by more than {TOLERANCE_LEVELS} grey level:\n"
            + format_rows(rows)
        )
    return rows


def summarise(rows: list[ParityRow]) -> ParityFigures:
    """Condense rows to what the manifest carries: the worst case, and the mean over all pixels."""
    pixels = [count * height * width for count, height, width in (row.shape for row in rows)]
    weighted = sum(row.mean_error * size for row, size in zip(rows, pixels, strict=True))
    return ParityFigures(
        max_error=max(row.max_error for row in rows),
        mean_error=weighted / sum(pixels),
        tiles=sum(row.shape[0] for row in rows),
    )


def format_rows(rows: list[ParityRow]) -> str:
    """Lay the rows out as a table for people."""
    lines = [f"{'case':<16} {'N x H x W':<16} {'max':>5} {'mean':>9}  (grey levels)"]
    for row in rows:
        shape = " x ".join(str(side) for side in row.shape)
        lines.append(f"{row.case:<16} {shape:<16} {row.max_error:>5.0f} {row.mean_error:>9.6f}")
    return "\n".join(lines)


def golden_tile(tile: tuple[int, int]) -> Batch:
    """Make the tile that every bundle of that tile size carries: structure, edges and noise.

    Lines of several pitches and a disc on a shaded ground, with noise: every grey level and every
    layer of a network has something to do. The same bytes on every machine: integer arithmetic
    and the PCG64 stream only.

    Returns:
        (1, 1, H, W) uint8.
    """
    height, width = tile
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int64)
    ground = 40 + (60 * columns) // max(1, width)
    pitch = 6 + 6 * (rows * 4 // max(1, height))
    lines = np.where(columns % pitch < pitch // 2, 70, 0)
    disc = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 < (min(height, width) // 6) ** 2
    noise = np.random.Generator(np.random.PCG64(7)).integers(-12, 13, size=(height, width))
    grey = np.where(disc, 200, ground + lines) + noise
    return np.clip(grey, 0, 255).astype(np.uint8)[None, None]


def standard_cases(tile: tuple[int, int], *, max_batch_size: int) -> list[tuple[str, Batch]]:
    """List what every graph is compared on: golden, random, flat, a full batch, odd sizes."""
    height, width = tile
    random = np.random.Generator(np.random.PCG64(11))

    def noise(*shape: int) -> Batch:
        return random.integers(0, 256, size=shape, dtype=np.uint8)

    ramp = np.arange(256, dtype=np.uint8).repeat(4)[: (height // 2) * 2]
    flat = np.broadcast_to(ramp[:, None], (len(ramp), width)).copy()[None, None]
    return [
        ("golden", golden_tile(tile)),
        ("random", noise(1, 1, height, width)),
        ("grey ramp", flat),
        ("full batch", noise(max_batch_size, 1, height, width)),
        ("small", noise(3, 1, 32, 48)),
        ("odd size", noise(2, 1, 33, 61)),
        ("all black", np.zeros((1, 1, height, width), dtype=np.uint8)),
        ("all white", np.full((1, 1, height, width), 255, dtype=np.uint8)),
    ]
