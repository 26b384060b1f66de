"""Simulated failures of a model: a defect erased from its answer, or invented there.

The simulator renders every test tile with its defects and without them, with the same noise, and
the model answers both. For an erased defect, its place in the answer is replaced by the answer to
the tile without defects. For an invented defect, its noise-free HR change is added to the answer to
the tile without defects. The rest of both pictures is the model's answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.evaluation.folders.benchmark import Picture
from training.simulator.capture import CaptureMode
from training.simulator.pictures import to_uint8
from training.simulator.splits import SPLITS, render_split_tile, render_without_defects

FailureKind = Literal["erased", "invented"]
FAILURES: tuple[FailureKind, ...] = ("erased", "invented")

RIM_LR_PX = 6
"""Around a defect's box that is replaced with it: what a model's blur spreads of it."""

SPREAD_LR_PX = 2
"""Around a defect's box in which its change of the LR tile is measured: spot and lag spread it."""

NOISE_SHARE = 0.5
PEAK_SHARE = 0.25
"""A pixel belongs to a defect from this change on, as in the truth of HR (`simulator.planting`)."""

Floats = NDArray[np.float64]
Region = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class Twins:
    """A simulated tile with its defects and without them.

    Attributes:
        lr: (h, w) as inspection sees it.
        lr_without: The same without defects.
        change_lr: (h, w), change that the defects make to inspection without noise.
        noise_lr: (h, w), deviation of its noise at the brighter of the two.
        change_hr: (s*h, s*w), change that they make to review without noise.
        labels: (s*h, s*w), 0 or the defect's number.
        kinds: Kinds of the defects, in order of their numbers.
        scene: Kind of scene.
        scale: s.
    """

    lr: Picture
    lr_without: Picture
    change_lr: Floats
    noise_lr: Floats
    change_hr: Floats
    labels: NDArray[np.uint8]
    kinds: tuple[str, ...]
    scene: str
    scale: int


@dataclass(frozen=True, kw_only=True)
class PlantedFailure:
    """One simulated failure: an LR tile and the faulty answer to it.

    Attributes:
        failure: `erased` or `invented`.
        defect: Kind of the defect.
        scene: Kind of scene.
        size_lr_px: Root of the area of the defect's box, LR pixels.
        contrast_to_noise: Mean |change| that it makes, or would make, over the LR tile's noise.
        lr: (h, w), what was sent.
        sr: (s*h, s*w), what was answered.
    """

    failure: FailureKind
    defect: str
    scene: str
    size_lr_px: float
    contrast_to_noise: float
    lr: Picture
    sr: Picture


def render_twins(split: str, *, seed: int, number: int) -> Twins:
    """Render a tile of a benchmark's split with its defects and without them.

    Args:
        split: Name of a split with defects, such as `test_defect`.
        seed: Seed of the benchmark.
        number: Number of the tile.
    """
    tile = render_split_tile(SPLITS[split], seed=seed, number=number)
    without = render_without_defects(SPLITS[split], seed=seed, number=number)
    return Twins(
        lr=to_uint8(tile.lr),
        lr_without=to_uint8(without.lr),
        change_lr=tile.lr_noise_free - without.lr_noise_free,
        noise_lr=_noise(tile.inspection, np.maximum(tile.lr_noise_free, without.lr_noise_free)),
        change_hr=tile.hr_noise_free - without.hr_noise_free,
        labels=tile.labels,
        kinds=tuple(defect.kind for defect in tile.defects),
        scene=tile.scene.kind,
        scale=tile.scale,
    )


def plant_failures(twins: Twins, sr: Picture, sr_without: Picture) -> Iterator[PlantedFailure]:
    """Yield every defect erased and every defect invented, one at a time.

    Args:
        twins: Tiles that were sent.
        sr: (s*h, s*w), the model's answer to `twins.lr`.
        sr_without: Model's answer to `twins.lr_without`.
    """
    changed = to_uint8(sr_without + twins.change_hr)
    for number, kind in enumerate(twins.kinds, start=1):
        rows, columns = np.nonzero(twins.labels == number)
        if rows.size == 0:
            continue
        box = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        region = _region(box, RIM_LR_PX * twins.scale)
        pictures: dict[FailureKind, tuple[Picture, Picture]] = {
            "erased": (twins.lr, _pasted(sr, sr_without, region)),
            "invented": (twins.lr_without, _pasted(sr_without, changed, region)),
        }
        for failure, (lr, answer) in pictures.items():
            yield PlantedFailure(
                failure=failure,
                defect=kind,
                scene=twins.scene,
                size_lr_px=float(np.sqrt((box[1] - box[0]) * (box[3] - box[2]))) / twins.scale,
                contrast_to_noise=_contrast_to_noise(twins, box),
                lr=lr,
                sr=answer,
            )


def _contrast_to_noise(twins: Twins, box: tuple[int, int, int, int]) -> float:
    """Return the mean |change| over the noise where the LR tile shows the defect; 0 if nowhere."""
    top, bottom, left, right = box
    scale = twins.scale
    lr_box = top // scale, -(-bottom // scale), left // scale, -(-right // scale)
    region = _region(lr_box, SPREAD_LR_PX)
    change = np.abs(twins.change_lr[region]) / twins.noise_lr[region]
    strong = change > max(NOISE_SHARE, PEAK_SHARE * float(change.max()))
    return float(change[strong].mean()) if strong.any() else 0.0


def _region(box: tuple[int, int, int, int], rim_px: int) -> Region:
    top, bottom, left, right = (int(side) for side in box)
    return (
        slice(max(top - rim_px, 0), bottom + rim_px),
        slice(max(left - rim_px, 0), right + rim_px),
    )


def _pasted(picture: Picture, other: Picture, region: Region) -> Picture:
    result = picture.copy()
    result[region] = other[region]
    return result


def _noise(mode: CaptureMode, grey: Floats) -> Floats:
    return np.sqrt(mode.noise_variance(np.clip(grey, 0.0, 255.0)))
