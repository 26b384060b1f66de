"""Outlines of a picture on the LR grid: chains of pixels on visible steps and lines.

A pixel belongs to an outline if a matched filter responds to a step or a line clearly above the
noise. A chain's detectability is d' = contrast x sqrt(pixels) / noise over all its pixels, as in
`data.degradation.visibility`: a long, faint outline can have the same d' as a short, strong one.
`outline_comparison` finds the outlines that another picture lacks.

Source: Barrett and Myers 2004, *Foundations of Image Science*, section 13.2.8 (matched filter);
Canny 1986 for thinning and linking.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.data.degradation.noise import NoiseModel
from training.evaluation.measures.outline_filters import ANGLES, FilteredImage, filter_bank

MIN_DETECTABILITY = 11.0
"""Least d' of an outline that an answer must keep."""

MIN_RESPONSE = 4.2
"""Deviations of the noise from which on a matched filter's response belongs to an outline. White
noise reaches it at a few pixels a tile; chains of these stay far below `MIN_DETECTABILITY`."""

MIN_PEAK = 5.5
"""Deviations that at least one pixel of a chain must reach: a tile of noise has 5.3 at most."""

MARGIN_PX = 3
RIDGE_PX = 2
"""An outline is thinned to the strongest pixel within this distance across its direction."""

EFFICIENCY = 0.85
"""Share of a bar's d' that its chain brings together, measured on bars of known d' in noise: ends
and gaps are missing, and no filter fits exactly."""

LINK_PX = 5
"""Pixels of outlines that lie this near belong to one chain."""

SIDE_LOBE_PX = 4
SIDE_LOBE_FACTOR = 1.5
"""A response this many times weaker than one this near is that one's side lobe, not an outline."""

MIN_NOISE_GREY = 0.5
"""Deviation below which noise is not believed: rounding alone gives 0.3."""

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Outlines:
    """The outlines of one picture, pixel by pixel; arrays of (N,).

    Attributes:
        rows: Row.
        columns: Column.
        template: Number of the matched filter that answers most.
        contrast: Signed contrast that it measures, grey levels.
        response: The filter's answer over the noise's deviation.
        visibility: Part of the outline's d' squared that the pixel brings.
        length_px: Part of its length.
        shape: (H, W) of the picture.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    template: NDArray[np.int64]
    contrast: Floats
    response: Floats
    visibility: Floats
    length_px: Floats
    shape: tuple[int, int]


def find_outlines(image: Floats, noise: NoiseModel, *, grey: Floats | None = None) -> Outlines:
    """Find every pixel of an outline.

    Args:
        image: (H, W) grey levels on the LR grid.
        noise: Noise by which contrasts are judged.
        grey: Picture whose greys decide how much noise there is; the image itself if None.
    """
    bank = filter_bank()
    variance = np.maximum(
        noise.variance(ndimage.gaussian_filter(image if grey is None else grey, 1.5)),
        MIN_NOISE_GREY**2,
    ).astype(np.float32)
    filtered = FilteredImage(image)
    strongest = np.zeros(image.shape, dtype=np.float32)
    template = np.zeros(image.shape, dtype=np.int64)
    contrast = np.zeros(image.shape, dtype=np.float32)
    for number, kernel in enumerate(bank):
        response = filtered.response(kernel)
        visible = np.abs(response) * kernel.per_noise
        better = visible > strongest
        strongest[better] = visible[better]
        template[better] = number
        contrast[better] = response[better]
    strongest /= np.sqrt(variance)
    ridge = _ridge(strongest, np.array([kernel.angle for kernel in bank])[template])
    inner = np.zeros(image.shape, dtype=bool)
    inner[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = True
    rows, columns = np.nonzero(ridge & inner)
    chosen = template[rows, columns]
    # What noise adds to a squared contrast on average is taken off.
    spread = 1 / np.array([kernel.per_noise for kernel in bank])[chosen] ** 2
    local = variance[rows, columns].astype(np.float64)
    measured = contrast[rows, columns].astype(np.float64)
    length = np.array([kernel.pixel_px for kernel in bank])[chosen]
    width = np.array([kernel.width_px for kernel in bank])[chosen]
    return Outlines(
        rows=rows,
        columns=columns,
        template=chosen,
        contrast=measured,
        response=strongest[rows, columns].astype(np.float64),
        visibility=np.maximum(measured**2 / local - spread, 0.0) * width * length / EFFICIENCY**2,
        length_px=length,
        shape=(image.shape[0], image.shape[1]),
    )


def _ridge(strength: Floats32, angle: NDArray[np.int64]) -> Mask:
    """Keep pixels that no neighbour exceeds which lies across their direction, within 45 degrees.

    Side lobes go too: they lie next to something far stronger.
    """
    height, width = strength.shape
    padded = np.pad(strength, RIDGE_PX, mode="edge")
    directions = np.pi * np.arange(ANGLES) / ANGLES
    near = ndimage.maximum_filter(strength, 2 * SIDE_LOBE_PX + 1)
    ridge = (strength >= MIN_RESPONSE) & (near < SIDE_LOBE_FACTOR * strength)
    reach = range(-RIDGE_PX, RIDGE_PX + 1)
    for dy, dx in ((y, x) for y in reach for x in reach if (y, x) != (0, 0)):
        along = np.abs(dx * np.cos(directions) + dy * np.sin(directions))
        across = np.abs(-dx * np.sin(directions) + dy * np.cos(directions))
        top, left = RIDGE_PX + dy, RIDGE_PX + dx
        neighbour = padded[top : top + height, left : left + width]
        # Of two equal ones the first in reading order stays.
        exceeded = neighbour > strength if (dy, dx) > (0, 0) else neighbour >= strength
        ridge &= ~(exceeded & (across >= along)[angle])
    return ridge


def chain_labels(outlines: Outlines, chosen: Mask) -> NDArray[np.int64]:
    """Number the chains of chosen pixels from 1; 0 for the others."""
    mask = np.zeros(outlines.shape, dtype=bool)
    mask[outlines.rows[chosen], outlines.columns[chosen]] = True
    # Gaps are bridged: where a bar is answered by its middle here and by its edge there.
    square = np.ones((LINK_PX, LINK_PX), dtype=bool)
    grown = np.asarray(ndimage.binary_dilation(mask, square))
    label = np.zeros(outlines.shape, dtype=np.int32)
    ndimage.label(grown, np.ones((3, 3), dtype=int), output=label)
    found = label[outlines.rows, outlines.columns].astype(np.int64)
    return np.where(chosen, found, 0)


def chains(label: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """List the pixels of each numbered chain."""
    order = np.argsort(label, kind="stable")
    order = order[label[order] > 0]
    borders = np.flatnonzero(np.diff(label[order])) + 1
    return [run for run in np.split(order, borders) if run.size]


def is_visible(outlines: Outlines, run: NDArray[np.int64]) -> bool:
    """Return whether a chain reaches `MIN_DETECTABILITY`, and one of its pixels `MIN_PEAK`."""
    return bool(
        outlines.visibility[run].sum() >= MIN_DETECTABILITY**2
        and outlines.response[run].max() >= MIN_PEAK
    )
