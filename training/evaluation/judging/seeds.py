"""Spread of each figure over several trainings of one method with different seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.evaluation.compared.methods import BICUBIC, TRUE_HR, Method
from training.evaluation.figure import Figure
from training.evaluation.figures import FIGURES
from training.evaluation.judging.summary import MethodSummary


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """Spread of one figure over the seeds of one method.

    Attributes:
        group: Group of the seeds, see `Method`.
        key: Key of the figure.
        values: Values, one for each seed.
        spread: Largest less smallest.
        share: The spread over |true HR − bicubic|; None where that is 0 or unknown.
        worst: The value of the worst seed.
    """

    group: str
    key: str
    values: tuple[float, ...]
    spread: float
    share: float | None
    worst: float


def seed_spreads(
    methods: Sequence[Method], summaries: Mapping[str, MethodSummary]
) -> list[SeedSpread]:
    """Compute the spread of every figure, for every group with at least two seeds."""
    groups = dict.fromkeys(method.group for method in methods if method.group is not None)
    spreads = []
    for group in groups:
        members = [summaries[m.name].figures for m in methods if m.group == group]
        if len(members) < 2:
            continue
        for figure in FIGURES:
            if not all(figure.key in member for member in members):
                continue
            values = tuple(member[figure.key].value for member in members)
            truth = _value(summaries, TRUE_HR, figure.key)
            basis = _value(summaries, BICUBIC, figure.key)
            gap = abs(truth - basis) if truth is not None and basis is not None else 0.0
            spread = max(values) - min(values)
            spreads.append(
                SeedSpread(
                    group=group,
                    key=figure.key,
                    values=values,
                    spread=spread,
                    share=spread / gap if gap > 0 else None,
                    worst=max(values, key=lambda value: _badness(figure, value, truth)),
                )
            )
    return spreads


def _badness(figure: Figure, value: float, truth: float | None) -> float:
    if figure.better == "high":
        return -value
    if figure.better == "low":
        return value
    if figure.better == "true HR":
        return abs(value - truth) if truth is not None else 0.0
    return abs(value - float(figure.better))


def _value(summaries: Mapping[str, MethodSummary], name: str, key: str) -> float | None:
    figure = summaries[name].figures.get(key) if name in summaries else None
    return None if figure is None else figure.value
