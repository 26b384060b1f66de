"""Planted defects look like the image's own material, of four kinds unless a recipe names more."""

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from training.config.added_structure import AddedStructureConfig, PlantableKind
from training.config.degradation import DegradationConfig
from training.data.augmentation.drawing import Drawing
from training.data.augmentation.extended_kinds import edge_bump
from training.data.augmentation.planting import PLANTABLE_KINDS, PLANTED_KINDS, plant_defects
from training.data.augmentation.random_kinds import random_outline, random_region
from training.data.degradation.noise import NoiseModel
from training.data.degradation.visibility import CoarseScan, VisibilityRule

NOISE = NoiseModel(base=0.3, slope=0.26)
DARK_GREY, BRIGHT_GREY = 25, 90
PITCH_PX = 64


def _lines(*, side_px: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    """Draw upright lines, 32 px wide, 32 px apart, with bright rims and noise."""
    phase = np.arange(side_px) % PITCH_PX
    edge = np.minimum(np.abs(phase - 16), np.abs(phase - 48))
    row = np.where((phase >= 16) & (phase < 48), BRIGHT_GREY, DARK_GREY) + 50.0 * (edge < 3)
    clean = ndimage.gaussian_filter1d(row, 1.3, mode="wrap") * np.ones((side_px, 1))
    noise = np.random.default_rng(seed).standard_normal(clean.shape)
    return np.rint(clean + np.sqrt(NOISE.variance(clean)) * noise).clip(0, 255).astype(np.uint8)


def _film(*, side_px: int = 192, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).standard_normal((side_px, side_px))
    return np.rint(50 + np.sqrt(13.3) * noise).clip(0, 255).astype(np.uint8)


def _holes(*, side_px: int = 256) -> NDArray[np.uint8]:
    """Draw dark holes, 36 px wide, in a bright film."""
    y, x = np.mgrid[:side_px, :side_px] % PITCH_PX - PITCH_PX / 2
    image = np.where(np.hypot(x, y) < 18, 10.0, 60.0)
    image += np.random.default_rng(0).normal(0, 3, image.shape)
    return np.rint(image).clip(0, 255).astype(np.uint8)


def test_exactly_four_kinds_are_planted_unless_more_are_asked_for() -> None:
    """Every other kind is the evaluation's: to plant one would void its unseen group."""
    assert ("bridge", "break", "particle", "stain") == PLANTED_KINDS
    assert PLANTED_KINDS == AddedStructureConfig().kinds
    assert get_args(PlantableKind) == PLANTABLE_KINDS


def test_only_the_surroundings_of_the_mask_change() -> None:
    """Far from every defect the image keeps its bytes; the input is not written to."""
    image = _lines(side_px=384)
    before = image.copy()

    for seed in range(6):
        planted, mask = plant_defects(image, np.random.default_rng(seed), count=2, noise=NOISE)
        near = np.asarray(ndimage.distance_transform_edt(mask == 0)) < 60
        assert np.array_equal(image[~near], planted[~near])
        assert not np.array_equal(image[mask > 0], planted[mask > 0])
    assert np.array_equal(before, image)


def test_the_mask_numbers_the_defects() -> None:
    """Each defect has its own number, one body, and its bounds in size."""
    sizes = []
    for seed in range(12):
        _, mask = plant_defects(_lines(), np.random.default_rng(seed), count=3, noise=NOISE)
        assert set(range(1, int(mask.max()) + 1)) == set(np.unique(mask)) - {0}
        for rows, columns in ndimage.find_objects(mask.astype(np.int32)):
            sizes.append(max(rows.stop - rows.start, columns.stop - columns.start))

    # Defects that are cut by the border may be smaller, rough ones a little larger.
    assert 30 < len(sizes)
    assert 5 < np.quantile(sizes, 0.05)
    assert 75 > max(sizes)


@pytest.mark.parametrize("kind", PLANTABLE_KINDS)
def test_the_same_seed_plants_the_same(kind: str) -> None:
    """Everything is drawn from the generator that is passed in."""
    image = _lines()
    first = plant_defects(image, np.random.default_rng(3), count=2, kinds=[kind], noise=NOISE)
    again = plant_defects(image, np.random.default_rng(3), count=2, kinds=[kind], noise=NOISE)
    other = plant_defects(image, np.random.default_rng(4), count=2, kinds=[kind], noise=NOISE)

    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("kind", "before_grey", "after_grey"),
    [("bridge", DARK_GREY, BRIGHT_GREY), ("break", BRIGHT_GREY, DARK_GREY)],
)
def test_bridges_and_breaks_are_of_the_other_material(
    kind: str, before_grey: int, after_grey: int
) -> None:
    """A bridge joins two lines at their level or above; a break parts one down to the space's."""
    found = 0
    for seed in range(8):
        image = _lines(seed=seed)
        planted, mask = plant_defects(
            image, np.random.default_rng(seed), count=1, kinds=[kind], noise=NOISE
        )
        rows, columns = np.nonzero(mask)
        middle = np.abs(columns - np.median(columns)) < 4
        where = rows[middle], columns[middle]
        if abs(float(np.median(image[where])) - before_grey) > 8:
            continue
        found += 1
        grey = float(np.median(planted[where]))
        # Thin bars are all rim, as those of real scans are.
        assert after_grey - 8 < grey < after_grey + (60 if kind == "bridge" else 25)
        width = columns.max() - columns.min()
        assert 26 <= width <= 60
    assert found >= 5


def test_bridges_end_where_lines_begin() -> None:
    """Across the space everything along the bridge is bright: it is no protrusion."""
    for seed in range(6):
        image = _lines(seed=seed)
        planted, mask = plant_defects(
            image, np.random.default_rng(seed), count=1, kinds=["bridge"], noise=NOISE
        )
        smooth = ndimage.gaussian_filter(planted.astype(float), 1.0)
        rows, columns = np.nonzero(mask)
        if rows.size and abs(float(np.median(image[rows, columns])) - DARK_GREY) < 8:
            row = int(np.median(rows))
            span = slice(columns.min() - 4, columns.max() + 5)
            assert float(smooth[row - 2 : row + 3, span].max(axis=0).min()) > 60


@pytest.mark.parametrize("kind", ["bridge", "break"])
def test_holes_are_neither_filled_nor_joined(kind: str) -> None:
    """In a field of holes there is no line: such defects become particles or stains."""
    image = _holes()
    for seed in range(6):
        planted, mask = plant_defects(
            image, np.random.default_rng(seed), count=1, kinds=[kind], noise=NOISE
        )
        change = (planted.astype(float) - image)[mask > 0]
        hole = ndimage.gaussian_filter(image.astype(float), 1.0) < 30
        is_stain = np.abs(change).mean() < 20
        is_grain = change.mean() > 0
        assert is_stain or is_grain
        # No hole is filled by the film around it.
        for rows, columns in ndimage.find_objects(np.asarray(measure.label(hole))):
            inside = hole[rows, columns]
            assert is_grain or float(np.median(planted[rows, columns][inside])) < 30


def test_particles_are_bright_with_brighter_rims() -> None:
    """On a film a particle stands out, its rim more than its middle; a shadow lies around."""
    rims, shadows = [], []
    for seed in range(8):
        image = _film(seed=seed)
        planted, mask = plant_defects(
            image, np.random.default_rng(seed), count=1, kinds=["particle"], noise=NOISE
        )
        body = mask > 0
        grey = planted.astype(float)
        assert float(grey[body].mean()) > 55
        depth = np.asarray(ndimage.distance_transform_edt(body))
        outside = np.asarray(ndimage.distance_transform_edt(~body))
        if depth.max() > 8:
            rims.append(grey[(depth > 2) & (depth < 4)].mean() - grey[depth > 7].mean())
        shadows.append(grey[(outside > 3) & (outside < 6)].mean() - 50)
    assert float(np.mean(rims)) > 2
    assert float(np.mean(shadows)) < -2


def test_stains_are_faint_and_of_either_sign() -> None:
    """A stain changes grey by a quarter at most, up or down, and lets the pattern through."""
    signs = set()
    for seed in range(10):
        image = _film(seed=seed)
        planted, mask = plant_defects(
            image, np.random.default_rng(seed), count=1, kinds=["stain"], noise=NOISE
        )
        change = (planted.astype(float) - image)[mask > 0].mean() / 50
        assert 0.03 < abs(change) < 0.26
        signs.add(change > 0)
    assert {True, False} == signs


def test_planted_material_has_the_images_grain() -> None:
    """On a bridge the noise is that of bright lines, not less."""
    residuals = []
    for seed in range(10):
        planted, mask = plant_defects(
            _lines(seed=seed), np.random.default_rng(seed), count=1, kinds=["break"], noise=NOISE
        )
        grey = planted.astype(float)
        inner = np.asarray(ndimage.binary_erosion(mask > 0, iterations=7), dtype=np.bool_)
        response = np.asarray(ndimage.convolve(grey, np.outer([1, -2, 1], [1, -2, 1]))) / 6
        variance = NOISE.variance(np.asarray(ndimage.gaussian_filter(grey, 1.5)))
        residuals.extend((response[inner] / np.sqrt(variance[inner])).tolist())

    assert len(residuals) > 300
    assert 1.0 == pytest.approx(float(np.median(np.abs(residuals))) / 0.6745, abs=0.25)


def test_float_images_keep_their_range() -> None:
    """float32 in [0, 1] gives float32 in [0, 1], the same picture as from uint8."""
    image = _lines()
    as_uint8, mask = plant_defects(image, np.random.default_rng(1), count=2, noise=NOISE)
    as_float, same = plant_defects(
        (image / 255).astype(np.float32), np.random.default_rng(1), count=2, noise=NOISE
    )

    assert (np.uint8, np.float32) == (as_uint8.dtype, as_float.dtype)
    assert np.array_equal(mask, same)
    assert float(np.abs(as_uint8 - 255 * as_float).max()) < 0.51


@pytest.mark.parametrize(
    ("image", "count", "kinds", "message"),
    [
        (np.zeros((64, 200), np.uint8), 1, None, "at least 96 px"),
        (np.zeros((200, 200)), 1, None, "uint8 or float32"),
        (np.zeros((200, 200), np.uint8), 256, None, "0 to 255 defects"),
        (np.zeros((200, 200), np.uint8), 1, ["scratch"], "scratch"),
    ],
)
def test_what_cannot_be_planted_is_refused(
    image: np.ndarray, count: int, kinds: list[str] | None, message: str
) -> None:
    """Errors name the value and what was expected."""
    with pytest.raises(ValueError, match=message):
        plant_defects(image, np.random.default_rng(0), count=count, kinds=kinds)


SILENT = NoiseModel(base=0.0, slope=0.0)


def _smooth_lines(*, side_px: int = 288) -> NDArray[np.float32]:
    """Return the lines without noise, in [0, 1]."""
    phase = np.arange(side_px) % PITCH_PX
    edge = np.minimum(np.abs(phase - 16), np.abs(phase - 48))
    row = np.where((phase >= 16) & (phase < 48), BRIGHT_GREY, DARK_GREY) + 50.0 * (edge < 3)
    clean = ndimage.gaussian_filter1d(row, 1.3, mode="wrap") * np.ones((side_px, 1))
    return (clean / 255).astype(np.float32)


def _scan() -> CoarseScan:
    degradation = DegradationConfig(
        spot_sigma_px=(2.5, 2.5), noise_var_base=(9, 9), noise_var_slope=(0.3, 0.3), gain=(1.4, 1.4)
    )
    return CoarseScan(degradation=degradation, scale=4)


@pytest.mark.parametrize("kind", PLANTABLE_KINDS)
def test_defects_are_as_visible_as_was_drawn(kind: str) -> None:
    """No planted change shows more than the drawn d', and most show just that."""
    image, scan, rng = _smooth_lines(), _scan(), np.random.default_rng(0)
    reached = []
    for wanted in (12.0, 20.0):
        rule = VisibilityRule(scan=scan, least=wanted, most=wanted, drawn_share=1.0)
        for _ in range(4):
            planted, mask = plant_defects(
                image, rng, count=1, kinds=[kind], noise=SILENT, rule=rule
            )
            if mask.any():
                reached.append(scan.detectability(255 * image, 255 * planted) / wanted)

    assert len(reached) > 4
    # A window that starts between LR pixels, and the spot's reach beyond it, shift d' a little.
    assert 1.1 > max(reached)
    assert 0.9 < min(reached)


def test_extended_structure_is_planted_at_a_few_grey_levels() -> None:
    """A long bar that is seen by its area alone: the mean change is below that of other defects."""
    image, rng = np.full((288, 288), 60 / 255, dtype=np.float32), np.random.default_rng(1)
    rule = VisibilityRule(scan=_scan(), least=8.0, most=8.0, drawn_share=1.0)
    changes, areas = [], []
    for _ in range(8):
        planted, mask = plant_defects(
            image, rng, count=1, kinds=["fallen_bar"], noise=SILENT, rule=rule
        )
        changes.append(float(255 * np.abs(planted - image)[mask > 0].mean()))
        areas.append(int((mask > 0).sum()))

    assert 2.5 > float(np.median(changes))
    assert 2000 < float(np.median(areas))


def _bumps(count: int = 12) -> list[tuple[NDArray[np.float32], Drawing]]:
    """Draw bumps of the lines' edges in windows, in grey levels."""
    window, rng = 255 * _smooth_lines(side_px=144), np.random.default_rng(2)
    drawn = [edge_bump(window, rng) for _ in range(count)]
    return [(window, drawing) for drawing in drawn if drawing is not None]


def test_a_bump_moves_a_stretch_of_one_edge_and_keeps_its_profile() -> None:
    """The change lies within reach of an edge, and no grey appears that lines do not have."""
    bumps = _bumps()
    assert 8 < len(bumps)
    for before, drawing in bumps:
        after = drawing.on(before)
        rows, columns = np.nonzero(np.abs(after - before) > 2)
        assert 32 > np.ptp(columns)
        assert 130 > np.ptp(rows)
        assert float(before.max()) + 5 > float(after.max())
        assert float(before.min()) - 5 < float(after.min())
        assert drawing.body.any()


def test_a_weakened_bump_is_smaller_not_paler() -> None:
    """At a third of its strength an edge is shifted by a third; the space's middle stays dark."""
    level = (DARK_GREY + BRIGHT_GREY) / 2

    def area(before: NDArray[np.float32], drawing: Drawing) -> float:
        # Bright where it was dark, or the reverse: the shift times its length.
        return float(((drawing.on(before) > level) != (before > level)).sum())

    shares = [
        area(before, drawing.weakened(1 / 3)) / area(before, drawing)
        for before, drawing in _bumps()
    ]

    assert 1 / 3 == pytest.approx(float(np.mean(shares)), abs=0.1)


def test_kinds_beyond_the_four_are_planted_on_request_only() -> None:
    """The default kinds draw as before, whatever else could be planted."""
    image = _lines()
    named = plant_defects(
        image, np.random.default_rng(7), count=3, kinds=list(PLANTED_KINDS), noise=NOISE
    )
    default = plant_defects(image, np.random.default_rng(7), count=3, noise=NOISE)

    assert np.array_equal(named[0], default[0])
    assert np.array_equal(named[1], default[1])


def test_random_regions_have_no_shape_of_their_own() -> None:
    """Outlines are irregular, some have holes or islands, and sizes span what was asked for."""
    rng = np.random.default_rng(0)
    regions = [random_outline((144, 144), rng) > 0 for _ in range(60)]
    areas = np.array([region.sum() for region in regions])
    parts = [int(np.asarray(measure.label(region)).max()) for region in regions]
    filled = [np.asarray(ndimage.binary_fill_holes(region)) for region in regions]
    holes = [bool((full > region).any()) for full, region in zip(filled, regions, strict=True)]
    hulls = [
        measure.regionprops(region.astype(int))[0].solidity for region in regions if region.any()
    ]

    assert 40 > np.quantile(areas, 0.1)
    assert 1500 < np.quantile(areas, 0.9)
    assert 2 <= max(parts)
    assert any(holes)
    assert 0.9 > float(np.median(hulls))


def test_random_regions_change_grey_by_every_edit() -> None:
    """Fills are flat, tints let the pattern through, moved ones show the window's own greys."""
    window, rng = 255 * _smooth_lines(side_px=144), np.random.default_rng(0)
    drawings = [random_region(window, rng) for _ in range(40)]
    tinted = [drawing for drawing in drawings if not drawing.weight.any()]
    covering = [drawing for drawing in drawings if drawing.weight.any()]
    flat = [drawing for drawing in covering if np.ptp(drawing.grey) == 0]
    moved = [drawing for drawing in covering if np.ptp(drawing.grey) > 0]

    assert min(len(tinted), len(flat), len(moved)) > 5
    assert all(0.45 < drawing.shade.min() and drawing.shade.max() < 1.55 for drawing in tinted)
    assert all(window.max() >= drawing.grey.max() for drawing in moved)
    assert all(window.min() <= drawing.grey.min() for drawing in moved)
