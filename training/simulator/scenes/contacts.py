"""Contact-hole arrays in a film, dense and sparse."""

import math

import numpy as np

from training.simulator.layout import FILM_YIELD, OXIDE_YIELD, Canvas, Floats, Scene, Site
from training.simulator.roughness import rough_edge, rough_field


def dense_holes(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Draw a tight contact-hole array, square or hexagonal, of 64 to 90 nm pitch."""
    pitch_nm = rng.uniform(64, 90)
    diameter_nm = pitch_nm * rng.uniform(0.48, 0.58)
    is_hexagonal = bool(rng.integers(2))
    return _holes(
        canvas,
        rng,
        kind="dense_holes",
        pitch_nm=pitch_nm,
        diameter_nm=diameter_nm,
        is_hexagonal=is_hexagonal,
    )


def sparse_holes(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Draw contact holes far apart on a square lattice of 170 to 240 nm pitch."""
    pitch_nm = rng.uniform(170, 240)
    diameter_nm = rng.uniform(44, 70)
    return _holes(
        canvas,
        rng,
        kind="sparse_holes",
        pitch_nm=pitch_nm,
        diameter_nm=diameter_nm,
        is_hexagonal=False,
    )


def _holes(
    canvas: Canvas,
    rng: np.random.Generator,
    *,
    kind: str,
    pitch_nm: float,
    diameter_nm: float,
    is_hexagonal: bool,
) -> Scene:
    """Draw contact holes with rough contours on a square or hexagonal lattice."""
    step_nm = rng.uniform(70, 110)
    axis = canvas.axis_nm
    layer = np.full(canvas.shape, pitch_nm, dtype=np.float64)
    row_nm = pitch_nm * (math.sqrt(3) / 2 if is_hexagonal else 1.0)
    x_0, y_0 = rng.uniform(0, pitch_nm, 2)
    low, high = -canvas.margin_nm - pitch_nm, canvas.tile_nm + canvas.margin_nm + pitch_nm
    sites = []
    for row in range(math.floor((low - y_0) / row_nm), math.ceil((high - y_0) / row_nm) + 1):
        shift_nm = pitch_nm / 2 if is_hexagonal and row % 2 else 0.0
        for column in range(
            math.floor((low - x_0) / pitch_nm) - 1, math.ceil((high - x_0) / pitch_nm) + 1
        ):
            placement = rng.standard_normal(4)
            site = Site(
                x_nm=x_0 + column * pitch_nm + shift_nm + 0.6 * placement[0],
                y_nm=y_0 + row * row_nm + 0.6 * placement[1],
                angle_rad=0.0,
                size_nm=diameter_nm * (1 + 0.015 * placement[2]),
            )
            _cut_hole(layer, axis, site, rng, ellipticity=0.02 * placement[3])
            sites.append(site)
    return Scene(
        kind=kind,
        canvas=canvas,
        layer_nm=layer,
        step_nm=step_nm,
        yield_top=FILM_YIELD * rng.uniform(0.93, 1.07),
        yield_bottom=OXIDE_YIELD * rng.uniform(0.7, 0.9),
        texture=0.02 * rough_field(rng, canvas.shape, pixel_nm=canvas.pixel_nm, xi_nm=6, hurst=0.5),
        sites={"hole": tuple(sites)},
        parameters={"pitch_nm": pitch_nm, "diameter_nm": diameter_nm, "height_nm": step_nm},
    )


def _cut_hole(
    layer: Floats, axis: Floats, site: Site, rng: np.random.Generator, *, ellipticity: float
) -> None:
    """Cut one hole into the signed distance in place; its roughness is drawn in any case."""
    radius_nm = site.size_nm / 2
    num_samples = 64
    contour = radius_nm + rough_edge(
        rng,
        length_px=num_samples,
        step_nm=2 * math.pi * radius_nm / num_samples,
        sigma_nm=0.5,
        xi_nm=14,
        hurst=0.75,
        is_closed=True,
    )
    columns = slice(*np.searchsorted(axis, [site.x_nm - site.size_nm, site.x_nm + site.size_nm]))
    rows = slice(*np.searchsorted(axis, [site.y_nm - site.size_nm, site.y_nm + site.size_nm]))
    if rows.start == rows.stop or columns.start == columns.stop:
        return
    x = (axis[columns] - site.x_nm)[None, :] * (1 + ellipticity)
    y = (axis[rows] - site.y_nm)[:, None] / (1 + ellipticity)
    sample = (np.arctan2(y, x) / (2 * math.pi) % 1.0) * num_samples
    closed = np.append(contour, contour[0])
    outside = np.hypot(x, y) - np.interp(sample, np.arange(num_samples + 1), closed)
    layer[rows, columns] = np.minimum(layer[rows, columns], outside)
