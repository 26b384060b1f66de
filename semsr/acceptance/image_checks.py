"""Checks of own images: depth and window, sizes, numbers, greys, noise, order of the folders."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from semsr.acceptance.findings import Finding
from semsr.acceptance.own_images import MIN_LR_SIDE_PX, OwnImage, names

MIN_IMAGES = 6
"""Least images of a folder: four for the limits of the trust flags, two to hold out."""

ENOUGH_IMAGES = 20
MIN_USED_SHARE = 0.5
"""Least share of the 16-bit range that images without a window use: 12 bits in 16 use 1/16."""

MAX_SATURATED_SHARE = 0.05
MAX_LOST_SHARE = 0.5
"""Share of clipped pixels that is reported, and that leaves an image out."""

BLANK_SIGMAS = 0.5
MIN_STRUCTURE_GREY = 1.0
NOISY_FACTOR = 2.0
MAX_SIZES = 4

Images = Sequence[OwnImage]


def check_depth(images: Images, *, side: str, has_window: bool) -> Iterator[Finding]:
    """Check the depth of a folder's images, and that 16-bit ones have a window that suits them."""
    deep = [image for image in images if image.bits == 16]
    if deep and len(deep) < len(images):
        yield Finding(
            level="warning",
            text=f"{side} has {len(deep)} images of 16 bit and {len(images) - len(deep)} of 8 bit; "
            "expected one depth. The window applies to those of 16 bit",
            files=tuple(names(deep)),
        )
    if deep and not has_window:
        low = min(image.levels[0] for image in deep)
        high = max(image.levels[1] for image in deep)
        if high - low < MIN_USED_SHARE * 65_535:
            bits = max(int(high).bit_length(), 9)
            yield Finding(
                level="refused",
                text=f"{side} has 16-bit images whose greys are {low} to {high}: without a window, "
                f"0 to 65535 become 8 bits, and little contrast is left; expected --window LO,HI, "
                f"such as --window 0,{2**bits - 1} for {bits} bits",
            )


def check_sizes(images: Images, *, side: str, min_side_px: int) -> Iterator[Finding]:
    """Check that images are large enough for training crops."""
    small = [image for image in images if min(image.pixels.shape) < min_side_px]
    if small:
        yield Finding(
            level="refused",
            text=f"{side} has images smaller than {min_side_px} px a side, the size of a training "
            "crop",
            files=tuple(
                f"{image.name} ({image.pixels.shape[1]}x{image.pixels.shape[0]} px)"
                for image in small
            ),
        )
    sizes = {image.pixels.shape for image in images}
    if len(sizes) > MAX_SIZES:
        yield Finding(level="note", text=f"{side} has images of {len(sizes)} sizes")


def check_number(images: Images, *, side: str) -> Iterator[Finding]:
    """Check that a folder has enough images."""
    count = len(images)
    if count < MIN_IMAGES:
        yield Finding(
            level="refused",
            text=f"{side} has {count} usable images; expected at least {MIN_IMAGES}, better "
            f"{ENOUGH_IMAGES}",
        )
    elif count < ENOUGH_IMAGES:
        yield Finding(
            level="warning",
            text=f"{side} has {count} usable images; {ENOUGH_IMAGES} are enough to begin with, and "
            "figures of fewer are less certain",
        )


def check_greys(images: Images, *, side: str) -> tuple[list[Finding], list[OwnImage]]:
    """Find constant, blank and clipped images.

    Returns:
        Findings, and the images that are left out: constant ones, and those of which more than
        half of the pixels are black or white.
    """
    constant = [image for image in images if image.pixels.min() == image.pixels.max()]
    shares = {image.name: _clipped_share(image) for image in images if image not in constant}
    lost = [image for image in images if shares.get(image.name, 0.0) > MAX_LOST_SHARE]
    clipped = [
        image
        for image in images
        if MAX_SATURATED_SHARE < shares.get(image.name, 0.0) <= MAX_LOST_SHARE
    ]
    left_out = [*constant, *lost]
    blank = [image for image in images if image not in left_out and _is_blank(image)]
    findings = []
    if constant:
        findings.append(
            Finding(
                level="warning",
                text=f"{side} has images of one grey throughout; they are left out",
                files=tuple(names(constant)),
            )
        )
    for several, what in (
        (lost, "they are left out"),
        (clipped, "expected at most 5 %: check contrast and brightness, or the window"),
    ):
        if several:
            findings.append(
                Finding(
                    level="warning",
                    text=f"{side} has images with many black or white pixels; {what}",
                    files=tuple(f"{image.name} ({shares[image.name]:.0%})" for image in several),
                )
            )
    if blank:
        findings.append(
            Finding(
                level="warning" if len(blank) > len(images) / 4 else "note",
                text=f"{side} has images without structure, which teach the model grain only",
                files=tuple(names(blank)),
            )
        )
    return findings, left_out


def check_noise(images: Images, *, side: str) -> Iterator[Finding]:
    """Find images whose noise differs much from that of their folder."""
    if not images:
        return
    middle = float(np.median([image.noise for image in images]))
    odd = [
        image
        for image in images
        if image.noise > NOISY_FACTOR * middle or image.noise < middle / NOISY_FACTOR
    ]
    if odd and middle > 0:
        yield Finding(
            level="warning",
            text=f"{side} has images with a noise far from the folder's median of {middle:.1f} "
            "grey levels; expected one scan mode",
            files=tuple(f"{image.name} ({image.noise:.1f})" for image in odd),
        )


def check_order(lr: Images, hr: Images, *, scale: int, is_sure: bool) -> Iterator[Finding]:
    """Check that the folders are not swapped: a slow scan has less noise and more pixels."""
    if not (lr and hr):
        return
    noise = [float(np.median([image.noise for image in side])) for side in (lr, hr)]
    side_px = [float(np.median([min(i.pixels.shape) for i in side])) for side in (lr, hr)]
    is_noise_swapped = noise[0] < noise[1]
    is_size_swapped = side_px[0] > side_px[1]
    facts = (
        f"LR has a noise of {noise[0]:.1f} grey levels and images of {side_px[0]:.0f} px, HR "
        f"{noise[1]:.1f} and {side_px[1]:.0f} px"
    )
    if is_noise_swapped and is_size_swapped and not is_sure:
        yield Finding(
            level="refused",
            text=f"the folders look swapped: {facts}; expected LR (fast scan) first and HR (slow "
            "scan) second. If they are right, give --not-swapped",
        )
    elif is_noise_swapped:
        yield Finding(
            level="warning",
            text=f"{facts}: a fast scan usually has more noise than a slow one. Check that LR is "
            "the fast scan and that HR has no sharpening",
        )
    elif is_size_swapped:
        yield Finding(
            level="note",
            text=f"{facts}. HR must have {scale} times the magnification of LR",
        )


def min_side_of(side: str, *, scale: int) -> int:
    """Return the least side of an image in px."""
    return MIN_LR_SIDE_PX * (scale if side == "HR" else 1)


def _clipped_share(image: OwnImage) -> float:
    return float(((image.pixels == 0) | (image.pixels == 255)).mean())


def _is_blank(image: OwnImage) -> bool:
    """Whether an image has no structure: after a blur, what is left of the noise is all there is.

    A Gaussian of sigma 2 px leaves 1 / (2 sqrt(pi) 2) = 0.14 of white noise's deviation.
    """
    smooth = ndimage.gaussian_filter(image.pixels.astype(np.float32), 2.0)
    # A slow change of brightness over the image is charging, no structure.
    structure = smooth - ndimage.gaussian_filter(smooth, 24.0)
    return float(structure.std()) < max(MIN_STRUCTURE_GREY, BLANK_SIGMAS * image.noise)
