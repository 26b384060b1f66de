"""Both models' answers for every tile: their difference and their flags, and own figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.comparison.two_models.rows import FLAG_FIGURES, OWN_FIGURES, Row, compare_figure
from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Picture
from training.evaluation.judging.bootstrap import Estimate, draw_tiles, weighted_mean
from training.evaluation.measures.detection import DetectorLike
from training.evaluation.sets.own_pairs import measure_own_pairs
from training.evaluation.sets.own_tiles import LIMIT, OwnTile, OwnTiles, measure_own_tile
from training.evaluation.sets.set_look import SetLook, set_distances
from training.ground.progress import tracked

DRAWS = 1000
SET_DRAWS = 300
"""Bootstrap samples of the distances of whole sets, which take a millisecond each."""

_SET_KEYS = ("spectrum_db", "border_spectrum_db", "noise_ratio", "grey_distance", "flat_grain_db")
_TILE_KEYS = (
    "consistency", "consistency_worst", "outlines_lost", "outlines_invented", "edge_grain",
    "detections",
)  # fmt: skip
_PAIR_KEYS = (
    "correlation", "reference_lost", "found_share", "extra_per_tile", "psnr_db", "ssim",
)  # fmt: skip
_BY_KEY = {figure.key: figure for figure in (*OWN_FIGURES, *FLAG_FIGURES)}

Floats = NDArray[np.float64]
Compare = Callable[[Picture, Picture], Mapping[str, float]]
"""Differences of two answers by name, among them `edges`, by which tiles are ranked."""


@dataclass(frozen=True, kw_only=True)
class TileDifference:
    """Both answers for one tile.

    Attributes:
        name: Name of the tile.
        differences: Differences of the second answer from the first, by name.
        first_flags: Flags of the first model by name, each over its bundle's limit.
        second_flags: Flags of the second model.
    """

    name: str
    differences: Mapping[str, float]
    first_flags: Mapping[str, float]
    second_flags: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class OwnComparison:
    """What was found on tiles.

    Attributes:
        rows: Figures of both models.
        flags: Rates of their trust flags, where both have any.
        tiles: Differences, tile by tile.
    """

    rows: Sequence[Row]
    flags: Sequence[Row]
    tiles: Sequence[TileDifference]


def difference_of(
    name: str, lr: Picture, first: Method, second: Method, compare: Compare
) -> tuple[TileDifference, Picture, Picture]:
    """Let both models answer a tile; returns the difference and both answers."""
    (one, one_flags), (other, other_flags) = first.answer(lr), second.answer(lr)
    found = TileDifference(
        name=name,
        differences=compare(one, other),
        first_flags=one_flags,
        second_flags=other_flags,
    )
    return found, one, other


def compare_own(
    own: OwnTiles,
    first: Method,
    second: Method,
    *,
    compare: Compare,
    detector: DetectorLike | None,
    seed: int = 0,
) -> OwnComparison:
    """Compare two models on a fab's own tiles.

    Args:
        own: Pictures of the fab's tool.
        first: The first model, which can enlarge.
        second: The second model.
        compare: Function that measures the difference of two answers.
        detector: The fab's own; None leaves its figures out.
        seed: Seed of the bootstrap.
    """
    tiles: list[TileDifference] = []
    measured: tuple[list[OwnTile], list[OwnTile]] = ([], [])
    looks: tuple[list[SetLook], list[SetLook]] = ([], [])
    for name, lr in tracked(own.lr.items(), "comparing tiles", total=len(own.lr)):
        found, *answers = difference_of(name, lr, first, second, compare)
        tiles.append(found)
        flags = (found.first_flags, found.second_flags)
        for side, (method, sr) in enumerate(zip((first, second), answers, strict=True)):
            row = measure_own_tile(name, method.name, lr, sr, flags[side], detector)
            measured[side].append(row)
            if own.hr:
                look = SetLook(None)
                look.add(sr)
                looks[side].append(look)
    rows = _tile_rows(measured, seed=seed)
    if own.hr:
        rows += _set_rows(looks, SetLook.of("measuring HR", own.hr, None), seed=seed)
    rows += _pair_rows(own, first, second, detector, seed=seed)
    order = {figure.key: number for number, figure in enumerate(OWN_FIGURES)}
    return OwnComparison(
        rows=sorted(rows, key=lambda row: order[row.key]),
        flags=flag_rows(tiles, seed=seed),
        tiles=tiles,
    )


def flag_rows(tiles: Sequence[TileDifference], *, seed: int = 0) -> list[Row]:
    """Compare the rates of the trust flags, where both models have the flag."""
    rows = []
    for flag, key in (("residual", "residual_share"), ("domain_distance", "domain_share")):
        sides = [
            [flags.get(flag) for flags in of_side]
            for of_side in (
                [tile.first_flags for tile in tiles],
                [tile.second_flags for tile in tiles],
            )
        ]
        if any(value is None for side in sides for value in side):
            continue
        beyond = [np.array([float((value or 0) > LIMIT) for value in side]) for side in sides]
        rows += _rows_of_values({key: (beyond[0], beyond[1])}, seed=seed)
    return rows


def _tile_rows(measured: tuple[list[OwnTile], list[OwnTile]], *, seed: int) -> list[Row]:
    values = {}
    for key in _TILE_KEYS:
        sides = [[getattr(row, key) for row in side] for side in measured]
        if all(value is not None for side in sides for value in side):
            name = "detections_per_tile" if key == "detections" else key
            values[name] = (np.array(sides[0], float), np.array(sides[1], float))
    return _rows_of_values(values, seed=seed)


def _pair_rows(
    own: OwnTiles, first: Method, second: Method, detector: DetectorLike | None, *, seed: int
) -> list[Row]:
    """Compare both models pair by pair: each figure is the mean over pairs that have it."""
    if not own.pairs:
        return []
    of_pairs = [
        measure_own_pairs([pair], [first, second], detector=detector)
        for pair in tracked(own.pairs, "comparing pairs", unit="pair")
    ]
    values = {}
    for key in _PAIR_KEYS:
        sides = [[getattr(rows[side], key) for rows in of_pairs] for side in (0, 1)]
        if all(value is not None for side in sides for value in side):
            values[key] = (np.array(sides[0], float), np.array(sides[1], float))
    return _rows_of_values(values, seed=seed)


def _rows_of_values(values: Mapping[str, tuple[Floats, Floats]], *, seed: int) -> list[Row]:
    """Make rows of figures that are means over tiles; NaN values of either side are left out."""
    rows = []
    for key, (first, second) in values.items():
        kept = np.isfinite(first) & np.isfinite(second)
        if not kept.any():
            continue
        count = int(kept.sum())
        weights = draw_tiles(defect=count, clean=0, draws=DRAWS, seed=seed).defect
        one, other = (
            Estimate(value=float(side[kept].mean()), samples=weighted_mean(side[kept], weights))
            for side in (first, second)
        )
        rows.append(compare_figure(_BY_KEY[key], one, other, tiles=count))
    return rows


def _set_rows(
    looks: tuple[list[SetLook], list[SetLook]], reference: SetLook, *, seed: int
) -> list[Row]:
    """Compare the distances of both models' pictures, as sets, from the HR pictures."""
    count = len(looks[0])
    draws = draw_tiles(defect=count, clean=0, draws=SET_DRAWS, seed=seed).defect
    whole = np.ones(count)
    values = [set_distances(_joined(side, whole), reference) for side in looks]
    samples = [
        [set_distances(_joined(side, weights), reference) for weights in draws] for side in looks
    ]
    rows = []
    for key in _SET_KEYS:
        estimates = [
            Estimate(
                value=_number(value[key]), samples=np.array([_number(of[key]) for of in sampled])
            )
            for value, sampled in zip(values, samples, strict=True)
        ]
        if all(np.isfinite(estimate.value) for estimate in estimates):
            rows.append(compare_figure(_BY_KEY[key], *estimates, tiles=count))
    return rows


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _joined(looks: Sequence[SetLook], weights: Floats) -> SetLook:
    """Join the looks of single pictures, each as often as its weight says."""
    joined = SetLook(None)
    for look, weight in zip(looks, weights.astype(int), strict=True):
        joined.spectra += look.spectra * weight
        joined.borders += look.borders * weight
        joined.noises += look.noises * weight
        joined.greys += look.greys * weight
        joined.flats = joined.flats + look.flats * weight
    return joined
