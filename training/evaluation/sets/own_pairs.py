"""Measurement of a fab's own aligned pairs: structure, outlines, and the fab's own detector.

The reference is a slow scan of the same field. The detections in it serve as the truth, because no
other truth is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Picture
from training.evaluation.folders.real_folders import RealPair
from training.evaluation.measures.detection import DetectionLike, DetectorLike
from training.evaluation.measures.outline_counts import count_outlines
from training.evaluation.measures.pair_structure import PairStructure, pair_structure
from training.ground.progress import tracked

SAME_PX = 16.0
"""Greatest distance between matching detections in HR and in an answer."""


@dataclass(frozen=True, kw_only=True)
class OwnPairFigures(PairStructure):
    """Figures of one method over all pairs.

    Attributes:
        method: Name of the method.
        pairs: Number of pairs.
        reference_lost: Outlines of HR that the answers lack, see `outline_counts`.
        found_share: Share of the detections in HR that are found in the answer too; None without a
            detector, NaN where HR has none.
        extra_per_tile: Detections in an answer that HR does not have; None without a detector.
    """

    method: str
    pairs: int
    reference_lost: int
    found_share: float | None
    extra_per_tile: float | None


def measure_own_pairs(
    pairs: Sequence[RealPair], methods: Sequence[Method], *, detector: DetectorLike | None = None
) -> list[OwnPairFigures]:
    """Measure every method on aligned pairs.

    Args:
        pairs: Aligned pairs; an empty sequence gives no rows.
        methods: Methods to compare; those without `upscale` are left out.
        detector: The fab's own; None leaves its figures out.
    """
    if not pairs:
        return []
    truth = [] if detector is None else [_found(detector, pair.hr) for pair in pairs]
    rows = []
    for method in methods:
        if method.upscale is None:
            continue
        answers = {
            pair.name: method.answer(pair.lr)[0]
            for pair in tracked(pairs, f"judging pairs, {method.name}", unit="pair")
        }
        outlines = count_outlines(
            "pairs",
            method.name,
            {pair.name: pair.lr for pair in pairs},
            answers,
            references={pair.name: pair.hr for pair in pairs},
        )
        share, extra = None, None
        if detector is not None:
            own = [_found(detector, answers[pair.name]) for pair in pairs]
            share, extra = _agreement(truth, own)
        rows.append(
            OwnPairFigures(
                method=method.name,
                pairs=len(pairs),
                reference_lost=outlines.reference_lost or 0,
                found_share=share,
                extra_per_tile=extra,
                **pair_structure(pairs, answers),
            )
        )
    return rows


def _found(detector: DetectorLike, picture: Picture) -> list[DetectionLike]:
    return [item for item in detector.find(picture) if item.score >= detector.threshold]


def _agreement(
    truth: Sequence[Sequence[DetectionLike]], own: Sequence[Sequence[DetectionLike]]
) -> tuple[float, float]:
    """Return the share of true detections that are found, and the others a picture."""
    found, extra, total = 0, 0, 0
    for wanted, offered in zip(truth, own, strict=True):
        total += len(wanted)
        found += sum(any(_is_same(item, other) for other in offered) for item in wanted)
        extra += sum(not any(_is_same(item, other) for other in wanted) for item in offered)
    return found / total if total else float("nan"), extra / len(truth)


def _is_same(first: DetectionLike, second: DetectionLike) -> bool:
    return bool(np.hypot(first.x_px - second.x_px, first.y_px - second.y_px) <= SAME_PX)
