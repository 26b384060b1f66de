"""Pasted patches: from pictures at hand, inside their boxes only, in the image's own range."""

import socket

import numpy as np
import pytest
from numpy.typing import NDArray

from training.config.degradation import DegradationConfig
from training.data.augmentation.patch_source import NATURAL_PICTURES, PatchSource, natural_source
from training.data.augmentation.patches import SIDES_PX, augment_with_patches, paste_patches
from training.data.augmentation.synthetic_pictures import dead_leaves, pink_noise
from training.data.degradation.noise import NoiseModel
from training.data.degradation.visibility import CoarseScan, VisibilityRule

SYNTHETIC = PatchSource(pictures=(), synthetic_share=1.0)
"""Dead leaves and 1/f noise only."""


def _image(*, side_px: int = 200, seed: int = 0) -> np.ndarray:
    """Return a step from 40 to 90 with noise."""
    image = np.full((side_px, side_px), 40.0)
    image[:, side_px // 2 :] = 90.0
    image += np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.rint(image).astype(np.uint8)


def test_natural_pictures_come_from_the_installed_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are read without a network, in grey, with structure in them."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        pytest.fail("a patch source opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    natural_source.cache_clear()

    pictures = natural_source().pictures

    assert len(NATURAL_PICTURES) == len(pictures)
    for picture in pictures:
        assert (2, np.float32) == (picture.ndim, picture.dtype)
        assert min(picture.shape) >= 160
        assert float(picture.std()) > 10


@pytest.mark.parametrize("shrink", [1, 4])
def test_outside_the_boxes_nothing_changes(shrink: int) -> None:
    """The original is kept outside the mask and left alone itself; inside, the picture is new."""
    image = _image()
    before = image.copy()

    pasted, mask = paste_patches(
        image, np.random.default_rng(0), count=3, source=natural_source(), shrink=shrink
    )

    assert np.array_equal(before, image)
    assert np.array_equal(image[~mask], pasted[~mask])
    assert float((pasted[mask] != image[mask]).mean()) > 0.7
    assert (np.uint8, image.shape) == (pasted.dtype, pasted.shape)


@pytest.mark.parametrize("shrink", [1, 4])
def test_sizes_are_bounded_in_hr_pixels(shrink: int) -> None:
    """Single patches have sides of 16 to 160 HR px, whichever grid they are pasted on."""
    sides = []
    for seed in range(25):
        _, mask = paste_patches(
            _image(), np.random.default_rng(seed), count=1, source=SYNTHETIC, shrink=shrink
        )
        sides += [shrink * int(mask.any(axis=axis).sum()) for axis in (0, 1)]

    assert SIDES_PX[0] <= min(sides) < 32
    assert 100 < max(sides) <= SIDES_PX[1]


def test_grey_lies_in_the_images_range() -> None:
    """Patches are matched to the image's levels and use a good part of them."""
    greys = []
    for seed in range(10):
        pasted, mask = paste_patches(
            _image(), np.random.default_rng(seed), count=2, source=natural_source()
        )
        greys.append(pasted[mask])

    values = np.concatenate(greys)
    # The medians 40 and 90, widened by noise and by half of the median on a blank film.
    assert 18 <= values.min()
    assert values.max() <= 140
    assert float(values.std()) > 8


def test_blank_films_still_get_visible_patches() -> None:
    """An image without a range of its own gets half to one and a half of its median."""
    film = np.full((200, 200), 60, np.uint8)

    spreads = [
        float(pasted[mask].std())
        for pasted, mask in (
            paste_patches(film, np.random.default_rng(seed), count=1, source=natural_source())
            for seed in range(8)
        )
    ]

    assert float(np.median(spreads)) > 4


def test_noise_is_added_to_patches_only() -> None:
    """With a noise model the patches have that much more grain."""
    film = np.full((256, 256), 100, np.uint8)

    def roughness(noise: NoiseModel | None) -> float:
        pasted, mask = paste_patches(
            film, np.random.default_rng(2), count=1, source=SYNTHETIC, noise=noise
        )
        step = np.diff(pasted.astype(float), axis=1)[mask[:, 1:] & mask[:, :-1]]
        return float(np.median(np.abs(step)))

    expected = 0.6745 * np.sqrt(2 * 100.0)
    assert roughness(NoiseModel(base=100.0, slope=0.0)) == pytest.approx(expected, rel=0.25)
    assert roughness(None) < 4


class _Checkerboard(PatchSource):
    """Draws -1 and 1 in turn, whatever the random numbers are."""

    def draw(
        self, rng: np.random.Generator, *, height_px: int, width_px: int
    ) -> NDArray[np.float32]:
        y, x = np.mgrid[:height_px, :width_px]
        return np.where((x + y) % 2, 1.0, -1.0).astype(np.float32)


def test_lr_patches_are_area_means() -> None:
    """What changes from one HR pixel to the next is averaged out on the LR grid, not skipped."""
    film = np.full((200, 200), 60, np.uint8)
    source = _Checkerboard(pictures=())

    sharp, sharp_mask = paste_patches(film, np.random.default_rng(1), count=1, source=source)
    mean, mean_mask = paste_patches(
        film, np.random.default_rng(1), count=1, source=source, shrink=4
    )

    assert float(sharp[sharp_mask].std()) > 5
    assert 0.0 == float(mean[mean_mask].std())


def test_the_set_grows_by_its_copies() -> None:
    """N images with n2 copies each make N (1 + n2), the originals first and unchanged."""
    images = [_image(seed=seed) for seed in range(3)]

    augmented = augment_with_patches(
        images, np.random.default_rng(0), num_patches=2, num_copies=2, source=SYNTHETIC
    )

    assert 3 * (1 + 2) == len(augmented)
    for original, kept in zip(images, augmented, strict=False):
        assert np.array_equal(original, kept)
    for number, copy in enumerate(augmented[3:]):
        assert not np.array_equal(images[number % 3], copy)


def test_the_same_seed_pastes_the_same() -> None:
    """Everything is drawn from the generator that is passed in."""
    source = natural_source()
    first, again, other = (
        paste_patches(_image(), np.random.default_rng(seed), count=3, source=source)[0]
        for seed in (5, 5, 6)
    )

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_synthetic_pictures_have_their_spectra() -> None:
    """Noise falls as 1/f; leaves have edges, hence many equal neighbours and some big steps."""
    noise = pink_noise(128, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft2(noise - noise.mean()))
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    inner = (frequency > 0.02) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[inner]), np.log(spectrum[inner]), 1)[0]
    leaves = dead_leaves(128, np.random.default_rng(0))
    steps = np.abs(np.diff(leaves, axis=1))

    assert -1.0 == pytest.approx(slope, abs=0.15)
    assert float((steps < 0.5).mean()) > 0.3
    assert float(np.quantile(steps, 0.98)) > 25


def test_a_rounded_patch_leaves_its_corners_alone() -> None:
    """It covers part of its box, with a soft rim; outside nothing changes."""
    image = np.full((128, 128), 90, dtype=np.uint8)

    pasted, mask = paste_patches(
        image,
        np.random.default_rng(3),
        count=1,
        source=SYNTHETIC,
        sides_px=(60, 60),
        is_rounded=True,
    )

    rows, columns = np.nonzero(mask)
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert 20 < np.ptp(rows) < 64
    assert mask.sum() < 0.95 * box
    assert np.array_equal(image[~mask], pasted[~mask])
    assert not np.array_equal(image[mask], pasted[mask])


def test_patches_that_a_scan_cannot_show_are_left_out() -> None:
    """With an impossible least detectability nothing is pasted."""
    rule = VisibilityRule(scan=CoarseScan(degradation=DegradationConfig(), scale=4), least=1e6)

    pasted, mask = paste_patches(
        _image(),
        np.random.default_rng(0),
        count=5,
        source=SYNTHETIC,
        rule=rule,
    )

    assert not mask.any()
    assert np.array_equal(_image(), pasted)


@pytest.mark.parametrize("wanted", [10.0, 20.0])
@pytest.mark.parametrize("is_rounded", [False, True])
def test_patches_are_as_visible_as_was_drawn(wanted: float, is_rounded: bool) -> None:
    """Each has the drawn d' in the coarse scan, with its surroundings under the spot."""
    scan = CoarseScan(
        degradation=DegradationConfig(noise_var_base=(25, 25), noise_var_slope=(0, 0)), scale=4
    )
    # Both bounds are the same: one d' can be drawn.
    rule = VisibilityRule(scan=scan, least=wanted, most=wanted, drawn_share=1.0)
    image = _image()
    rng = np.random.default_rng(0)
    reached = []
    for _ in range(12):
        pasted, mask = paste_patches(
            image,
            rng,
            count=1,
            source=SYNTHETIC,
            sides_px=(24, 60),
            is_rounded=is_rounded,
            rule=rule,
        )
        if mask.any():
            reached.append(scan.detectability(image.astype(float), pasted.astype(float)))

    assert 5 < len(reached)
    # Grey levels are whole numbers in the image.
    assert pytest.approx(wanted, rel=0.06) == max(reached)
    assert pytest.approx(wanted, rel=0.06) == min(reached)


@pytest.mark.parametrize(("count", "shrink"), [(-1, 1), (1, 0)])
def test_bad_numbers_are_refused(count: int, shrink: int) -> None:
    """Counts and scales out of range are errors."""
    with pytest.raises(ValueError, match=f"got {count} and {shrink}"):
        paste_patches(
            _image(),
            np.random.default_rng(0),
            count=count,
            source=SYNTHETIC,
            shrink=shrink,
        )
