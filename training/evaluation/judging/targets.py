"""Targets that the first candidate, and the benchmark itself, must meet.

A target is passed, missed, or not applicable if its figures are missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from training.evaluation.compared.methods import BICUBIC, MATCHED, TRUE_HR, Method
from training.evaluation.judging.bootstrap import Estimate, Interval
from training.evaluation.judging.summary import MethodSummary

Status = Literal["passed", "missed", "not applicable"]

MIN_RECALL_SHARE = 0.90
MAX_EXTRA_ALARMS = 0.2
MIN_FROC_AREA = 0.90
MAX_SPECTRUM_DB = 1.0
MAX_BORDER_SPECTRUM_DB = 0.6
MIN_CONTRAST_RATIO, MAX_CONTRAST_RATIO = 0.85, 1.15
MAX_EDGE_PLACEMENT_PX = 0.2
MAX_CD_BIAS_PX = 0.1
MIN_ROUGHNESS_RATIO, MAX_ROUGHNESS_RATIO = 0.85, 1.15
MAX_GMAC = 15.0
MIN_CEILING_RECALL = 0.95
MAX_FLOOR_RECALL = 0.75


@dataclass(frozen=True, kw_only=True)
class Target:
    """One target and its outcome.

    Attributes:
        name: Requirement in a few words.
        subject: Method that must meet it.
        required: Limit, with its own figures put in.
        measured: Figure that was measured.
        status: Outcome, see `Status`.
    """

    name: str
    subject: str
    required: str
    measured: str
    status: Status


def judge_targets(
    methods: Sequence[Method],
    summaries: Mapping[str, MethodSummary],
    *,
    max_gmac: float = MAX_GMAC,
) -> list[Target]:
    """Judge the first candidate and the benchmark.

    If the first candidate is one of several seeds, each target is judged on every seed, and the
    worst outcome is reported.

    Args:
        methods: Methods in the report's order.
        summaries: Method name to its figures.
        max_gmac: Multiply-adds a tile that the candidate may cost, 1e9.
    """
    candidates = [method for method in methods if method.role == "candidate"]
    targets: list[Target] = []
    if candidates:
        first = candidates[0]
        seeds = [m for m in candidates if m is first or (m.group and m.group == first.group)]
        beaten = [BICUBIC, MATCHED, *(m.name for m in methods if m.role == "baseline")]
        judged = [
            _judge_method(seed, summaries, [name for name in beaten if name in summaries], max_gmac)
            for seed in seeds
        ]
        targets += [min(rows, key=lambda row: _ORDER[row.status]) for rows in zip(*judged)]  # noqa: B905 - each list has the same targets
    return targets + _judge_benchmark(summaries)


def missed(targets: Sequence[Target]) -> list[Target]:
    """Return the missed targets."""
    return [target for target in targets if target.status == "missed"]


_ORDER: dict[Status, int] = {"missed": 0, "not applicable": 1, "passed": 2}


def _judge_method(
    method: Method,
    summaries: Mapping[str, MethodSummary],
    beaten: Sequence[str],
    max_gmac: float,
) -> list[Target]:
    figures = summaries[method.name].figures
    truth = summaries[TRUE_HR].figures if TRUE_HR in summaries else {}
    basis = summaries[BICUBIC].figures if BICUBIC in summaries else {}

    def limited(
        key: str, name: str, low: float | None, high: float | None, unit: str = ""
    ) -> Target:
        return _bounded(method.name, name, figures.get(key), low, high, unit)

    gmac = None if method.gmac is None else Estimate(value=method.gmac)
    return [
        _recall(method.name, figures, truth),
        _alarms(method.name, figures, truth),
        limited("froc_area", "FROC area", MIN_FROC_AREA, None),
        *(
            _froc_above(method.name, figures, name, summaries[name].figures)
            for name in beaten
            if name != method.name
        ),
        limited("spectrum_db", "background spectrum distance", None, MAX_SPECTRUM_DB, " dB"),
        limited(
            "border_spectrum_db",
            "background spectrum distance, outer 16 px",
            None,
            MAX_BORDER_SPECTRUM_DB,
            " dB",
        ),
        limited(
            "contrast_ratio",
            "defect contrast ratio, median",
            MIN_CONTRAST_RATIO,
            MAX_CONTRAST_RATIO,
        ),
        _worst_correlation(method.name, figures, basis),
        limited(
            "edge_placement_px", "edge placement error, median", None, MAX_EDGE_PLACEMENT_PX, " px"
        ),
        limited("cd_bias_px", "CD bias", -MAX_CD_BIAS_PX, MAX_CD_BIAS_PX, " px"),
        limited(
            "roughness_ratio",
            "roughness of edges over the true one",
            MIN_ROUGHNESS_RATIO,
            MAX_ROUGHNESS_RATIO,
        ),
        _bounded(method.name, "GMAC a tile", gmac, None, max_gmac),
    ]


def _judge_benchmark(summaries: Mapping[str, MethodSummary]) -> list[Target]:
    def recall(name: str) -> Estimate | None:
        return summaries[name].figures.get("recall_at_0.1") if name in summaries else None

    label = "benchmark: recall at 0.1 alarms a tile"
    return [
        _bounded(TRUE_HR, label, recall(TRUE_HR), MIN_CEILING_RECALL, None),
        _bounded(MATCHED, label, recall(MATCHED), None, MAX_FLOOR_RECALL),
    ]


def _recall(subject: str, own: Mapping[str, Estimate], truth: Mapping[str, Estimate]) -> Target:
    name = "recall of unseen kinds, of that on true HR"
    if "recall_unseen" not in own or "recall_unseen" not in truth:
        return not_applicable(subject, name)
    limit = MIN_RECALL_SHARE * truth["recall_unseen"].value
    return Target(
        name=name,
        subject=subject,
        required=f"≥ {limit:.3f} ({MIN_RECALL_SHARE:.0%} of {truth['recall_unseen'].value:.3f})",
        measured=_text(own["recall_unseen"].interval()),
        status="passed" if own["recall_unseen"].value >= limit else "missed",
    )


def _alarms(subject: str, own: Mapping[str, Estimate], truth: Mapping[str, Estimate]) -> Target:
    name = "false alarms a tile beyond those on true HR"
    if "alarms_per_tile" not in own or "alarms_per_tile" not in truth:
        return not_applicable(subject, name)
    extra = own["alarms_per_tile"].minus(truth["alarms_per_tile"])
    return Target(
        name=name,
        subject=subject,
        required=f"≤ {MAX_EXTRA_ALARMS:g}",
        measured=_text(extra),
        status="passed" if extra.value <= MAX_EXTRA_ALARMS else "missed",
    )


def _froc_above(
    subject: str, own: Mapping[str, Estimate], other_name: str, other: Mapping[str, Estimate]
) -> Target:
    name = f"FROC area above {other_name}"
    if "froc_area" not in own or "froc_area" not in other:
        return not_applicable(subject, name)
    difference = own["froc_area"].minus(other["froc_area"])
    return Target(
        name=name,
        subject=subject,
        required="95 % interval of the paired difference above 0",
        measured=_text(difference),
        # An interval that does not exist (NaN) is not above 0.
        status="passed" if difference.low > 0 else "missed",
    )


def _worst_correlation(
    subject: str, own: Mapping[str, Estimate], basis: Mapping[str, Estimate]
) -> Target:
    name = "worst local correlation of a defect"
    if "correlation_min" not in own or "correlation_min" not in basis:
        return not_applicable(subject, name)
    limit = basis["correlation_min"].value
    return Target(
        name=name,
        subject=subject,
        required=f"> {limit:.3f} (bicubic)",
        measured=f"{own['correlation_min'].value:.3f}",
        status="passed" if own["correlation_min"].value > limit else "missed",
    )


def bounded(
    subject: str,
    name: str,
    value: float,
    limits: tuple[float | None, float | None],
    *,
    measured: str,
    unit: str = "",
) -> Target:
    """Judge a figure by its limits.

    Args:
        subject: Method that must meet the target.
        name: Name of the target.
        value: Figure.
        limits: Least and greatest value; None for no limit.
        measured: Figure as text, with its unit.
        unit: Unit of the limits, with a space before it.
    """
    low, high = limits
    is_within = (low is None or value >= low) and (high is None or value <= high)
    if low is None:
        required = f"≤ {high:g}{unit}"
    elif high is None:
        required = f"≥ {low:g}{unit}"
    else:
        required = f"{low:g} to {high:g}{unit}"
    return Target(
        name=name,
        subject=subject,
        required=required,
        measured=measured,
        status="passed" if is_within else "missed",
    )


def _bounded(
    subject: str,
    name: str,
    figure: Estimate | None,
    low: float | None,
    high: float | None,
    unit: str = "",
) -> Target:
    if figure is None:
        return not_applicable(subject, name)
    measured = _text(figure.interval()) + unit
    return bounded(subject, name, figure.value, (low, high), measured=measured, unit=unit)


def not_applicable(subject: str, name: str) -> Target:
    """Return a target whose figures are missing."""
    return Target(name=name, subject=subject, required="", measured="", status="not applicable")


def _text(value: Interval) -> str:
    text = f"{value.value:.3f}"
    return text if value.low != value.low else f"{text} [{value.low:.3f}, {value.high:.3f}]"
