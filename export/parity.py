"""The parity gate: an exported graph must give what FP32 torch gives, in grey levels.

The gate compares the golden tile, random tiles, batches, and sizes other than the bundle's. An
export fails if a difference exceeds the tolerance of its precision
(`bundle_format.bundle.TOLERANCES`). The service's own engines run the graph, so the tested code is
the code that serves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bundle_format.bundle import TOLERANCES, Bundle, ParityFigures, Precision, psnr_db
from engines.batches import run_batch
from engines.protocol import Engine, EngineError, EngineOptions
from engines.registry import installed_engines, load_engine
from export.cases import Batch, Case, standard_cases
from export.to_onnx import GreyLevels
from models import Generator

INT8_CASES = ("golden", "grey ramp", "all black", "all white")
"""INT8 has the ranges of real tiles: white noise over all greys lies outside them, and is compared
but not judged."""

NEIGHBOUR_LEVELS = 1
"""Largest difference of a tile's answer between batches, regardless of the other tiles."""


class ParityError(Exception):
    """An exported graph differs from the reference by more than its precision may."""


@dataclass(frozen=True)
class ParityRow:
    """One comparison.

    Attributes:
        case: Name of the compared tile.
        engine: Engine that ran the graph.
        precision: Precision of the graph.
        shape: (N, H, W) of the LR batch.
        max_error: Largest difference in grey levels.
        mean_error: Mean difference in grey levels.
        psnr_db: PSNR of the answer against the reference's.
        is_judged: Whether the tolerance applies to it.
    """

    case: str
    engine: str
    precision: Precision
    shape: tuple[int, int, int]
    max_error: float
    mean_error: float
    psnr_db: float
    is_judged: bool = True


class Reference:
    """FP32 torch; it caches its answers, since every engine and precision needs the same ones."""

    def __init__(self, generator: Generator) -> None:
        self._network = GreyLevels(generator)
        self._kept: dict[bytes, tuple[Batch, npt.NDArray[np.uint16]]] = {}

    def __call__(self, lr: Batch) -> Batch:
        """Enlarge (N, 1, H, W) uint8 to (N, 1, s*H, s*W) uint8; the result must not be changed."""
        return self._both(lr)[0]

    def sixteen_bit(self, lr: Batch) -> npt.NDArray[np.uint16]:
        """Enlarge to uint16, 65535 being white; the result must not be changed."""
        return self._both(lr)[1]

    def _both(self, lr: Batch) -> tuple[Batch, npt.NDArray[np.uint16]]:
        key = repr(lr.shape).encode() + lr.tobytes()
        if key not in self._kept:
            with torch.inference_mode():
                clamped = self._network.clamped(torch.from_numpy(lr))[0][:, None]
                self._kept[key] = (
                    torch.round(clamped * 255).to(torch.uint8).numpy(),
                    torch.round(clamped * 65_535).to(torch.uint16).numpy(),
                )
        return self._kept[key]


def run_gate(
    reference: Reference,
    bundle: Bundle,
    *,
    precision: Precision,
    threads: int,
    tiles: Sequence[npt.NDArray[np.uint8]] = (),
) -> list[ParityRow]:
    """Compare a bundle's graph, run by the service's own engines, with FP32 torch.

    Args:
        reference: Answers of the generator that the bundle was made from.
        bundle: Bundle with the graph.
        precision: Precision of the graph.
        threads: CPU threads of the engines.
        tiles: Real LR tiles, (H, W) uint8, that did not set any range; needed for INT8.

    Raises:
        ParityError: A difference is beyond the precision's tolerance.
        EngineError: No engine that has this precision is installed, or one of them cannot run it.
    """
    manifest = bundle.manifest
    cases = standard_cases(manifest.tile, max_batch_size=manifest.max_batch_size)
    if precision == "int8":
        cases = [Case(case.name, case.lr, is_judged=case.name in INT8_CASES) for case in cases]
    cases += [Case(f"tile {number}", tile[None, None]) for number, tile in enumerate(tiles)]
    # Other sizes than the bundle's, of what a scan shows.
    cases += [
        Case(f"odd part of tile {number}", np.ascontiguousarray(tile[None, None, :-7, :-3]))
        for number, tile in enumerate(tiles[:2])
    ]
    names = installed_engines(precision)
    if not names:
        raise EngineError(f"no engine that runs {precision} is installed, so it cannot be proven")
    rows: list[ParityRow] = []
    for name in names:
        engine = load_engine(name, bundle, EngineOptions(precision=precision, threads=threads))
        try:
            rows += compare(reference, engine, cases)
        finally:
            engine.close()
    return rows


def compare(reference: Reference, engine: Engine, cases: Iterable[Case]) -> list[ParityRow]:
    """Compare an engine with FP32 torch, and a batch with its tiles one by one.

    Args:
        reference: FP32 torch.
        engine: Engine that runs the exported graph.
        cases: LR batches.

    Raises:
        ParityError: A difference is beyond `TOLERANCES`; the message holds the table.
    """
    tolerance = TOLERANCES[engine.precision]
    rows: list[ParityRow] = []
    problems: list[str] = []
    for case in cases:
        expected = reference(case.lr)
        actual = run_batch(engine, case.lr).sr
        if actual.shape != expected.shape:
            raise ParityError(f"{case.name}: the graph gave {actual.shape}, torch {expected.shape}")
        row = _row(case.name, engine, case.lr, actual, expected, is_judged=case.is_judged)
        rows.append(row)
        problem = tolerance.problem(
            max_error=row.max_error, mean_error=row.mean_error, psnr_db=row.psnr_db
        )
        if problem and row.is_judged:
            problems.append(f"{row.case}: {problem}")
        if len(case.lr) > 1:
            alone = np.concatenate([run_batch(engine, lr[None]).sr for lr in case.lr])
            row = _row(f"{case.name}, one by one", engine, case.lr, actual, alone, is_judged=True)
            rows.append(row)
            if row.max_error > NEIGHBOUR_LEVELS:
                problems.append(
                    f"{row.case}: a tile's answer depends on its batch by {row.max_error:.0f} grey "
                    f"levels, at most {NEIGHBOUR_LEVELS}"
                )
    if problems:
        raise ParityError(
            f"engine {engine.name!r} in {engine.precision} is too far from FP32 torch: "
            f"{'; '.join(problems)}\n{format_rows(rows)}"
        )
    return rows


def _row(
    name: str, engine: Engine, lr: Batch, actual: Batch, expected: Batch, *, is_judged: bool
) -> ParityRow:
    error = np.abs(actual.astype(np.int16) - expected)
    return ParityRow(
        case=name,
        engine=engine.name,
        precision=engine.precision,
        shape=(lr.shape[0], lr.shape[2], lr.shape[3]),
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        psnr_db=psnr_db(actual, expected),
        is_judged=is_judged,
    )


def summarise(rows: Sequence[ParityRow]) -> ParityFigures:
    """Condense judged rows to the manifest's figures: the worst, and the mean over all pixels."""
    rows = [row for row in rows if row.is_judged]
    pixels = [count * height * width for count, height, width in (row.shape for row in rows)]
    weighted = sum(row.mean_error * size for row, size in zip(rows, pixels, strict=True))
    return ParityFigures(
        max_error=max(row.max_error for row in rows),
        mean_error=weighted / sum(pixels),
        psnr_db=min(row.psnr_db for row in rows),
        tiles=sum(row.shape[0] for row in rows),
        engines=tuple(dict.fromkeys(row.engine for row in rows)),
    )


def format_rows(rows: Sequence[ParityRow]) -> str:
    """Write the rows as a table for people."""
    lines = [
        f"{'precision':<9} {'engine':<9} {'case':<24} {'N x H x W':<14} {'max':>5} {'mean':>9} "
        f"{'PSNR dB':>8}  (max and mean in grey levels)"
    ]
    for row in rows:
        shape = " x ".join(str(side) for side in row.shape)
        note = "" if row.is_judged else "  not judged"
        lines.append(
            f"{row.precision:<9} {row.engine:<9} {row.case:<24} {shape:<14} {row.max_error:>5.3g} "
            f"{row.mean_error:>9.6f} {row.psnr_db:>8.1f}{note}"
        )
    return "\n".join(lines)
