"""Images of the same pixels, and images that share noise: crops of one picture, or copies of it.

Two places of one design look alike, so that structure cannot tell a copy from a repeat. Noise can:
it is the same only where pixels come from one capture. The phase correlation of the noise of two
images then has a peak of one pixel. What is left of the edges of two places of one design makes
hills of several pixels: on real images a neighbour of the peak had at least 0.6 of its height, and
less than 0.01 where two crops of one JPEG overlap.

Source: phase correlation, Kuglin and Hines 1975; noise alone, as Lukas et al. 2006 recognise a
camera by its sensor noise.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from semsr.acceptance.own_images import OwnImage
from semsr.progress import tracked

MAX_SIDE_PX = 960
MAX_PAIRS = 3000
NEIGHBOURS = 16
"""Beyond `MAX_PAIRS` pairs of images, only neighbours by name are compared: crops of one picture
usually have names next to each other."""

MIN_PEAK = 0.04
"""Least height of the peak, as a share of that of equal images: 4 % of the noise is shared."""

MIN_SIGMAS = 12.0
CLIP_SIGMAS = 3.0
TINY = np.float32(1e-20)

Floats = NDArray[np.float32]


def equal_images(images: Sequence[OwnImage]) -> list[tuple[OwnImage, OwnImage]]:
    """Return every image that equals an earlier one to the last grey level, after that one."""
    seen: dict[str, OwnImage] = {}
    found = []
    for image in images:
        digest = pixel_digest(image.pixels)
        if digest in seen:
            found.append((seen[digest], image))
        else:
            seen[digest] = image
    return found


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an image's shape and pixels."""
    content = np.ascontiguousarray(pixels)
    return hashlib.sha256(f"{content.shape}".encode() + content.tobytes()).hexdigest()


def images_of_one_capture(
    images: Sequence[OwnImage],
) -> tuple[list[tuple[OwnImage, OwnImage]], bool]:
    """Return the pairs of images that share noise, and whether every pair was compared."""
    if len(images) < 2:
        return [], True
    side_px = min(MAX_SIDE_PX, max(min(image.pixels.shape) for image in images))
    number = len(images)
    is_whole = number * (number - 1) // 2 <= MAX_PAIRS
    reach = number if is_whole else NEIGHBOURS
    spectra: dict[int, NDArray[np.complex64]] = {}
    found = []
    what = f"comparing {images[0].side.upper()} images"
    for second in tracked(range(number), what, total=number, unit="image"):
        spectra[second] = np.asarray(fft.rfft2(_noise(images[second].pixels, side_px)))
        for first in range(max(0, second - reach), second):
            product = spectra[first] * np.conj(spectra[second])
            # Phases alone: the few strong frequencies of a grating would hide the noise.
            product /= np.maximum(np.abs(product), TINY)
            correlation = np.asarray(fft.irfft2(product, s=(side_px, side_px)))
            if _has_lone_peak(correlation):
                found.append((images[first], images[second]))
        spectra.pop(second - reach, None)
    return found, is_whole


def groups(
    pairs: Sequence[tuple[OwnImage, OwnImage]], images: Sequence[OwnImage]
) -> Iterator[list[OwnImage]]:
    """Yield the images that hang together by pairs, groups of at least two."""
    leader = {image.name: image.name for image in images}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for first, second in pairs:
        leader[find(second.name)] = find(first.name)
    members: dict[str, list[OwnImage]] = {}
    for image in images:
        members.setdefault(find(image.name), []).append(image)
    yield from (several for several in members.values() if len(several) > 1)


def _noise(pixels: NDArray[np.uint8], side_px: int) -> Floats:
    """Return an image's noise on a square, clipped so that edges do not outweigh it; norm 1."""
    cut = pixels[:side_px, :side_px].astype(np.float32)
    rough = cut - ndimage.gaussian_filter(cut, 1.0)
    deviation = float(np.median(np.abs(rough))) / 0.6745
    rough = np.clip(rough, -CLIP_SIGMAS * deviation, CLIP_SIGMAS * deviation)
    # A second high-pass takes out what is left of edges, which are longer than a pixel.
    rough -= ndimage.median_filter(rough, size=(1, 5)) + ndimage.median_filter(rough, size=(5, 1))
    square = np.zeros((side_px, side_px), dtype=np.float32)
    square[: cut.shape[0], : cut.shape[1]] = rough - rough.mean()
    norm = float(np.linalg.norm(square))
    return square / norm if norm else square


def _has_lone_peak(correlation: Floats) -> bool:
    """Whether a correlation has a peak of one pixel, high above all around it."""
    y, x = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    peak = float(correlation[y, x])
    if peak < MIN_PEAK:
        return False
    height, width = correlation.shape
    around = [
        float(correlation[(y + dy) % height, (x + dx) % width])
        for dy in range(-6, 7)
        for dx in range(-6, 7)
        if (dy, dx) != (0, 0)
    ]
    floor = float(correlation.std())
    return peak > 2.0 * max(0.0, *around) and peak > MIN_SIGMAS * floor
