"""Line and space gratings with correlated edge roughness, dense and isolated."""

import math

import numpy as np
from scipy import ndimage

from training.simulator.layout import OXIDE_YIELD, SILICON_YIELD, Canvas, Floats, Scene, Site
from training.simulator.roughness import rough_edge, rough_field


def dense_lines(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Draw a line and space grating of 60 to 96 nm pitch, upright or lying."""
    pitch_nm = rng.uniform(60, 96)
    cd_nm = pitch_nm * rng.uniform(0.44, 0.54)
    is_horizontal = bool(rng.integers(2))
    return _grating(
        canvas, rng, kind="dense_lines", pitch_nm=pitch_nm, cd_nm=cd_nm, is_horizontal=is_horizontal
    )


def iso_lines(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Draw wide lines that stand alone, 340 to 520 nm apart."""
    pitch_nm = rng.uniform(340, 520)
    cd_nm = rng.uniform(60, 130)
    is_horizontal = bool(rng.integers(2))
    return _grating(
        canvas, rng, kind="iso_lines", pitch_nm=pitch_nm, cd_nm=cd_nm, is_horizontal=is_horizontal
    )


def _grating(
    canvas: Canvas,
    rng: np.random.Generator,
    *,
    kind: str,
    pitch_nm: float,
    cd_nm: float,
    is_horizontal: bool,
) -> Scene:
    """Draw parallel lines of one width, each edge rough on its own."""
    height_nm = rng.uniform(45, 70)
    sigma_nm = rng.uniform(0.7, 1.2)
    xi_nm = rng.uniform(15, 30)
    # A real stage leaves a small rotation, which also brings edges to all sub-pixel positions.
    angle = (math.pi / 2 if is_horizontal else 0.0) + math.radians(rng.uniform(-0.4, 0.4))
    offset_nm = rng.uniform(0, pitch_nm)

    half_nm = canvas.tile_nm / 2
    # Corners of a canvas that is turned a little reach 2 % further than its sides.
    reach_nm = 1.02 * (half_nm + canvas.margin_nm) + 2
    lines = range(
        math.floor((-reach_nm - offset_nm) / pitch_nm),
        math.ceil((reach_nm - offset_nm) / pitch_nm) + 1,
    )
    edges_nm = np.stack(
        [
            rough_edge(
                rng,
                length_px=math.ceil(2 * reach_nm / canvas.pixel_nm) + 1,
                step_nm=canvas.pixel_nm,
                sigma_nm=sigma_nm,
                xi_nm=xi_nm,
            )
            for _ in range(2 * len(lines))
        ]
    )
    axis = canvas.axis_nm - half_nm
    across = axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle) - offset_nm
    along = axis[:, None] * math.cos(angle) - axis[None, :] * math.sin(angle) + reach_nm
    layer = _distance_to_lines(across, along / canvas.pixel_nm, edges_nm, lines, pitch_nm, cd_nm)

    texture = rough_field(rng, canvas.shape, pixel_nm=canvas.pixel_nm, xi_nm=6, hurst=0.5)
    centres = [offset_nm + line * pitch_nm for line in lines]
    spaces = [centre + pitch_nm / 2 for centre in centres]
    return Scene(
        kind=kind,
        canvas=canvas,
        layer_nm=layer,
        step_nm=height_nm,
        yield_top=SILICON_YIELD * rng.uniform(0.93, 1.07),
        yield_bottom=OXIDE_YIELD * rng.uniform(0.93, 1.07),
        texture=0.018 * texture,
        sites={
            "line": _sites(centres, half_nm, angle, cd_nm),
            "space": _sites(spaces, half_nm, angle, pitch_nm - cd_nm),
        },
        parameters={
            "pitch_nm": pitch_nm,
            "cd_nm": cd_nm,
            "angle_deg": math.degrees(angle),
            "height_nm": height_nm,
            "edge_sigma_nm": sigma_nm,
            "edge_xi_nm": xi_nm,
        },
    )


def _distance_to_lines(
    across_nm: Floats,
    along_px: Floats,
    edges_nm: Floats,
    lines: range,
    pitch_nm: float,
    cd_nm: float,
) -> Floats:
    """Return the signed distance to the nearest line.

    `edges_nm` is (2 · lines, samples along): left and right edge by turns.
    """
    line = np.clip(np.rint(across_nm / pitch_nm).astype(int), lines.start, lines.stop - 1)
    left, right = (
        ndimage.map_coordinates(
            edges_nm[side::2], [line - lines.start, along_px], order=1, mode="nearest"
        )
        for side in (0, 1)
    )
    from_centre = across_nm - line * pitch_nm
    return np.minimum(from_centre + cd_nm / 2 + left, cd_nm / 2 + right - from_centre)


def _sites(
    across_nm: list[float], half_nm: float, angle: float, size_nm: float
) -> tuple[Site, ...]:
    """Return sites every 16 nm along each of the lines or spaces."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return tuple(
        Site(
            x_nm=u * cosine - v * sine + half_nm,
            y_nm=u * sine + v * cosine + half_nm,
            angle_rad=angle,
            size_nm=size_nm,
        )
        for u in across_nm
        for v in np.arange(-half_nm, half_nm, 16.0).tolist()
    )
