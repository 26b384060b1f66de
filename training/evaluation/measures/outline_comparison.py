"""Search for outlines that one picture shows and another lacks, on the LR grid.

The other picture, converted to the sharpness and tone of the first, must have at least half of the
same signed contrast at the same place. Runs of pixels with less are lost outlines.

    shown: LR tile             other: SR averaged to LR pixels   -> outlines lost
    shown: SR averaged         other: LR tile                    -> outlines invented

A strong outline can mask a faint one next to it. In the difference of the two pictures, preserved
outlines cancel. Lost runs are therefore searched in the picture and in the difference.

An outline of the LR tile may be an error of the fast scan (charging, streaks), which an answer
rightly omits. If there is true HR, compare with its own count.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.data.degradation.noise import NoiseModel, estimate_noise
from training.evaluation.measures.coarse_view import as_seen
from training.evaluation.measures.outline_filters import ANGLES, FilteredImage, filter_bank
from training.evaluation.measures.outlines import (
    LINK_PX,
    Outlines,
    chain_labels,
    chains,
    find_outlines,
    is_visible,
)

MIN_KEPT_SHARE = 0.5
MIN_SHOWN_SHARE = 0.7
"""Share of a contrast of the difference that the picture itself must show."""

SHIFT_PX = 1
"""An outline may lie this far off, across its direction."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One run of an outline that the other picture lacks, in pixels of the LR grid.

    Attributes:
        x_px: Column of its middle.
        y_px: Row of its middle.
        length_px: Length of the run.
        detectability: d' of the run in the picture that shows it.
        kept_share: Contrast in the other picture over that in the first, sign kept.
    """

    x_px: int
    y_px: int
    length_px: float
    detectability: float
    kept_share: float


@dataclass(frozen=True, kw_only=True)
class OutlineComparison:
    """Length of one picture's outlines, and the outlines that another picture lacks.

    Attributes:
        shown_px: Length of all outlines of d' of at least `MIN_DETECTABILITY`.
        lost: Runs of at least that d' which the other picture lacks, the most visible first.
    """

    shown_px: float
    lost: tuple[Outline, ...]

    @property
    def lost_px(self) -> float:
        """Return the length of all lost runs together."""
        return sum(item.length_px for item in self.lost)


@dataclass(frozen=True)
class Shown:
    """A picture on the LR grid with its noise and its outlines.

    Attributes:
        grey: (H, W) grey levels.
        noise: Noise by which contrasts are judged.
    """

    grey: Floats
    noise: NoiseModel

    @classmethod
    def of(cls, tile: NDArray[np.uint8]) -> "Shown":
        """Return an LR tile, (h, w), with its own noise."""
        return cls(tile.astype(np.float64), estimate_noise([tile]))

    @cached_property
    def outlines(self) -> Outlines:
        """Its outlines, found once."""
        return find_outlines(self.grey, self.noise)


def compare_outlines(shown: Shown, other: Floats) -> OutlineComparison:
    """Find the outlines of one picture that another picture lacks.

    Args:
        shown: The picture whose outlines must be kept.
        other: (H, W) the other picture, from `as_seen`.
    """
    outlines = shown.outlines
    counts = np.zeros(outlines.rows.shape, dtype=bool)
    for run in chains(chain_labels(outlines, np.ones(outlines.rows.shape, dtype=bool))):
        counts[run] = is_visible(outlines, run)
    kept = _kept(outlines, outlines.contrast, other)
    is_lost = counts & (kept < MIN_KEPT_SHARE * np.abs(outlines.contrast))
    taken = np.zeros(outlines.shape, dtype=bool)
    lost = _lost_runs(outlines, is_lost, outlines.contrast, kept, taken)
    lost += _masked(shown, other, taken)
    lost.sort(key=lambda item: -item.detectability)
    return OutlineComparison(shown_px=float(outlines.length_px[counts].sum()), lost=tuple(lost))


def lost_and_invented(tile: Shown, seen: Floats) -> tuple[OutlineComparison, OutlineComparison]:
    """Find the outlines that an answer lost or invented, compared with its LR tile.

    Args:
        tile: LR tile.
        seen: (h, w) grey levels, `area_mean` of the answer.
    """
    expected = as_seen(seen, tile.grey)
    return (
        compare_outlines(tile, expected),
        compare_outlines(Shown(expected, tile.noise), tile.grey),
    )


def _masked(shown: Shown, other: Floats, taken: NDArray[np.bool_]) -> list[Outline]:
    """Find lost runs in the difference of the two pictures, except those already known."""
    rest = find_outlines(shown.grey - other, shown.noise, grey=shown.grey)
    if rest.rows.size == 0:
        return []
    # The picture must show most of it itself: else the other one has what the picture has not.
    contrast = _contrast(rest, shown.grey)
    kept = _kept(rest, contrast, other)
    is_shown = contrast * np.sign(rest.contrast) > MIN_SHOWN_SHARE * np.abs(rest.contrast)
    is_lost = is_shown & (kept < MIN_KEPT_SHARE * np.abs(contrast))
    return _lost_runs(rest, is_lost, contrast, kept, taken)


def _lost_runs(
    outlines: Outlines,
    is_lost: NDArray[np.bool_],
    contrast: Floats,
    kept: Floats,
    taken: NDArray[np.bool_],
) -> list[Outline]:
    """Return the visible runs of lost pixels away from taken pixels; mark their pixels as taken."""
    found = []
    square = np.ones((2 * LINK_PX + 1, 2 * LINK_PX + 1), dtype=bool)
    near = ndimage.binary_dilation(taken, square) if taken.any() else taken
    for run in chains(chain_labels(outlines, is_lost)):
        rows, columns = outlines.rows[run], outlines.columns[run]
        if not is_visible(outlines, run) or near[rows, columns].any():
            continue
        taken[rows, columns] = True
        middle = run.size // 2
        found.append(
            Outline(
                x_px=int(columns[middle]),
                y_px=int(rows[middle]),
                length_px=float(outlines.length_px[run].sum()),
                detectability=float(outlines.visibility[run].sum()) ** 0.5,
                kept_share=float(kept[run].sum() / np.abs(contrast[run]).sum()),
            )
        )
    return found


def _contrast(outlines: Outlines, image: Floats) -> Floats:
    """Measure the contrast that a picture has at the outlines' pixels, by their filters."""
    filtered = FilteredImage(image)
    found = np.zeros(outlines.rows.shape)
    for number in np.unique(outlines.template).tolist():
        index = np.flatnonzero(outlines.template == number)
        response = filtered.response(filter_bank()[number])
        found[index] = response[outlines.rows[index], outlines.columns[index]]
    return found


def _kept(outlines: Outlines, contrast: Floats, other: Floats) -> Floats:
    """Measure, pixel by pixel, the contrast that the other picture has, in the sense of the first.

    The largest within `SHIFT_PX` across the outline's direction.

    Args:
        outlines: Pixels and their filters.
        contrast: (N,) contrast of the first picture there, which gives the sense.
        other: (H, W) the other picture.
    """
    bank = filter_bank()
    filtered = FilteredImage(other)
    kept = np.full(outlines.rows.shape, -np.inf)
    for number in np.unique(outlines.template).tolist():
        kernel = bank[number]
        response = filtered.response(kernel)
        index = np.flatnonzero(outlines.template == number)
        across = np.pi * kernel.angle / ANGLES + np.pi / 2
        for shift in range(-SHIFT_PX, SHIFT_PX + 1):
            y = outlines.rows[index] + shift * round(np.sin(across))
            x = outlines.columns[index] + shift * round(np.cos(across))
            value = response[y, x] * np.sign(contrast[index])
            kept[index] = np.maximum(kept[index], value)
    return kept
