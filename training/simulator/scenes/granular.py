"""Polished copper: grains of several orientations, twins, boundaries and a fine polish texture."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.simulator.layout import OXIDE_YIELD, Canvas, Floats, Scene
from training.simulator.roughness import rough_field

COPPER_YIELD = 1.35
"""Relative to flat oxide, see `layout`."""

ORIENTATION_CONTRAST = 0.10
"""Largest relative deviation of a grain's yield. How deep the beam is channelled, and with it the
yield, depends on the crystal's orientation: some 10 % (Reimer 1998, on channelling contrast)."""

TWIN_SHARE = 0.4
"""Share of grains that hold a twin lamella, as annealed copper does."""


def granular(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Draw a polished polycrystal of 80 to 150 nm grains, flat but for grooves along boundaries."""
    grain_nm = rng.uniform(80, 150)
    groove_share = rng.uniform(0.06, 0.15)
    grain, count = _grains(canvas, grain_nm, rng)
    yields = rng.uniform(-ORIENTATION_CONTRAST, ORIENTATION_CONTRAST, count)
    contrast = yields[grain]
    in_twin = _in_twin(canvas, grain, count, grain_nm, rng)
    contrast = np.where(in_twin, -0.7 * contrast, contrast)
    boundary = ndimage.gaussian_filter(_borders(grain).astype(float), 1.6 / canvas.pixel_nm)
    polish = rough_field(rng, canvas.shape, pixel_nm=canvas.pixel_nm, xi_nm=5, hurst=0.4)
    smooth = ndimage.gaussian_filter(contrast, 1.0 / canvas.pixel_nm)
    # The grooves that polishing leaves along boundaries are nanometres wide and shallow: they show
    # as a loss of yield.
    groove = -groove_share * boundary / max(float(boundary.max()), 1e-9)
    return Scene(
        kind="granular",
        canvas=canvas,
        layer_nm=np.full(canvas.shape, 100.0),
        step_nm=60.0,
        yield_top=COPPER_YIELD * rng.uniform(0.93, 1.07),
        yield_bottom=0.6 * OXIDE_YIELD,
        texture=smooth + groove + 0.02 * polish,
        parameters={"grain_nm": grain_nm, "groove_share": groove_share},
    )


def _grains(
    canvas: Canvas, grain_nm: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], int]:
    """Return each pixel's grain, the Voronoi cells of a jittered grid, and their number."""
    step_px = grain_nm / canvas.pixel_nm
    rows = math.ceil(canvas.shape[0] / (step_px * math.sqrt(3) / 2)) + 2
    columns = math.ceil(canvas.shape[1] / step_px) + 2
    row, column = np.mgrid[0:rows, 0:columns]
    places = np.stack(
        [(row - 0.5) * step_px * math.sqrt(3) / 2, (column - 0.5 + 0.5 * (row % 2)) * step_px]
    )
    places = places + 0.32 * step_px * rng.standard_normal(places.shape)
    y, x = np.rint(places.reshape(2, -1)).astype(int)
    inside = (y >= 0) & (y < canvas.shape[0]) & (x >= 0) & (x < canvas.shape[1])
    seeds = np.ones(canvas.shape, dtype=bool)
    number = np.zeros(canvas.shape, dtype=np.intp)
    seeds[y[inside], x[inside]] = False
    number[y[inside], x[inside]] = np.arange(np.count_nonzero(inside))
    nearest = np.asarray(
        ndimage.distance_transform_edt(seeds, return_distances=False, return_indices=True)
    )
    return number[nearest[0], nearest[1]], int(np.count_nonzero(inside))


def _in_twin(
    canvas: Canvas,
    grain: NDArray[np.intp],
    count: int,
    grain_nm: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Return which pixels lie in the straight lamella of their grain's twin."""
    direction = rng.uniform(0, math.pi, count)
    width_nm = np.where(rng.uniform(size=count) < TWIN_SHARE, rng.uniform(0.1, 0.3, count), 0.0)
    place = rng.uniform(-0.15, 0.15, count)
    # A seed may own no pixel; its centre is then unused and only must not divide by zero.
    members = np.maximum(np.bincount(grain.ravel(), minlength=count), 1)
    rows, columns = (
        np.bincount(grain.ravel(), weights=axis.ravel(), minlength=count) / members
        for axis in np.indices(grain.shape, dtype=np.float64)
    )
    centres = np.stack([rows, columns], axis=1)
    normal_x, normal_y = np.cos(direction), np.sin(direction)
    pixel = canvas.pixel_nm
    from_line: Floats = (
        normal_y[grain] * np.arange(canvas.shape[0])[:, None] * pixel
        + normal_x[grain] * np.arange(canvas.shape[1])[None, :] * pixel
        - (normal_y * centres[:, 0] * pixel + normal_x * centres[:, 1] * pixel + place * grain_nm)[
            grain
        ]
    )
    return np.abs(from_line) < (width_nm * grain_nm / 2)[grain]


def _borders(
    grain: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """Return the pixels whose right or lower neighbour belongs to another grain."""
    borders = np.zeros(grain.shape, dtype=bool)
    borders[:, :-1] |= grain[:, 1:] != grain[:, :-1]
    borders[:-1] |= grain[1:] != grain[:-1]
    return borders
