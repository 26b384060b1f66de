"""Which LR picture belongs to which HR picture: by names, or by content.

Names are checked by content: a numbering that is off by one gives pairs of one design at different
places, which correlate almost as well as true pairs.

By content, every LR picture is compared with every HR picture on the LR grid at every shift up to
the maximum, and the pairs of the greatest sum of correlations are taken (Hungarian assignment;
Kuhn 1955). Pictures of one pattern at different places differ in the roughness of their edges only,
so the full LR grid is needed; on a grid four times coarser, gratings of one pitch are all alike.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from training.data.images import SourceImage
from training.ground.progress import tracked
from training.registration.filters import BACKGROUND_LR_PX, BLUR_LR_PX, Grey, gaussian
from training.registration.pair import RegistrationError

MIN_SIDE_LR_PX = 32
"""Least side of the part that every shift leaves inside, LR px."""

MIN_MARGIN = 0.002
"""Least difference of correlation by which a match must be better than an exchange of two files."""

CHECKED_NEIGHBOURS = 16
"""Pairs before and after a pair, in the order of names, whose files it is compared with. All of
them would take minutes for hundreds of pairs, and a wrong numbering shifts names by a few."""

_Number = TypeVar("_Number", np.uint8, np.float32)
_LR_OR_HR = re.compile(r"^(lr|hr)[-_]|[-_](lr|hr)$", re.IGNORECASE)


@dataclass(frozen=True)
class Match:
    """Files that belong together, or one without a partner.

    Attributes:
        lr: Picture, or None.
        hr: Picture, or None.
        problem: Reason why they are not a pair; None for a pair.
    """

    lr: SourceImage | None
    hr: SourceImage | None
    problem: str | None = None


def pair_name(image: SourceImage) -> str:
    """Return a file's stem without `lr_`, `_lr`, `hr_` and `_hr` at its ends.

    An image of a stack has its number behind the stem: `stack.tif[00000002]` is `stack_00000002`.
    """
    file, bracket, number = image.name.removesuffix("]").partition("[")
    stem = _LR_OR_HR.sub("", PurePath(file).stem)
    return f"{stem}_{number}" if bracket else stem


def match_names(lr: Sequence[SourceImage], hr: Sequence[SourceImage]) -> list[Match]:
    """Match files by `pair_name`, in the order of LR's files; files without a partner follow.

    Raises:
        ValueError: Two files of a side have one name.
    """
    first, second = _named(lr), _named(hr)
    matches = [
        Match(image, second[name])
        if name in second
        else Match(image, None, f"no HR file has the name {name!r}")
        for name, image in first.items()
    ]
    rest = {name: image for name, image in second.items() if name not in first}
    matches += [
        Match(None, image, f"no LR file has the name {name!r}") for name, image in rest.items()
    ]
    return matches


def check_names(matches: Sequence[Match], *, scale: int, max_shift_px: int) -> list[Match]:
    """Refuse pairs whose content matches a neighbour's file clearly better.

    Args:
        matches: Result of `match_names`.
        scale: HR px per LR px.
        max_shift_px: Greatest shift, HR px.

    Returns:
        The matches in their order, some with a problem.
    """
    places = [n for n, match in enumerate(matches) if match.lr and match.hr and not match.problem]
    lr = [image for n in places if (image := matches[n].lr)]
    hr = [image for n in places if (image := matches[n].hr)]
    try:
        correlations = _correlations(
            lr, hr, scale=scale, max_shift_px=max_shift_px, reach=CHECKED_NEIGHBOURS
        )
    except RegistrationError:
        # Pictures too small to compare are judged by their registration alone.
        return list(matches)
    checked = list(matches)
    for row, place in enumerate(places):
        near = range(max(0, row - CHECKED_NEIGHBOURS), min(len(lr), row + CHECKED_NEIGHBOURS + 1))
        better = [other for other in near if _gain(correlations, row, other) > MIN_MARGIN]
        if better:
            best = max(better, key=lambda other: _gain(correlations, row, other))
            checked[place] = Match(
                lr[row],
                hr[row],
                f"content matches {hr[best].name} better than {hr[row].name}: are the names shifted"
                " or exchanged? Match by content to find the pairs",
            )
    return checked


def _gain(correlations: NDArray[np.float64], row: int, other: int) -> float:
    """Return what an exchange of the HR files of two pairs adds to their correlations."""
    exchanged = correlations[row, other] + correlations[other, row]
    return float(exchanged - correlations[row, row] - correlations[other, other])


def match_content(
    lr: Sequence[SourceImage], hr: Sequence[SourceImage], *, scale: int, max_shift_px: int
) -> list[Match]:
    """Match pictures by their structure; arguments as `pair.register`.

    Raises:
        ValueError: Two LR files have one name.
        RegistrationError: The pictures are too small to compare at these shifts.
    """
    _named(lr)
    correlations = _correlations(lr, hr, scale=scale, max_shift_px=max_shift_px)
    rows, columns = optimize.linear_sum_assignment(correlations, maximize=True)
    chosen = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    matches = [
        Match(image, hr[chosen[row]], _rival(row, chosen, correlations, lr, hr))
        if row in chosen
        else Match(image, None, "no HR file is left: others match better")
        for row, image in enumerate(lr)
    ]
    taken = set(chosen.values())
    rest = (image for column, image in enumerate(hr) if column not in taken)
    return [*matches, *(Match(None, image, "no LR file is left for it") for image in rest)]


def _named(images: Sequence[SourceImage]) -> dict[str, SourceImage]:
    named: dict[str, SourceImage] = {}
    for image in images:
        other = named.setdefault(pair_name(image), image)
        if other is not image:
            raise ValueError(
                f"{other.name} and {image.name} have the name {pair_name(image)!r} in common: "
                "expected one file of a name"
            )
    return named


def _correlations(
    lr: Sequence[SourceImage],
    hr: Sequence[SourceImage],
    *,
    scale: int,
    max_shift_px: int,
    reach: int | None = None,
) -> NDArray[np.float64]:
    """Return the greatest correlation of each pair over the shifts, (LR files, HR files).

    With a reach, only of files at most this far apart in their order; others are NaN.
    """
    if not lr or not hr:
        return np.zeros((len(lr), len(hr)))
    margin = -(-max_shift_px // scale) + 1
    small = [_reduced(image.pixels, scale) for image in hr]
    shapes = [image.pixels.shape for image in lr] + [image.shape for image in small]
    shape = (min(s[0] for s in shapes), min(s[1] for s in shapes))
    if min(shape) - 2 * margin < MIN_SIDE_LR_PX:
        raise RegistrationError(
            f"smallest picture has {shape[1]}x{shape[0]} LR px, expected at least "
            f"{MIN_SIDE_LR_PX + 2 * margin} a side to compare contents at shifts up to "
            f"{max_shift_px} HR px: match by names, or allow smaller shifts"
        )
    window = (shape[0] - 2 * margin, shape[1] - 2 * margin)
    others = []
    for image in small:
        band = _centred(gaussian(image, BLUR_LR_PX) - gaussian(image, BACKGROUND_LR_PX), shape)
        others.append((np.fft.rfft2(band), np.sqrt(_window_energies(band, window))))
    found = np.full((len(lr), len(hr)), np.nan)
    for row, image in enumerate(tracked(lr, "comparing contents", unit="LR picture")):
        grey = image.pixels.astype(np.float32)
        inner = _centred(grey - gaussian(grey, BACKGROUND_LR_PX), window)
        norm = float(np.sqrt(np.sum(inner.astype(np.float64) ** 2)))
        spectrum = np.conj(np.fft.rfft2(inner, shape, (0, 1)))
        for column, (other, energies) in enumerate(others):
            if reach is not None and abs(row - column) > reach:
                continue
            surface = np.fft.irfft2(other * spectrum, shape, (0, 1))
            products = surface[: 2 * margin + 1, : 2 * margin + 1]
            found[row, column] = float((products / np.maximum(energies * norm, 1e-6)).max())
    return found


def _reduced(hr: Grey, scale: int) -> NDArray[np.float32]:
    """Average blocks of scale x scale px; rows and columns that fill no block are left out."""
    height, width = (side // scale for side in hr.shape)
    blocks = _centred(hr, (height * scale, width * scale))
    return blocks.reshape(height, scale, width, scale).mean((1, 3), dtype=np.float32)


def _centred(picture: NDArray[_Number], shape: tuple[int, int]) -> NDArray[_Number]:
    top, left = ((a - b) // 2 for a, b in zip(picture.shape, shape, strict=True))
    return picture[top : top + shape[0], left : left + shape[1]]


def _window_energies(band: NDArray[np.float32], window: tuple[int, int]) -> NDArray[np.float64]:
    """Return the sum of squares over the window at each of its positions."""
    sums = np.pad(np.cumsum(np.cumsum(band.astype(np.float64) ** 2, 0), 1), ((1, 0), (1, 0)))
    height, width = window
    boxes = sums[height:, width:] - sums[:-height, width:]
    return np.maximum(boxes + sums[:-height, :-width] - sums[height:, :-width], 0.0)


def _rival(
    row: int,
    chosen: dict[int, int],
    correlations: NDArray[np.float64],
    lr: Sequence[SourceImage],
    hr: Sequence[SourceImage],
) -> str | None:
    """Describe another assignment that is as good as the chosen one; None if there is none."""
    column = chosen[row]
    taken = {other_column: other for other, other_column in chosen.items()}
    for other in range(len(hr)):
        if other == column:
            continue
        lost = correlations[row, column] - correlations[row, other]
        if other in taken:
            partner = taken[other]
            lost += correlations[partner, other] - correlations[partner, column]
        if lost < MIN_MARGIN:
            return (
                f"content matches {hr[other].name} as well as {hr[column].name}: "
                "match by names, if the names are right"
            )
    for other in range(len(lr)):
        lost = correlations[row, column] - correlations[other, column]
        if other not in chosen and lost < MIN_MARGIN:
            return f"content of {hr[column].name} matches {lr[other].name} as well"
    return None
