"""SRAM-like metal: Manhattan tracks of several widths with line ends, jogs and landing pads."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special

from training.simulator.layout import OXIDE_YIELD, SILICON_YIELD, Canvas, Floats, Scene, Site
from training.simulator.roughness import rough_field

ROUNDING_NM = 7.0
"""Standard deviation of the blur whose half level is the printed contour: it rounds corners and
pulls line ends back, as an aerial image does (Mack, Fundamental Principles of Optical Lithography,
2007)."""

NUM_TRACKS = 3

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom in a cell's own coordinates, nm."""


@dataclass(frozen=True)
class _Cell:
    """The drawn quarter of the repeated pattern, which is mirrored at all its sides."""

    width_nm: float
    height_nm: float
    metal: tuple[Rectangle, ...]
    lines: tuple[Rectangle, ...]
    spaces: tuple[tuple[Rectangle, float], ...]
    """Where defects may lie: tracks, and gaps with the direction across them."""


def sram(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Draw a mirrored cell of metal tracks: rails, three tracks with line ends, jogs and pads."""
    pitch_nm = rng.uniform(46, 58)
    track_nm = pitch_nm * rng.uniform(0.42, 0.52)
    height_nm = rng.uniform(30, 50)
    sigma_nm = rng.uniform(0.6, 1.0)
    cell = _draw_cell(rng, pitch_nm, track_nm)
    angle = (math.pi / 2 if rng.integers(2) else 0.0) + math.radians(rng.uniform(-0.4, 0.4))
    offset_nm = (rng.uniform(0, 2 * cell.width_nm), rng.uniform(0, 2 * cell.height_nm))

    axis = canvas.axis_nm - canvas.tile_nm / 2
    u = axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle) - offset_nm[0]
    v = axis[:, None] * math.cos(angle) - axis[None, :] * math.sin(angle) - offset_nm[1]
    drawn = np.zeros(canvas.shape)
    folded_u, folded_v = _folded(u, cell.width_nm), _folded(v, cell.height_nm)
    for left, top, right, bottom in cell.metal:
        inside = (folded_u >= left) & (folded_u < right) & (folded_v >= top) & (folded_v < bottom)
        drawn[inside] = 1.0
    printed = ndimage.gaussian_filter(drawn, ROUNDING_NM / canvas.pixel_nm, mode="nearest")
    # Across a straight edge the blurred step is a normal distribution: its inverse is the distance.
    distance_nm = ROUNDING_NM * special.ndtri(np.clip(printed, 1e-6, 1 - 1e-6))
    edge = rough_field(rng, canvas.shape, pixel_nm=canvas.pixel_nm, xi_nm=18, hurst=0.6)
    texture = rough_field(rng, canvas.shape, pixel_nm=canvas.pixel_nm, xi_nm=6, hurst=0.5)
    return Scene(
        kind="sram",
        canvas=canvas,
        layer_nm=distance_nm + sigma_nm * edge,
        step_nm=height_nm,
        yield_top=SILICON_YIELD * rng.uniform(0.85, 1.0),
        yield_bottom=OXIDE_YIELD * rng.uniform(0.93, 1.07),
        texture=0.02 * texture,
        sites=_sites(canvas, cell, angle, offset_nm),
        parameters={
            "pitch_nm": pitch_nm,
            "track_nm": track_nm,
            "angle_deg": math.degrees(angle),
            "height_nm": height_nm,
            "edge_sigma_nm": sigma_nm,
        },
    )


def _draw_cell(rng: np.random.Generator, pitch_nm: float, track_nm: float) -> _Cell:
    rail_nm = track_nm * rng.uniform(1.4, 1.9)
    width_nm = pitch_nm * rng.uniform(5.0, 7.5)
    first_nm = rail_nm / 2 + (pitch_nm - track_nm) + track_nm / 2
    centres = [first_nm + track * pitch_nm for track in range(NUM_TRACKS)]
    height_nm = centres[-1] + pitch_nm
    half = track_nm / 2
    # Rails lie on the cell's upper side and a track on its lower one, whole by mirroring.
    metal: list[Rectangle] = [
        (0.0, 0.0, width_nm, rail_nm / 2),
        (0.0, height_nm - half, width_nm, height_nm),
    ]
    lines: list[Rectangle] = [(0.0, height_nm - half, width_nm, height_nm + half)]
    spaces: list[tuple[Rectangle, float]] = []
    for track, centre in enumerate(centres):
        cut = width_nm * rng.uniform(0.3, 0.7)
        gap = pitch_nm * rng.uniform(0.85, 1.1)
        segments = [(0.0, cut - gap / 2), (cut + gap / 2, width_nm)]
        for left, right in segments:
            metal.append((left, centre - half, right, centre + half))
            lines.append((left + 8, centre - half, right - 8, centre + half))
        spaces.append(((cut - gap / 2, centre - half, cut + gap / 2, centre + half), 0.0))
        # A pad at one of the line ends, within the space to the neighbours.
        end = segments[0][1] if rng.integers(2) else segments[1][0]
        grown = 0.16 * track_nm
        away = -1.4 * track_nm if end < cut else 1.4 * track_nm
        metal.append(
            (
                min(end, end + away),
                centre - half - grown,
                max(end, end + away),
                centre + half + grown,
            )
        )
        if track and rng.uniform() < 0.7:
            # A jog on one of the cell's sides joins this track to the one above.
            left = 0.0 if rng.integers(2) else width_nm - half
            metal.append((left, centres[track - 1], left + half, centre))
    bounds = [rail_nm / 2, *(edge for centre in centres for edge in (centre - half, centre + half))]
    for top, bottom in zip(bounds[::2], bounds[1::2], strict=False):
        spaces.append(((0.22 * width_nm, top, 0.78 * width_nm, bottom), math.pi / 2))
    return _Cell(width_nm, height_nm, tuple(metal), tuple(lines), tuple(spaces))


def _folded(place_nm: Floats, period_nm: float) -> Floats:
    """Return places mirrored into 0 to period_nm."""
    return np.abs((place_nm + period_nm) % (2 * period_nm) - period_nm)


def _sites(
    canvas: Canvas, cell: _Cell, angle: float, offset_nm: tuple[float, float]
) -> dict[str, tuple[Site, ...]]:
    """Return places every 12 nm along tracks and gaps, in every copy of the cell."""
    lines = [
        (u, (top + bottom) / 2, math.pi / 2, bottom - top)
        for left, top, right, bottom in cell.lines
        for u in np.arange(left, right, 12.0).tolist()
    ]
    spaces = [
        (u, (top + bottom) / 2, across, bottom - top if across else right - left)
        for (left, top, right, bottom), across in cell.spaces
        for u in (np.arange(left, right, 12.0).tolist() if across else [(left + right) / 2])
    ]
    return {
        "line": _copies(canvas, cell, lines, angle, offset_nm),
        "space": _copies(canvas, cell, spaces, angle, offset_nm),
    }


def _copies(
    canvas: Canvas,
    cell: _Cell,
    places: list[tuple[float, float, float, float]],
    angle: float,
    offset_nm: tuple[float, float],
) -> tuple[Site, ...]:
    half_nm = canvas.tile_nm / 2
    cosine, sine = math.cos(angle), math.sin(angle)
    reach = [
        math.ceil((1.5 * canvas.tile_nm) / (2 * side)) for side in (cell.width_nm, cell.height_nm)
    ]
    sites = []
    for column in range(-reach[0], reach[0] + 1):
        for row in range(-reach[1], reach[1] + 1):
            for sign_u in (1, -1):
                for sign_v in (1, -1):
                    for u_0, v_0, across, size_nm in places:
                        u = 2 * column * cell.width_nm + sign_u * u_0 + offset_nm[0]
                        v = 2 * row * cell.height_nm + sign_v * v_0 + offset_nm[1]
                        x, y = u * cosine - v * sine + half_nm, u * sine + v * cosine + half_nm
                        if 0 <= x < canvas.tile_nm and 0 <= y < canvas.tile_nm:
                            sites.append(Site(x, y, angle + across, size_nm))
    return tuple(sites)
