"""Free places for a defect in a scene: listed by its layout, or found on its layer."""

import math
from collections.abc import Sequence

import numpy as np

from training.simulator.layout import Floats, Scene, Site

CLEARANCE_NM = 90.0
"""Least distance between the centres of two defects in one tile."""

FREE_BORDER = 0.12
"""Share of the tile's side that stays free of centres, on each side, where limits do not hold."""

BORDER_NM = (16.0, 40.0)
"""Distance of a centre from the tile's border: of the few that lie near it, and from there on."""

LEAST_ROOM_NM = 9.0
"""Least distance to the layer's edge of a place on its top."""

NUM_OFFERED = 256

NEIGHBOUR_SHARE = 1.2
"""Holes up to this many times the least distance apart are neighbours."""


def free_sites(
    scene: Scene,
    site_kind: str,
    taken_nm: Sequence[tuple[float, float]],
    rng: np.random.Generator,
    *,
    is_near_border: bool,
) -> list[Site]:
    """Return places of one kind, clear of other defects, near the tile's border or away from it."""
    side_nm = scene.canvas.tile_nm
    nearest, inner = BORDER_NM
    offered = _offered(scene, site_kind, rng)
    free = []
    for site in offered:
        border_nm = min(site.x_nm, site.y_nm, side_nm - site.x_nm, side_nm - site.y_nm)
        is_there = nearest <= border_nm < inner if is_near_border else border_nm >= inner
        if is_there and _is_clear(site, taken_nm):
            free.append(site)
    return free


def freely_placed_sites(
    scene: Scene,
    site_kind: str,
    taken_nm: Sequence[tuple[float, float]],
    rng: np.random.Generator,
) -> list[Site]:
    """Return places of one kind in the middle 76 % of the tile, clear of other defects."""
    side_nm = scene.canvas.tile_nm
    low, high = FREE_BORDER * side_nm, (1 - FREE_BORDER) * side_nm
    if site_kind == "anywhere":
        offered = [
            Site(x_nm=x, y_nm=y, angle_rad=0.0, size_nm=0.0)
            for x, y in rng.uniform(low, high, (32, 2)).tolist()
        ]
    else:
        offered = _offered(scene, site_kind, rng)
    return [
        site
        for site in offered
        if low <= site.x_nm <= high and low <= site.y_nm <= high and _is_clear(site, taken_nm)
    ]


def _is_clear(site: Site, taken_nm: Sequence[tuple[float, float]]) -> bool:
    return all(math.hypot(site.x_nm - x, site.y_nm - y) >= CLEARANCE_NM for x, y in taken_nm)


def _offered(scene: Scene, site_kind: str, rng: np.random.Generator) -> Sequence[Site]:
    if site_kind == "edge":
        return _edge_sites(scene, rng)
    if site_kind == "web":
        return _web_sites(scene)
    if site_kind not in ("anywhere", "top"):
        return scene.sites.get(site_kind, ())
    canvas = scene.canvas
    places = rng.uniform(0, canvas.tile_nm, (NUM_OFFERED, 2))
    rows, columns = ((places.T[::-1] / canvas.pixel_nm).astype(int)) + canvas.margin_px
    room_nm = scene.layer_nm[rows, columns]
    return [
        Site(x_nm=x, y_nm=y, angle_rad=0.0, size_nm=2 * room)
        for (x, y), room in zip(places.tolist(), room_nm.tolist(), strict=True)
        if site_kind == "anywhere" or room >= LEAST_ROOM_NM
    ]


def _edge_sites(scene: Scene, rng: np.random.Generator) -> list[Site]:
    """Return places on the layer's edges; their angle points into the layer."""
    canvas = scene.canvas
    inner: Floats = scene.layer_nm[canvas.inner, canvas.inner]
    on_edge = np.flatnonzero(np.abs(inner) < canvas.pixel_nm)
    if not on_edge.size:
        return []
    sites = []
    for place in on_edge[rng.integers(on_edge.size, size=NUM_OFFERED)].tolist():
        row, column = divmod(place, canvas.tile_px)
        y, x = row + canvas.margin_px, column + canvas.margin_px
        slope_y = scene.layer_nm[y + 1, x] - scene.layer_nm[y - 1, x]
        slope_x = scene.layer_nm[y, x + 1] - scene.layer_nm[y, x - 1]
        sites.append(
            Site(
                x_nm=(column + 0.5) * canvas.pixel_nm,
                y_nm=(row + 0.5) * canvas.pixel_nm,
                angle_rad=math.atan2(slope_y, slope_x),
                size_nm=0.0,
            )
        )
    return sites


def _web_sites(scene: Scene) -> list[Site]:
    """Return the middles between neighbouring holes; their angle points from hole to hole."""
    holes = scene.sites.get("hole", ())
    if len(holes) < 2:
        return []
    x, y, width = np.array([(hole.x_nm, hole.y_nm, hole.size_nm) for hole in holes]).T
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(distance, np.inf)
    pairs = np.argwhere(np.triu(distance < NEIGHBOUR_SHARE * distance.min()))
    return [
        Site(
            x_nm=float(x[a] + x[b]) / 2,
            y_nm=float(y[a] + y[b]) / 2,
            angle_rad=math.atan2(float(y[b] - y[a]), float(x[b] - x[a])),
            size_nm=float(distance[a, b] - (width[a] + width[b]) / 2),
        )
        for a, b in pairs.tolist()
    ]
