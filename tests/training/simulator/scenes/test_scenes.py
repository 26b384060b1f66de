"""Layouts and roughness."""

import numpy as np
import pytest
from scipy import ndimage

from training.simulator.layout import Canvas, Floats
from training.simulator.roughness import palasantzas_psd, rough_edge
from training.simulator.scenes.registry import SCENES

CANVAS = Canvas(tile_px=480, margin_px=48, pixel_nm=1.0)


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


def test_sram_has_tracks_where_its_sites_are() -> None:
    """The middle of a track stands, the middle of a gap does not, and edges are rounded."""
    scene = SCENES["sram"](CANVAS, np.random.default_rng(5))
    at = {
        kind: np.array(
            [
                scene.layer_nm[int(site.y_nm) + CANVAS.margin_px, int(site.x_nm) + CANVAS.margin_px]
                for site in scene.sites[kind]
            ]
        )
        for kind in ("line", "space")
    }
    assert at["line"].size > 50
    assert at["space"].size > 50
    # Jogs may cross a gap, and line ends are pulled back.
    assert (at["line"] > 3).mean() > 0.97
    assert (at["space"] < -3).mean() > 0.9
    assert len({round(site.size_nm, 3) for site in scene.sites["space"]}) >= 3


def test_sram_tracks_have_their_width() -> None:
    """Blurring and thresholding leaves the drawn width of a straight track."""
    scene = SCENES["sram"](CANVAS, np.random.default_rng(6))
    is_lying = abs(scene.parameters["angle_deg"]) < 45
    layer = scene.layer_nm.T if is_lying else scene.layer_nm
    widths = []
    for row in layer[::7]:
        rising, falling = _crossings(row, 1), _crossings(row, -1)
        falling = falling[falling > rising[0]]
        widths.extend(falling - rising[: falling.size])
    expected = scene.parameters["track_nm"]
    near = [width for width in widths if abs(width - expected) < 0.15 * expected]
    assert len(near) > 0.3 * len(widths)
    assert np.median(near) == pytest.approx(expected, rel=0.03)


def test_grains_differ_by_orientation_and_are_flat() -> None:
    """The yield falls into plateaus some percent apart; the height is the same everywhere."""
    scene = SCENES["granular"](CANVAS, np.random.default_rng(7))
    surface = scene.surface()
    assert np.ptp(surface.height_nm) < 1e-6
    smooth = ndimage.median_filter(surface.material_yield[::4, ::4], 9)
    relative = smooth / np.median(smooth)
    assert 0.03 < relative.std() < 0.10
    # Between boundaries nothing changes but the polish: most gradients are small.
    steps = np.abs(np.diff(relative, axis=1))
    assert np.median(steps) < 0.005
    assert np.quantile(steps, 0.98) > 0.02


def _crossings(row: Floats, direction: int) -> Floats:
    """Return the places where a profile crosses 0 upwards (1) or downwards (-1), interpolated."""
    signed = row * direction
    at = np.nonzero((signed[:-1] < 0) & (signed[1:] >= 0))[0]
    return at + signed[at] / (signed[at] - signed[at + 1])
