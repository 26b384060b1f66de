"""Figures of two models with their paired difference, and what it decides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from training.comparison.verdicts import JUDGED, advantage
from training.evaluation.compared.methods import TRUE_HR
from training.evaluation.figure import Figure
from training.evaluation.figures import SECTIONS
from training.evaluation.judging.bootstrap import Estimate, Interval
from training.evaluation.judging.summary import MethodSummary

Outcome = Literal["better", "worse", "undecided", "not judged"]

NO_DIRECTION = ""
"""Value of `Figure.better` for a figure of which neither more nor less is better."""

MIN_TILES = 8
"""Tiles below which an interval decides nothing: the bootstrap of a few tiles is too narrow."""

OWN_FIGURES = (
    Figure("consistency", "consistency with the LR tile", "local correlation, mean"),
    Figure("consistency_worst", "consistency, worst 1 %", "1 % quantile in a tile, mean of tiles"),
    Figure(
        "outlines_lost", "outlines lost", "outlines of the tile that the answer lacks, a tile",
        better="low",
    ),
    Figure(
        "outlines_invented", "outlines invented", "outlines that the tile does not show, a tile",
        better="low",
    ),
    Figure(
        "edge_grain", "grain at edges", "deviation of grain along edges over that of flats",
        better="1",
    ),
    Figure(
        "spectrum_db", "spectrum distance to HR", "of the mean spectra", unit="dB", better="low"
    ),
    Figure(
        "border_spectrum_db", "spectrum distance to HR, outer 16 px", "along the border", unit="dB",
        better="low",
    ),
    Figure("noise_ratio", "noise ratio to HR", "white-noise deviation over that of HR", better="1"),
    Figure(
        "grey_distance", "grey histogram W1 to HR", "Wasserstein distance", unit="grey",
        better="low",
    ),
    Figure(
        "flat_grain_db", "grain of flats to HR", "rms difference of the grain's power", unit="dB",
        better="low",
    ),
    Figure("correlation", "pairs: local correlation", "with HR, where HR has structure"),
    Figure(
        "reference_lost", "pairs: HR outlines lost", "outlines of HR that the answer lacks, a pair",
        better="low",
    ),
    Figure("found_share", "pairs: detections of HR found", "by your own detector"),
    Figure(
        "extra_per_tile", "pairs: other detections", "by your own detector, a pair", better="low"
    ),
    Figure("psnr_db", "pairs: PSNR", "less with the right grain", unit="dB", better=NO_DIRECTION),
    Figure("ssim", "pairs: SSIM", "less with the right grain", better=NO_DIRECTION),
    Figure(
        "detections_per_tile", "detections", "of your own detector, a tile", better=NO_DIRECTION
    ),
)  # fmt: skip
"""Figures of own tiles; means over tiles or pairs, except for the distances of whole sets to HR."""

FLAG_FIGURES = (
    Figure(
        "residual_share", "tiles beyond the residual limit", "each model's own limit",
        better=NO_DIRECTION,
    ),
    Figure(
        "domain_share", "tiles beyond the domain limit", "each model's own limit",
        better=NO_DIRECTION,
    ),
)  # fmt: skip
"""Rates of the trust flags. Each bundle has its own limits, so that fewer is not better."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of both models.

    Attributes:
        key: Key of the figure.
        label: Name for people.
        meaning: One line of explanation.
        unit: Unit; empty for shares and ratios.
        better: Wanted direction: high, low, a value to come near to, or none.
        first: Value of the first model.
        second: Value of the second model.
        difference: Second less first, with its paired 95 % interval; NaN without one.
        outcome: Whether the second model is better or worse, decided by the interval.
    """

    key: str
    label: str
    meaning: str
    unit: str
    better: str
    first: float
    second: float
    difference: Interval
    outcome: Outcome


def compare_figure(
    figure: Figure,
    first: Estimate,
    second: Estimate,
    *,
    truth: Estimate | None = None,
    tiles: int,
    is_judged: bool = True,
) -> Row:
    """Compare one figure of two models, estimated on the same bootstrap draws.

    Args:
        figure: The figure.
        first: Estimate of the first model.
        second: Estimate of the second model.
        truth: Estimate of the true HR, for figures that should come near to it.
        tiles: Number of tiles or pairs behind the figure.
        is_judged: Whether the figure may decide.
    """
    outcome: Outcome = "not judged"
    if is_judged and figure.better != NO_DIRECTION and tiles >= MIN_TILES:
        gain = advantage(figure.better, second, first, truth)
        outcome = "better" if gain.low > 0 else "worse" if gain.high < 0 else "undecided"
    return Row(
        key=figure.key,
        label=figure.label,
        meaning=figure.meaning,
        unit=figure.unit,
        better=figure.better,
        first=first.value,
        second=second.value,
        difference=second.minus(first),
        outcome=outcome,
    )


def compare_summaries(
    names: Sequence[str], summaries: Mapping[str, MethodSummary], *, tiles: int
) -> list[Row]:
    """Compare two models on a benchmark; the figures of `semsr compare` decide, others are shown.

    Args:
        names: Rows of the first and the second model.
        summaries: Name to figures; with those of the true HR.
        tiles: Number of tiles.
    """
    first, second = (summaries[name].figures for name in names)
    truth = summaries[TRUE_HR].figures
    return [
        compare_figure(
            replace(figure, label=label),
            first[figure.key],
            second[figure.key],
            truth=truth.get(figure.key),
            tiles=tiles,
            is_judged=figure.key in JUDGED,
        )
        for figure, label in _whole_labels()
        if figure.key in first and figure.key in second
    ]


def _whole_labels() -> Iterator[tuple[Figure, str]]:
    """Return the figures of a benchmark with labels that stand alone.

    In the evaluation's tables, a label that begins with an ellipsis goes on from the last one, and
    some labels need the title of their table.
    """
    for section in SECTIONS:
        begun = ""
        for figure in section.figures:
            if section.key in {"gradients", "consistency"}:
                yield figure, f"{section.key}: {figure.label.removeprefix('… ')}"
            elif not figure.label.startswith("…"):
                begun = figure.label.partition(",")[0]
                yield figure, figure.label
            else:
                yield figure, f"{begun}, {figure.label.removeprefix('…').strip()}"
