"""Planted defects: visible where the truth says, within the limits, clear of each other."""

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import ndimage

from training.data.augmentation.planting import PLANTABLE_KINDS
from training.simulator.capture import REVIEW
from training.simulator.defects.planting import (
    BORDER_BOX_NM,
    MAX_CNR,
    MAX_SIDE_NM,
    MIN_CNR,
    MIN_SIDE_NM,
    NoSiteError,
    PlantedDefect,
    plant,
)
from training.simulator.defects.registry import DEFECTS, EVERY_SCENE, fitting_kinds
from training.simulator.defects.sites import BORDER_NM, CLEARANCE_NM
from training.simulator.emission import secondary_electrons
from training.simulator.layout import Canvas, Floats, Scene
from training.simulator.scenes.registry import SCENES

CANVAS = Canvas(tile_px=384, margin_px=48, pixel_nm=1.0)


@pytest.fixture(scope="module")
def clean() -> Mapping[str, Scene]:
    """Return one scene of every kind."""
    return {name: SCENES[name](CANVAS, np.random.default_rng(11)) for name in SCENES}


def test_groups_are_those_of_the_task() -> None:
    """Training may plant four kinds; at least four others it never sees."""
    groups = {
        group: {kind for kind, spec in DEFECTS.items() if spec.group == group}
        for group in ("planted", "unseen")
    }
    assert groups["planted"] == {"bridge", "break", "particle", "stain"}
    assert {"missing_hole", "scratch", "protrusion", "void"} <= groups["unseen"]


def test_nothing_that_training_plants_is_of_an_unknown_kind() -> None:
    """At least three kinds are drawn by no training, not even by one that may plant all it can."""
    unknown = {kind for kind, spec in DEFECTS.items() if spec.group == "unknown"}
    assert 3 <= len(unknown)
    assert set() == unknown & set(PLANTABLE_KINDS)
    assert set() == unknown & {kind for scene in SCENES for kind in fitting_kinds(scene)}


def test_every_scene_takes_kinds_of_both_groups() -> None:
    """The table names scenes that there are, and no scene is left with one group."""
    assert set(EVERY_SCENE) == set(SCENES)
    for scene in SCENES:
        assert fitting_kinds(scene, "planted")
        assert fitting_kinds(scene, "unseen")
    for flat in ("blank_film", "granular"):
        assert {"particle", "stain", "scratch", "void"} == set(fitting_kinds(flat))


@pytest.mark.parametrize(
    ("kind", "scene"), [(kind, scene) for kind in DEFECTS for scene in DEFECTS[kind].scenes]
)
def test_planted_defect_is_visible_where_the_truth_says(
    clean: Mapping[str, Scene], kind: str, scene: str
) -> None:
    """Review without noise changes within the mask as stated, and little away from it."""
    planted, defect = plant(clean[scene], kind, np.random.default_rng((3, len(kind))))
    assert (kind, DEFECTS[kind].group, 1) == (defect.kind, defect.group, defect.number)
    _assert_within_limits(defect)

    inner = CANVAS.inner
    before, after = (_review(each)[inner, inner] for each in (clean[scene], planted))
    noise = np.sqrt(REVIEW.noise_variance(np.maximum(before, after)))
    change = np.abs(after - before) / noise
    # The planting looks at a window whose surroundings shade a little differently.
    assert change[defect.mask].mean() == pytest.approx(defect.contrast_to_noise, rel=0.1, abs=0.1)
    y, x = np.nonzero(defect.mask)
    assert abs(x.mean() - defect.x_nm) < 20
    assert abs(y.mean() - defect.y_nm) < 20
    away = ndimage.binary_dilation(defect.mask, iterations=12) == 0
    assert change[away].max() < max(1.0, 0.35 * change.max())


def test_contrasts_spread_over_their_range(clean: Mapping[str, Scene]) -> None:
    """Of many stains and particles some are faint and some strong."""
    rng = np.random.default_rng(4)
    contrasts = [
        plant(clean["blank_film"], kind, rng)[1].contrast_to_noise
        for kind in ("particle", "void")
        for _ in range(10)
    ]
    assert min(contrasts) < 3
    assert max(contrasts) > 5


def test_some_defects_lie_near_the_border(clean: Mapping[str, Scene]) -> None:
    """About a tenth of the centres lie in the outer 16 to 40 nm, the others' boxes clear of it."""
    rng = np.random.default_rng(5)
    distances = []
    for _ in range(40):
        _, defect = plant(clean["blank_film"], "stain", rng)
        side_nm = CANVAS.tile_nm
        distances.append(
            min(defect.x_nm, defect.y_nm, side_nm - defect.x_nm, side_nm - defect.y_nm)
        )
        if distances[-1] >= BORDER_NM[1]:
            assert min(_box(defect)[:2]) >= BORDER_BOX_NM
            assert max(_box(defect)[2:]) <= CANVAS.tile_px - BORDER_BOX_NM
    near = np.array(distances) < BORDER_NM[1]
    assert min(distances) >= BORDER_NM[0]
    assert 1 <= near.sum() <= 12


def test_defects_of_one_tile_keep_their_distance(clean: Mapping[str, Scene]) -> None:
    """Four particles in one scene are all at other places, clear of each other."""
    rng = np.random.default_rng(7)
    scene, planted = clean["dense_lines"], []
    for _ in range(4):
        scene, defect = plant(scene, "particle", rng, taken=planted)
        planted.append(defect)
    places = np.array([(defect.x_nm, defect.y_nm) for defect in planted])
    distances = np.hypot(*(places[:, None] - places[None, :]).transpose(2, 0, 1))
    assert distances[np.triu_indices(4, 1)].min() >= CLEARANCE_NM
    assert [1, 2, 3, 4] == [defect.number for defect in planted]
    assert 1 == np.sum([defect.mask for defect in planted], axis=0).max()


def test_unlimited_defect_is_the_edit_itself(clean: Mapping[str, Scene]) -> None:
    """Without limits a missing hole leaves the film as high as elsewhere."""
    planted, defect = plant(
        clean["sparse_holes"], "missing_hole", np.random.default_rng(8), is_limited=False
    )
    height = planted.surface().height_nm
    row, column = (round(place) + CANVAS.margin_px for place in (defect.y_nm, defect.x_nm))
    before = clean["sparse_holes"].surface().height_nm
    assert before[row, column] < 1
    assert height[row, column] == pytest.approx(height.max(), abs=0.1)


def test_defect_without_a_place_is_refused(clean: Mapping[str, Scene]) -> None:
    """A hole cannot be missing where there are none; the error says so."""
    with pytest.raises(NoSiteError, match=r"'blank_film' scene has no free place.*'missing_hole'"):
        plant(clean["blank_film"], "missing_hole", np.random.default_rng(8))


def _box(defect: PlantedDefect) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(defect.mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _assert_within_limits(defect: PlantedDefect) -> None:
    left, top, right, bottom = _box(defect)
    assert MIN_SIDE_NM <= min(right - left, bottom - top)
    assert max(right - left, bottom - top) <= MAX_SIDE_NM
    assert MIN_CNR <= defect.contrast_to_noise <= MAX_CNR


def _review(scene: Scene) -> Floats:
    signal = secondary_electrons(scene.surface(), CANVAS.pixel_nm)
    return REVIEW.tone(ndimage.gaussian_filter(signal, REVIEW.spot_sigma_nm / CANVAS.pixel_nm))
