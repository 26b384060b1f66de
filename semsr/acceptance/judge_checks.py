"""Checks of what the evaluation needs, before hours of training: given pairs, and own detector."""

from collections.abc import Iterator, Sequence

from semsr.acceptance.findings import Finding
from semsr.acceptance.layout import Settings
from semsr.acceptance.own_images import OwnImage, read_own
from training.evaluation.folders.real_folders import pairs_by_name


def check_pairs(settings: Settings, *, scale: int) -> Iterator[Finding]:
    """Check that the pictures of given pairs can be read and fit together."""
    if settings.pairs is None:
        return
    sides = [
        read_own(folder, "pairs", window=settings.window, max_rows=None)
        for folder in settings.pairs
    ]
    unusable = {name: why for _, several in sides for name, why in several.items()}
    if unusable:
        yield Finding(
            level="refused",
            text="--pairs has files that are not usable images",
            files=tuple(f"{name} ({why})" for name, why in unusable.items()),
        )
        return
    coarse, fine = ({image.name: image.pixels for image in images} for images, _ in sides)
    try:
        pairs_by_name(coarse, fine, scale=scale)
    except ValueError as error:
        yield Finding(level="refused", text=f"--pairs: {error}")


def check_detector(settings: Settings, hr: Sequence[OwnImage]) -> Iterator[Finding]:
    """Check that the own detector answers to one HR image."""
    if settings.detector is None or not hr:
        return
    from semsr.own_detector import OnnxDetector, OwnDetectorError

    try:
        OnnxDetector(settings.detector, threshold=settings.threshold).find(hr[0].pixels)
    except OwnDetectorError as error:
        yield Finding(level="refused", text=f"--detector: {error}", files=(hr[0].name,))
