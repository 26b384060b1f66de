"""Report on the trust flags: rates of alarms on clean tiles and on planted failures."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from training.evaluation.trust.planted_failures import FAILURES, FailureKind
from training.ground.whole_file import whole_file, write_whole_text

FORMAT_VERSION = 1
KIND = "semsr-trust"

LIMIT = 1.0
CONTRASTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, math.inf)
SIZES_LR_PX = (0.0, 3.0, 5.0, 8.0, math.inf)

MIN_CONTRAST = 3.0
MIN_CAUGHT = 0.95
MAX_FALSE_ALARMS = 0.01
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class JudgedFailure:
    """A planted failure and the value of the flag `residual`.

    Attributes:
        failure: `erased` or `invented`.
        defect: Kind of the defect.
        scene: Kind of scene.
        size_lr_px: Size of the defect, LR pixels.
        contrast_to_noise: Contrast of the defect over the LR tile's noise.
        residual: Value of the flag.
    """

    failure: FailureKind
    defect: str
    scene: str
    size_lr_px: float
    contrast_to_noise: float
    residual: float


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share with its exact 95 % interval.

    Attributes:
        count: Number of hits.
        total: Number of trials.
        value: Share; NaN without trials.
        low: Lower bound.
        high: Upper bound.

    Source: Clopper and Pearson, *Biometrika* 26 (1934).
    """

    count: int
    total: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not self.total:
            return "–"
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}] ({self.count} of {self.total})"


def rate(flags: Sequence[bool]) -> Rate:
    """Return the share of true flags with its interval."""
    count, total = sum(flags), len(flags)
    if not total:
        return Rate(count=0, total=0, value=math.nan, low=math.nan, high=math.nan)
    interval = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="exact")
    return Rate(
        count=count,
        total=total,
        value=count / total,
        low=float(interval.low),
        high=float(interval.high),
    )


@dataclass(frozen=True, kw_only=True)
class TrustReport:
    """All measurements of a bundle's trust flags.

    Attributes:
        facts: Facts of the bundle and the tiles, for the record.
        failures: Planted failures, all of them.
        clean: The flag `residual` of each clean tile.
        served: The flag `residual` of each tile with defects, as the model answers it.
        domains: The flag `domain_distance` of sets of tiles, by their names.
        cost_share: Share of the engine's time that both flags take.
    """

    facts: Mapping[str, str | int | float]
    failures: Sequence[JudgedFailure]
    clean: Sequence[float]
    served: Sequence[float]
    domains: Mapping[str, Sequence[float]]
    cost_share: float

    @property
    def false_alarms(self) -> Rate:
        """Share of the clean tiles whose answers are suspect: `residual` is above the limit."""
        return rate([value > LIMIT for value in self.clean])

    def caught(
        self,
        failure: FailureKind,
        *,
        contrast: tuple[float, float] = (MIN_CONTRAST, math.inf),
        size: tuple[float, float] = (0.0, math.inf),
    ) -> Rate:
        """Return the share of caught failures of one kind, within ranges of contrast and size."""
        return rate(
            [
                item.residual > LIMIT
                for item in self.failures
                if item.failure == failure
                and contrast[0] <= item.contrast_to_noise < contrast[1]
                and size[0] <= item.size_lr_px < size[1]
            ]
        )

    @property
    def is_met(self) -> bool:
        """Whether both kinds are caught often enough at few enough false alarms."""
        return self.false_alarms.value <= MAX_FALSE_ALARMS and all(
            self.caught(failure).value >= MIN_CAUGHT for failure in FAILURES
        )


def bins(edges: Sequence[float]) -> list[tuple[float, float]]:
    """Pair neighbouring edges."""
    return list(itertools.pairwise(edges))


def bin_name(bounds: tuple[float, float]) -> str:
    """Name a half-open range, such as `3–4` or `≥ 6`."""
    low, high = bounds
    return f"≥ {low:g}" if math.isinf(high) else f"{low:g}–{high:g}"


def format_report(report: TrustReport) -> str:
    """Format the report in Markdown."""
    lines = [
        f"# Trust flags of {report.facts['bundle']}",
        "",
        *(f"- {name}: {value}" for name, value in report.facts.items()),
        f"- clean tiles that alarm: {report.false_alarms}; at most {MAX_FALSE_ALARMS:.0%} wanted",
        *(
            f"- {failure}, contrast-to-noise ≥ {MIN_CONTRAST:g}, caught: {report.caught(failure)}; "
            f"at least {MIN_CAUGHT:.0%} wanted"
            for failure in FAILURES
        ),
        "- tiles with defects, as the model answers them, that alarm: "
        f"{rate([value > LIMIT for value in report.served])}",
        f"- both flags take {report.cost_share:.1%} of the engine's time",
    ]
    for failure in FAILURES:
        lines += ["", f"## Caught: {failure}", ""]
        sizes = [*bins(SIZES_LR_PX), (0.0, math.inf)]
        titles = [*(f"{bin_name(size)} px" for size in sizes[:-1]), "all sizes"]
        lines += [f"| contrast-to-noise | {' | '.join(titles)} |", "|---" * (len(sizes) + 1) + "|"]
        for contrast in bins(CONTRASTS):
            cells = [_cell(report.caught(failure, contrast=contrast, size=size)) for size in sizes]
            lines.append(f"| {bin_name(contrast)} | {' | '.join(cells)} |")
    lines += ["", "## Beyond the domain's limit", "", "| tiles | share |", "|---|---|"]
    lines += [
        f"| {name} | {rate([value > LIMIT for value in values])} |"
        for name, values in report.domains.items()
    ]
    return "\n".join(lines) + "\n"


def write_report(report: TrustReport, out: Path) -> None:
    """Write `trust.md`, `trust.json` and `trust.png` into a folder."""
    write_whole_text(out / "trust.md", format_report(report))
    write_whole_text(
        out / "trust.json", json.dumps(_document(report), indent=1, allow_nan=False) + "\n"
    )
    with whole_file(out / "trust.png") as part:
        _draw(report).savefig(part)


def _document(report: TrustReport) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "facts": dict(report.facts),
        "is_met": report.is_met,
        "cost_share": report.cost_share,
        "false_alarms": _fields(report.false_alarms),
        "caught": {failure: _fields(report.caught(failure)) for failure in FAILURES},
        "failures": [asdict(item) for item in report.failures],
        "clean": list(report.clean),
        "served": list(report.served),
        "domains": {name: list(values) for name, values in report.domains.items()},
    }


def _fields(measured: Rate) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in asdict(measured).items()}


def _cell(measured: Rate) -> str:
    return f"{measured.value:.0%} ({measured.total})" if measured.total else "–"


def _draw(report: TrustReport) -> Figure:
    """Draw the share caught over the contrast by size, and over the share of false alarms."""
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(9.6, 3.0), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, 3)
        names = [bin_name(contrast) for contrast in bins(CONTRASTS)]
        for axis, failure in zip(axes, FAILURES, strict=False):
            for size in bins(SIZES_LR_PX):
                shares = [
                    report.caught(failure, contrast=contrast, size=size).value
                    for contrast in bins(CONTRASTS)
                ]
                axis.plot(names, shares, marker="o", ms=3, label=f"{bin_name(size)} LR px")
            axis.axhline(MIN_CAUGHT, color="0.6", lw=0.8, ls="--")
            axis.set(title=f"{failure}: caught", xlabel="contrast-to-noise in the LR tile")
            axis.set_ylim(-0.03, 1.03)
            axis.legend()
        _draw_thresholds(axes[2], report)
    return figure


def _draw_thresholds(axis: Any, report: TrustReport) -> None:  # noqa: ANN401 - matplotlib has no types
    limits = [0.5 + 0.02 * step for step in range(76)]
    alarms = [sum(value > limit for value in report.clean) / len(report.clean) for limit in limits]
    axis.plot(limits, alarms, color="k", label="clean tiles")
    for failure in FAILURES:
        values = [
            item.residual
            for item in report.failures
            if item.failure == failure and item.contrast_to_noise >= MIN_CONTRAST
        ]
        shares = [sum(value > limit for value in values) / max(len(values), 1) for limit in limits]
        axis.plot(limits, shares, label=f"{failure}, ≥ {MIN_CONTRAST:g}")
    axis.axvline(LIMIT, color="0.6", lw=0.8, ls="--")
    axis.set(title="alarms by the limit", xlabel="residual that alarms; 1 is the bundle's limit")
    axis.set_ylim(-0.03, 1.03)
    axis.legend()
