"""Layouts, roughness and planted defects."""

import numpy as np
import pytest

from training.simulator.capture import INSPECTION, noise_free
from training.simulator.defects import CLEARANCE_NM, DEFECTS, NoSiteError, plant
from training.simulator.emission import secondary_electrons
from training.simulator.layout import Canvas, Floats, Scene
from training.simulator.roughness import palasantzas_psd, rough_edge
from training.simulator.scenes import SCENES

CANVAS = Canvas(tile_px=480, margin_px=48, pixel_nm=1.0)
HOSTS = {"bridge": "dense_lines", "break": "iso_lines", "missing_hole": "dense_holes"}


@pytest.mark.parametrize("hurst", [0.5, 0.8])
def test_spectrum_integrates_to_the_variance(hurst: float) -> None:
    """The two-sided spectrum, over all frequencies, sums up to sigma squared."""
    frequency = np.linspace(-20, 20, 4_000_001)
    psd = palasantzas_psd(frequency, sigma_nm=1.5, xi_nm=20, hurst=hurst)
    assert np.trapezoid(psd, frequency) == pytest.approx(1.5**2, rel=0.002)


def test_rough_edge_has_an_exponential_autocorrelation() -> None:
    """At H = 0.5 edges correlate as sigma² exp(-distance / xi)."""
    rng = np.random.default_rng(0)
    edges = np.stack(
        [rough_edge(rng, length_px=1024, step_nm=1.0, sigma_nm=1.2, xi_nm=20) for _ in range(400)]
    )
    for distance in (0, 10, 20, 40):
        measured = (edges[:, : 1024 - distance] * edges[:, distance:]).mean()
        # A finite period holds no frequency 0, which takes 2 · xi / period = 2 % away at most.
        assert measured == pytest.approx(1.2**2 * np.exp(-distance / 20), abs=0.06)


def test_closed_edge_has_no_seam() -> None:
    """The last sample of a hole's contour is as near to the first as to its other neighbour."""
    rng = np.random.default_rng(1)
    contours = np.stack(
        [
            rough_edge(rng, length_px=64, step_nm=2.0, sigma_nm=1.0, xi_nm=15, is_closed=True)
            for _ in range(500)
        ]
    )
    seam = (contours[:, 0] - contours[:, -1]).std()
    inside = (contours[:, 1] - contours[:, 0]).std()
    assert seam == pytest.approx(inside, rel=0.15)


@pytest.mark.parametrize("name", SCENES)
def test_scene_surface_is_finite_and_of_the_canvas(name: str) -> None:
    """Every kind of scene gives height and yield on the whole canvas, and knows its own name."""
    scene = SCENES[name](CANVAS, np.random.default_rng(2))
    surface = scene.surface()
    assert scene.kind == name
    assert surface.height_nm.shape == surface.material_yield.shape == CANVAS.shape
    assert np.isfinite(surface.height_nm).all()
    assert surface.material_yield.min() > 0


def test_grating_has_its_pitch_and_width() -> None:
    """Edges found in the layer give back the drawn pitch and line width."""
    scene = SCENES["dense_lines"](CANVAS, np.random.default_rng(3))
    layer = scene.layer_nm if abs(scene.parameters["angle_deg"]) < 45 else scene.layer_nm.T
    pitches, widths = [], []
    for row in layer:
        rising = _crossings(row, 1)
        falling = _crossings(row, -1)
        falling = falling[falling > rising[0]]
        pitches.extend(np.diff(rising))
        widths.extend(falling - rising[: falling.size])
    assert np.mean(pitches) == pytest.approx(scene.parameters["pitch_nm"], rel=0.01)
    assert np.mean(widths) == pytest.approx(scene.parameters["cd_nm"], rel=0.02)


def test_hole_array_opens_the_drawn_area() -> None:
    """The share of open area of a sparse square array is that of its circles."""
    scene = SCENES["sparse_holes"](
        Canvas(tile_px=1920, margin_px=0, pixel_nm=1.0), np.random.default_rng(4)
    )
    pitch_nm, diameter_nm = (scene.parameters[key] for key in ("pitch_nm", "diameter_nm"))
    expected = np.pi * diameter_nm**2 / 4 / pitch_nm**2
    assert (scene.layer_nm < 0).mean() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", DEFECTS)
def test_planted_defect_is_visible_where_the_truth_says(kind: str, seed: int) -> None:
    """In the inspection scan it stands out of the noise in its mask, and little changes outside."""
    rng = np.random.default_rng(seed)
    clean = SCENES[HOSTS.get(kind, "blank_film")](CANVAS, rng)
    scene, defect = plant(clean, kind, rng)
    assert defect.kind == kind
    # 6 to 70 pixels of 1 nm across
    extents = [np.ptp(places) + 1 for places in np.nonzero(defect.mask)]
    assert min(extents) >= 6
    assert max(extents) <= 150 if kind == "break" else max(extents) <= 80

    before, after = (_inspect(each) for each in (clean, scene))
    mask = defect.mask.reshape(120, 4, 120, 4).mean(axis=(1, 3)) > 0.5
    change = np.abs(after - before)
    sigma = np.sqrt(INSPECTION.noise_variance(before))
    assert (change[mask] / sigma[mask]).mean() > 3
    rows, columns = np.nonzero(mask)
    for axis, places in enumerate((rows, columns)):
        weights = (change**2).sum(axis=1 - axis)
        centre = (weights * np.arange(weights.size)).sum() / weights.sum()
        assert centre == pytest.approx(places.mean(), abs=1.5)
    far = np.ones_like(mask)
    far[
        max(rows.min() - 15, 0) : rows.max() + 16, max(columns.min() - 15, 0) : columns.max() + 16
    ] = False
    assert change[far].max() < 3 * sigma.min()


def test_defects_of_one_tile_keep_their_distance() -> None:
    """Four bridges in one grating are all at other places, clear of each other."""
    rng = np.random.default_rng(7)
    scene = SCENES["dense_lines"](CANVAS, rng)
    planted = []
    for _ in range(4):
        scene, defect = plant(scene, "bridge", rng, taken=planted)
        planted.append(defect)
    places = np.array([(defect.x_nm, defect.y_nm) for defect in planted])
    distances = np.hypot(*(places[:, None] - places[None, :]).transpose(2, 0, 1))
    assert distances[np.triu_indices(4, 1)].min() >= CLEARANCE_NM
    assert sum(int((defect.mask & planted[0].mask).any()) for defect in planted[1:]) == 0


def test_defect_without_a_place_is_refused() -> None:
    """A hole cannot be missing where there are none; the error says so."""
    scene = SCENES["blank_film"](CANVAS, np.random.default_rng(8))
    with pytest.raises(NoSiteError, match=r"'blank_film' scene has no free place.*'missing_hole'"):
        plant(scene, "missing_hole", np.random.default_rng(8))


def _inspect(scene: Scene) -> Floats:
    signal = secondary_electrons(scene.surface(), CANVAS.pixel_nm)
    return noise_free(signal, CANVAS, INSPECTION, np.random.default_rng(9), fine_per_pixel=4)


def _crossings(row: Floats, direction: int) -> Floats:
    """Return the places where a profile crosses 0 upwards (1) or downwards (-1), interpolated."""
    signed = row * direction
    at = np.nonzero((signed[:-1] < 0) & (signed[1:] >= 0))[0]
    return at + signed[at] / (signed[at] - signed[at + 1])
