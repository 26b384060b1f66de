"""Verdicts of a comparison: the first system against each other one, figure by figure.

All systems are scored on the same bootstrap draws of the tiles. A difference counts where its 95 %
interval excludes zero. A system that was trained less than its recipe says is never counted as
beaten, also not the first one; where it is the better one, that counts.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.evaluation.compared.methods import TRUE_HR
from training.evaluation.figures import BY_KEY
from training.evaluation.judging.bootstrap import Estimate, Interval
from training.evaluation.judging.summary import MethodSummary

JUDGED = (
    "recall_unseen",
    "recall_planted",
    "alarms_per_tile",
    "froc_area",
    "spectrum_db",
    "border_spectrum_db",
    "contrast_ratio",
    "correlation_min",
    "edge_placement_px",
    "cd_bias_px",
    "roughness_ratio",
    "flat_grain_db",
    "edge_grain",
    "grey_distance",
)
"""Figures that are compared."""

Outcome = Literal["better", "worse", "undecided", "not judged"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Outcome of one figure.

    Attributes:
        system: Name of the other system's row.
        key: Figure.
        value: The other system's figure.
        first: The first system's figure.
        advantage: Distance by which the first system is better than the other, with its paired
            95 % interval: of figures with a wanted value, the difference of the distances to it.
        outcome: Whether the first system is better or worse; "not judged" where the worse one, or
            with an undecided difference the other one, is a system of a short training.
    """

    system: str
    key: str
    value: float
    first: float
    advantage: Interval
    outcome: Outcome


def judge(
    names: Sequence[str],
    summaries: Mapping[str, MethodSummary],
    *,
    short: Collection[str],
) -> list[Verdict]:
    """Judge the first system against all others.

    Args:
        names: Names of the rows, the first system first.
        summaries: Name to figures; that of the true HR must be there.
        short: Names of rows whose training was short.
    """
    first, *others = names
    truth = summaries[TRUE_HR].figures
    verdicts: list[Verdict] = []
    for name in others:
        for key in JUDGED:
            ours, theirs = (summaries[of].figures.get(key) for of in (first, name))
            if ours is None or theirs is None:
                continue
            advantage = advantage_of(key, ours, theirs, truth.get(key))
            verdicts.append(
                Verdict(
                    system=name,
                    key=key,
                    value=theirs.value,
                    first=ours.value,
                    advantage=advantage,
                    outcome=_outcome(
                        advantage, first_is_short=first in short, other_is_short=name in short
                    ),
                )
            )
    return verdicts


def advantage_of(key: str, ours: Estimate, theirs: Estimate, truth: Estimate | None) -> Interval:
    """Return by how much one estimate of a figure is better than another of the same draws.

    Args:
        key: Figure, which says what is better: more, less, or nearer to a value.
        ours: Estimate whose advantage it is.
        theirs: The other estimate.
        truth: Estimate of the true HR, for figures that should come near to it.
    """
    return advantage(BY_KEY[key].better, ours, theirs, truth)


def advantage(better: str, ours: Estimate, theirs: Estimate, truth: Estimate | None) -> Interval:
    """Return by how much one estimate is better than another of the same draws.

    Args:
        better: Wanted direction, see `training.evaluation.figure.Figure`.
        ours: Estimate whose advantage it is.
        theirs: The other estimate.
        truth: Estimate of the true HR, for figures that should come near to it.
    """
    ours, theirs = (_badness(better, estimate, truth) for estimate in (ours, theirs))
    return theirs.minus(ours)


def _badness(better: str, estimate: Estimate, truth: Estimate | None) -> Estimate:
    if better == "high":
        return Estimate(value=-estimate.value, samples=-estimate.samples)
    if better == "low":
        return estimate
    if better == "true HR":
        wanted = truth.value if truth is not None else float("nan")
    else:
        wanted = float(better)
    return Estimate(value=abs(estimate.value - wanted), samples=np.abs(estimate.samples - wanted))


def _outcome(advantage: Interval, *, first_is_short: bool, other_is_short: bool) -> Outcome:
    if advantage.high < 0:
        return "not judged" if first_is_short else "worse"
    if other_is_short:
        return "not judged"
    return "better" if advantage.low > 0 else "undecided"
