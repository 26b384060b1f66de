"""Natural patches of pairs: the same patch at the same place of both images."""

import numpy as np
import pytest

from training.config.recipe import ConfigError
from training.data.augmentation.aligned_patches import (
    SIDES_PX,
    paste_aligned,
    with_aligned_patches,
)
from training.data.augmentation.patch_source import PatchSource, natural_source
from training.data.given_pairs import SourcePair
from training.data.images import SourceImage

WHITE = PatchSource(pictures=(np.full((40, 40), 255.0, dtype=np.float32),))
"""Patches that show their boxes."""


def make_pair(scale: int, *, number: int = 0, side_px: int = 200) -> SourcePair:
    """Return a pair of dark noise, HR of the given side."""
    rng = np.random.default_rng(number)
    lr, hr = (
        SourceImage(
            name=f"{name}_{number}.png",
            source="s",
            pixels=rng.integers(0, 50, (side, side), dtype=np.uint8),
        )
        for name, side in (("lr", side_px // scale), ("hr", side_px))
    )
    return SourcePair(name=str(number), lr=lr, hr=hr, dy=0.25)


@pytest.mark.parametrize("scale", [1, 4])
def test_boxes_of_both_images_are_the_same_and_nothing_else_changes(scale: int) -> None:
    """The white boxes of LR, enlarged, are those of HR; outside, every pixel is the original's."""
    pair = make_pair(scale)

    original, copy = with_aligned_patches(
        [pair],
        num_patches=5,
        num_copies=1,
        scale=scale,
        source=WHITE,
        seed=3,
        sides_px=(8, 24),
    )

    assert original is pair
    assert (pair.name, 0.25) == (copy.name, copy.dy)
    coarse, fine = copy.lr.pixels == 255, copy.hr.pixels == 255
    assert np.array_equal(coarse.repeat(scale, axis=0).repeat(scale, axis=1), fine)
    assert 5 * 8**2 * 0.5 < fine.sum() <= 5 * 24**2
    for image, before, box in ((copy.lr, pair.lr, coarse), (copy.hr, pair.hr, fine)):
        assert np.array_equal(before.pixels[~box], image.pixels[~box])
        assert not (before.pixels == 255).any()


def test_greys_are_those_of_the_photograph() -> None:
    """Both boxes equal a cut of one picture, turned by nothing and fitted to nothing."""
    pair = make_pair(1)
    lr, hr = pair.lr.pixels.copy(), pair.hr.pixels.copy()
    patch = natural_source().cut(np.random.default_rng(0), side_px=40)

    y, x = paste_aligned(lr, hr, patch, np.random.default_rng(1), scale=1)

    box = (slice(y, y + 40), slice(x, x + 40))
    assert np.array_equal(np.rint(patch).astype(np.uint8), hr[box])
    assert np.array_equal(lr[box], hr[box])
    assert any(
        np.array_equal(window, patch)
        for picture in natural_source().pictures
        for window in np.lib.stride_tricks.sliding_window_view(picture, (40, 40))[
            tuple(np.argwhere(picture[:-39, :-39] == patch[0, 0]).T)
        ]
    )


def test_a_coarse_box_holds_the_means_of_the_fine_one() -> None:
    """At scale 4 the LR image shows the patch as an image of its own pixels would."""
    pair = make_pair(4)
    lr, hr = pair.lr.pixels.copy(), pair.hr.pixels.copy()
    patch = natural_source().cut(np.random.default_rng(0), side_px=40)

    y, x = paste_aligned(lr, hr, patch, np.random.default_rng(1), scale=4)

    fine = hr[4 * y : 4 * y + 40, 4 * x : 4 * x + 40].astype(np.float64)
    means = fine.reshape(10, 4, 10, 4).mean(axis=(1, 3))
    # Of the unrounded greys.
    assert float(np.abs(means - lr[y : y + 10, x : x + 10]).max()) <= 1.0


@pytest.mark.parametrize(("num_patches", "num_copies"), [(0, 0), (1, 1), (10, 1), (10, 10)])
def test_a_set_grows_by_its_copies(num_patches: int, num_copies: int) -> None:
    """N (1 + n2) pairs; the first N are the pairs themselves; equal seeds give equal copies."""
    pairs = [make_pair(1, number=number) for number in range(3)]

    def grown(seed: int) -> list[SourcePair]:
        return with_aligned_patches(
            pairs,
            num_patches=num_patches,
            num_copies=num_copies,
            scale=1,
            source=natural_source(),
            seed=seed,
        )

    first, again, other = grown(0), grown(0), grown(1)

    assert 3 * (1 + num_copies) == len(first)
    assert pairs == first[:3]
    assert ["0", "1", "2"] * (1 + num_copies) == [pair.name for pair in first]
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(one.hr.pixels, same.hr.pixels)
    if num_copies:
        assert not np.array_equal(first[3].hr.pixels, other[3].hr.pixels)
        assert not np.array_equal(first[3].hr.pixels, pairs[0].hr.pixels)


def test_patches_that_do_not_fit_are_refused() -> None:
    """By name and number, before anything is drawn."""

    def paste(scale: int, *sides_px: int) -> None:
        with_aligned_patches(
            [make_pair(scale, side_px=160)],
            num_patches=1,
            num_copies=1,
            scale=scale,
            source=WHITE,
            seed=0,
            sides_px=sides_px,
        )

    paste(4, *SIDES_PX)
    with pytest.raises(
        ConfigError, match=r"sides of \[18\] HR px; expected multiples of the scale 4"
    ):
        paste(4, 16, 18)
    with pytest.raises(ConfigError, match=r"smaller than a patch of 164 px: \['hr_0\.png'\]"):
        paste(4, 164)
