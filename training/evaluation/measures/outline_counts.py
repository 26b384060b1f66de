"""Outlines lost and invented over a set of pictures: lengths, and the places to look at."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from training.evaluation.folders.benchmark import Picture
from training.evaluation.measures.coarse_view import area_mean, as_seen
from training.evaluation.measures.outline_comparison import (
    Outline,
    OutlineComparison,
    Shown,
    compare_outlines,
    lost_and_invented,
)

MAX_PLACES = 50


@dataclass(frozen=True, kw_only=True)
class OutlinePlace(Outline):
    """One place that an outline was lost or invented at.

    Attributes:
        image: Name of the tile.
    """

    image: str


@dataclass(frozen=True, kw_only=True)
class OutlineCounts:
    """One method on one set of tiles; lengths in LR pixels, see `outlines`.

    Attributes:
        set: Name of the set.
        method: Name of the method.
        images: Number of tiles.
        shown_px: Length of the outlines that the LR tiles show.
        lost: Number of runs that the answers lack.
        lost_px: Length of the lost runs.
        lost_detectability: Largest d' of a lost run; 0 where none is lost.
        invented: Number of runs that the answers show and the tiles do not.
        invented_px: Length of the invented runs.
        reference_shown_px: Length of the outlines of true HR, on the LR grid and in the LR tile's
            noise; None without a reference.
        reference_lost: Number of runs of these that the answers lack.
        reference_lost_px: Length of these runs.
        places: Lost runs, the most visible first, at most `MAX_PLACES`.
        invented_places: Invented runs in the same way.
    """

    set: str
    method: str
    images: int
    shown_px: float
    lost: int
    lost_px: float
    lost_detectability: float
    invented: int
    invented_px: float
    reference_shown_px: float | None
    reference_lost: int | None
    reference_lost_px: float | None
    places: tuple[OutlinePlace, ...]
    invented_places: tuple[OutlinePlace, ...]


def count_outlines(
    name: str,
    method: str,
    lr: Mapping[str, Picture],
    answers: Mapping[str, Picture],
    *,
    references: Mapping[str, Picture] | None = None,
) -> OutlineCounts:
    """Compare tiles with a method's answers to them.

    Args:
        name: Name of the set.
        method: Name of the method.
        lr: Name to (h, w) uint8.
        answers: The same names to (s*h, s*w) uint8.
        references: The same names to true HR, (s*h, s*w) uint8, where there are any.
    """
    lost: list[OutlineComparison] = []
    invented: list[OutlineComparison] = []
    referred: list[OutlineComparison] = []
    places: list[OutlinePlace] = []
    others: list[OutlinePlace] = []
    for image, tile in lr.items():
        seen = area_mean(answers[image], tile.shape)
        shown = _shown(tile.tobytes(), tile.shape)
        missing, added = lost_and_invented(shown, seen)
        lost.append(missing)
        invented.append(added)
        places += [_place(image, item) for item in missing.lost]
        others += [_place(image, item) for item in added.lost]
        if references is not None:
            truth = as_seen(area_mean(references[image], tile.shape), shown.grey)
            referred.append(compare_outlines(Shown(truth, shown.noise), as_seen(seen, truth)))
    for found in (places, others):
        found.sort(key=lambda item: -item.detectability)
    return OutlineCounts(
        set=name,
        method=method,
        images=len(lr),
        shown_px=sum(item.shown_px for item in lost),
        lost=_runs(lost),
        lost_px=_length(lost),
        lost_detectability=max((item.detectability for item in places), default=0.0),
        invented=_runs(invented),
        invented_px=_length(invented),
        reference_shown_px=sum(item.shown_px for item in referred) if referred else None,
        reference_lost=_runs(referred) if referred else None,
        reference_lost_px=_length(referred) if referred else None,
        places=tuple(places[:MAX_PLACES]),
        invented_places=tuple(others[:MAX_PLACES]),
    )


@lru_cache(maxsize=64)
def _shown(pixels: bytes, shape: tuple[int, int]) -> Shown:
    """Measure a tile once for all methods."""
    return Shown.of(np.frombuffer(pixels, dtype=np.uint8).reshape(shape))


def _place(image: str, item: Outline) -> OutlinePlace:
    return OutlinePlace(image=image, **asdict(item))


def _runs(comparisons: Iterable[OutlineComparison]) -> int:
    return sum(len(item.lost) for item in comparisons)


def _length(comparisons: Iterable[OutlineComparison]) -> float:
    return sum(item.lost_px for item in comparisons)
