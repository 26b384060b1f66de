"""Matched filters for steps and lines of many directions, lengths and widths, on the LR grid."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

LENGTHS_PX = {5: 8, 9: 12, 17: 24}
"""Lengths of the filters in LR pixels, and how many directions each has."""

ANGLES = 24
"""Directions in half a turn that filters may have."""

STEP_SIDE_PX = 3
LINE_WIDTHS_PX = {1: 2, 2: 2, 3: 3, 5: 4, 8: 5}
"""Widths of lines, and of what is taken on either side of them."""

MAX_CACHED_PX = 100_000
"""Pixels of an image up to which transforms of the filters are kept: 0.3 MB each for a tile."""

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class OutlineFilter:
    """One matched filter.

    Attributes:
        taps: (side, side) weights whose response to its own pattern is the contrast.
        angle: Number of the direction that its line runs in, of `ANGLES` in half a turn.
        per_noise: 1 over the deviation of its response to white noise of variance 1.
        width_px: Pixels of contrast a pixel of length, so that d'^2 = contrast^2 * width * length.
        pixel_px: Length that one pixel of a chain in this direction stands for.
    """

    taps: Floats32
    angle: int
    per_noise: float
    width_px: float
    pixel_px: float


@lru_cache(maxsize=1)
def filter_bank() -> tuple[OutlineFilter, ...]:
    """Return every filter: each length in its directions, as a step and as lines of each width."""
    kernels = []
    for length, directions in LENGTHS_PX.items():
        for number in range(directions):
            angle = np.pi * number / directions
            kernels.append(_drawn(length, angle, line_px=None))
            kernels += [_drawn(length, angle, line_px=width) for width in LINE_WIDTHS_PX]
    return tuple(kernels)


def _drawn(length: int, angle: float, *, line_px: int | None) -> OutlineFilter:
    """Draw one filter, from samples finer than pixels so that each direction has the same shape."""
    side_px = STEP_SIDE_PX if line_px is None else line_px / 2 + LINE_WIDTHS_PX[line_px]
    reach = int(np.ceil(np.hypot(length / 2, side_px)))
    fine = 8
    steps = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    y, x = np.meshgrid(steps, steps, indexing="ij")
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    inside = np.abs(along) <= length / 2
    if line_px is None:
        plus = inside & (across > 0) & (across <= side_px)
        minus = inside & (across <= 0) & (across > -side_px)
        width_px = STEP_SIDE_PX / 2
    else:
        plus = inside & (np.abs(across) <= line_px / 2)
        minus = inside & ~plus & (np.abs(across) <= side_px)
        width_px = float(line_px)

    def pixels(area: Mask) -> Floats:
        side = 2 * reach + 1
        mean = area.reshape(side, fine, side, fine).mean(axis=(1, 3))
        return mean / mean.sum()

    taps = pixels(plus) - pixels(minus)
    return OutlineFilter(
        taps=taps.astype(np.float32),
        angle=round(angle / np.pi * ANGLES) % ANGLES,
        per_noise=float(1 / np.sqrt((taps**2).sum())),
        width_px=width_px,
        pixel_px=float(1 / max(abs(np.cos(angle)), abs(np.sin(angle)))),
    )


class FilteredImage:
    """One image for responses of many filters; its border is reflected.

    Args:
        image: (H, W) grey levels.
    """

    def __init__(self, image: Floats) -> None:
        height, width = image.shape
        self._shape = (height, width)
        self._pad = max(item.taps.shape[0] // 2 for item in filter_bank())
        padded = np.pad(image - image.mean(), self._pad, mode="reflect").astype(np.float32)
        self._size = (_fast(padded.shape[0]), _fast(padded.shape[1]))
        self._transform = np.asarray(fft.rfft2(padded, s=self._size))

    def response(self, item: OutlineFilter) -> Floats32:
        """Return the contrast that a filter sees around every pixel, (H, W) float32."""
        taps, (rows, columns) = item.taps, self._size
        cached = rows * columns <= MAX_CACHED_PX
        spectrum = (_cached_spectrum if cached else _spectrum)(taps.tobytes(), rows, columns)
        whole = np.asarray(fft.irfft2(self._transform * spectrum, s=self._size))
        height, width = self._shape
        return whole[self._pad : self._pad + height, self._pad : self._pad + width]


def _fast(side: int) -> int:
    return int(fft.next_fast_len(side, real=True) or side)


def _spectrum(taps: bytes, rows: int, columns: int) -> NDArray[np.complex64]:
    """Return the transform of a square filter, turned so that it correlates, centred at 0."""
    flat = np.frombuffer(taps, dtype=np.float32)
    side = math.isqrt(flat.size)
    whole = np.zeros((rows, columns), dtype=np.float32)
    whole[:side, :side] = flat.reshape(side, side)[::-1, ::-1]
    centred = np.roll(whole, (-(side // 2), -(side // 2)), axis=(0, 1))
    return np.asarray(fft.rfft2(centred))


_cached_spectrum = lru_cache(maxsize=512)(_spectrum)
