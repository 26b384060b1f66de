"""Comparison of two methods of one run by paired differences of the main figures.

All methods are scored on the same bootstrap draws, so the interval of a difference is narrower than
the two methods' own intervals suggest. Examples are `fast` against `default`, or a mixed training
against one on the benchmark alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.evaluation.compared.methods import Method
from training.evaluation.judging.bootstrap import Interval
from training.evaluation.judging.summary import MethodSummary

COMPARED = (
    "recall_unseen",
    "recall_planted",
    "recall",
    "alarms_per_tile",
    "recall_at_0.1",
    "froc_area",
)
"""Figures that are compared; recalls and alarms at the threshold fixed on true HR."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Difference of one figure between a method and the first candidate.

    Attributes:
        method: Name of the other method.
        first: Name of the first candidate.
        key: Figure, one of `COMPARED`.
        value: The other method's figure.
        difference: The value less the first candidate's, with its paired 95 % interval; no interval
            (NaN) where the figure has none.
    """

    method: str
    first: str
    key: str
    value: float
    difference: Interval


def compare_methods(
    methods: Sequence[Method], summaries: Mapping[str, MethodSummary]
) -> list[Comparison]:
    """Compare the first candidate with every other candidate and every named baseline."""
    named = [method for method in methods if method.role in {"candidate", "baseline"}]
    firsts = [method.name for method in named if method.role == "candidate"]
    if not firsts:
        return []
    basis = summaries[firsts[0]].figures
    return [
        Comparison(
            method=method.name,
            first=firsts[0],
            key=key,
            value=figures[key].value,
            difference=figures[key].minus(basis[key]),
        )
        for method in named
        if method.name != firsts[0]
        for figures in (summaries[method.name].figures,)
        for key in COMPARED
        if key in figures and key in basis
    ]
