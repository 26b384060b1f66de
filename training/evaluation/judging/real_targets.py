"""Targets that the first candidate's pictures of real LR tiles must meet."""

from collections.abc import Sequence
from math import isfinite

from training.evaluation.compared.methods import Method
from training.evaluation.judging.targets import Target, bounded, not_applicable
from training.evaluation.measures.outlines import MIN_DETECTABILITY
from training.evaluation.sets.real_tiles import RealReport

MAX_SPECTRUM_DB = 1.5
MIN_NOISE_RATIO, MAX_NOISE_RATIO = 0.8, 1.25
MAX_EDGE_GRAIN = 1.3
MAX_FLAT_GRAIN_DB = 1.0
MIN_WORST_CORRELATION = 0.86
MAX_LOST_OUTLINES = 0


def judge_real(methods: Sequence[Method], report: RealReport | None) -> list[Target]:
    """Judge the first candidate on every set of real tiles.

    Args:
        methods: Methods in the report's order.
        report: Measurements of real tiles; None for none.
    """
    candidates = [m.name for m in methods if m.role == "candidate" and m.upscale is not None]
    if report is None or not candidates:
        return []
    name = candidates[0]
    targets: list[Target] = []
    for row in report.background:
        if row.method == name:
            grain = (None, MAX_EDGE_GRAIN)
            flats = (None, MAX_FLAT_GRAIN_DB)
            noise = (MIN_NOISE_RATIO, MAX_NOISE_RATIO)
            targets += [
                _target(name, row.set, "spectrum", row.spectrum_db, (None, MAX_SPECTRUM_DB), " dB"),
                _target(name, row.set, "noise ratio", row.noise_ratio, noise),
                _target(name, row.set, "grain at edges over flats'", row.edge_grain, grain),
                _target(name, row.set, "grain of flats", row.flat_grain_db, flats, " dB"),
            ]
    for row in report.structure:
        if row.method == name and row.set.endswith("real_defects"):
            worst = (MIN_WORST_CORRELATION, None)
            what = "worst local correlation"
            targets.append(_target(name, row.set, what, row.correlation_worst, worst))
    for row in report.outlines:
        if row.method == name:
            what = f"outlines of d' ≥ {MIN_DETECTABILITY:g} lost"
            limits = (None, float(MAX_LOST_OUTLINES))
            targets.append(_target(name, row.set, what, float(row.lost), limits, digits=0))
    return targets


def _target(
    subject: str,
    of_set: str,
    what: str,
    value: float,
    limits: tuple[float | None, float | None],
    unit: str = "",
    *,
    digits: int = 3,
) -> Target:
    name = f"{of_set}: {what}"
    if not isfinite(value):
        return not_applicable(subject, name)
    measured = f"{value:.{digits}f}{unit}"
    return bounded(subject, name, value, limits, measured=measured, unit=unit)
