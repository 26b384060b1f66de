"""Defects that no training may draw, not even that of a model that is shipped: the unknown kinds.

A shipped model may have seen all other kinds, and shapes of its own; what it does to something that
it has not seen is asked with these. They resemble none of the shapes that
`training.data.augmentation` plants; see `planting` for how an edit is used.
"""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy import special

from training.simulator.defects.shapes import join, local_axes, polar, rough_outline
from training.simulator.layout import SIDEWALL_NM, Body, Floats, Scene, Site
from training.simulator.roughness import rough_edge

PINCH_CORNER_NM = 5.0
WEB_CORNER_NM = 5.0
"""Rounding of a pinched line, and where a slot meets its holes."""

LEAST_NECK = 0.3
"""A pinched line keeps this share of its width."""

NUM_FILAMENTS = (3, 4, 5)
FILAMENT_NM = (3.0, 5.0)
RESIDUE_HEIGHT = (0.3, 0.7)
RESIDUE_YIELD = (1.5, 2.1)
"""Width of a web's filaments at their middle, their height as a share of the lines', and yield."""

RING_NM = (2.5, 5.0)
RING_CHANGE = (0.35, 0.7)
"""Width of a ring, and by which share it changes the yield, up or down."""

CRACK_NM = (2.5, 4.0)
CRACK_DEPTH_NM = (10.0, 20.0)
CRACK_YIELD = 0.6
CRACK_STEP_NM = 7.0
CRACK_TURN_RAD = 0.4
"""Width, depth and yield (of that of the surface) of a crack, and how far and by how much it runs
from kink to kink."""


def residue_web(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """String thin, irregular filaments of residue across a space, over `size_nm` of its length."""
    across, along = local_axes(scene.canvas, site)
    half_nm = site.size_nm / 2
    place = np.clip(across / (2 * half_nm) + 0.5, 0.0, 1.0)
    web = np.full(across.shape, -np.inf)
    for _ in range(int(rng.choice(NUM_FILAMENTS))):
        start, end = rng.uniform(-size_nm / 2, size_nm / 2, 2)
        sag = rng.normal(0, 0.15 * size_nm)
        path = start + (end - start) * place + 4 * sag * place * (1 - place)
        tilt = math.cos(math.atan2(end - start, 2 * half_nm))
        # Thicker where it hangs on the lines.
        width_nm = rng.uniform(*FILAMENT_NM) * (0.8 + 1.2 * (2 * place - 1) ** 2)
        web = np.maximum(web, width_nm / 2 - np.abs(along - path) * tilt)
    wobble = rough_edge(rng, length_px=len(web), step_nm=1.0, sigma_nm=0.4, xi_nm=6.0)
    web = np.minimum(web + wobble[:, None], half_nm + 1 - np.abs(across))
    surface = scene.surface()
    body = Body(
        weight=special.expit(web / SIDEWALL_NM),
        top_nm=np.maximum(surface.height_nm, rng.uniform(*RESIDUE_HEIGHT) * scene.step_nm),
        material_yield=rng.uniform(*RESIDUE_YIELD),
    )
    return replace(scene, bodies=(*scene.bodies, body))


def pinched_line(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Narrow a line from both sides by `size_nm` each; it stays one line."""
    across, along = local_axes(scene.canvas, site)
    depth_nm = min(size_nm, (1 - LEAST_NECK) * site.size_nm / 2)
    half_nm = depth_nm * rng.uniform(0.9, 1.8)
    slip_nm = rng.normal(0, 0.15 * half_nm)
    layer = scene.layer_nm
    for side in (-1, 1):
        from_edge = across - side * site.size_nm / 2
        from_middle = along - side * slip_nm
        bite = (1 - np.hypot(from_edge / depth_nm, from_middle / half_nm)) * min(depth_nm, half_nm)
        layer = -join(-layer, bite, PINCH_CORNER_NM)
    return replace(scene, layer_nm=layer)


def merged_holes(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Cut a slot `size_nm` wide through the film between two neighbouring holes."""
    across, along = local_axes(scene.canvas, site)
    half_nm = site.size_nm / 2
    width_nm = size_nm * (1 + 0.5 * np.minimum((across / half_nm) ** 2, 1.5))
    shift_nm = rng.normal(0, 1.0)
    slot = np.minimum(half_nm + 6 - np.abs(across), width_nm / 2 - np.abs(along - shift_nm))
    return replace(scene, layer_nm=-join(-scene.layer_nm, slot, WEB_CORNER_NM))


def drying_ring(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Leave a thin, irregular ring of residue of radius `size_nm`, as a drop does that dried."""
    half_nm = rng.uniform(*RING_NM) / 2
    change = rng.uniform(*RING_CHANGE) * (1 if rng.integers(2) else -1)
    outline = rough_outline(rng, size_nm, roughness=0.1)
    distance, edge = polar(*local_axes(scene.canvas, site), outline)
    surface = scene.surface()
    body = Body(
        weight=special.expit((half_nm - np.abs(distance - edge)) / SIDEWALL_NM),
        top_nm=surface.height_nm + 1.5,
        material_yield=surface.material_yield * (1 + change),
    )
    return replace(scene, bodies=(*scene.bodies, body))


def micro_crack(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Open a thin, jagged crack `size_nm` long, without walls, that may fork."""
    half_nm = rng.uniform(*CRACK_NM) / 2
    angle = rng.uniform(0, 2 * math.pi)
    steps = max(round(size_nm / CRACK_STEP_NM), 2)
    turns = angle + np.cumsum(rng.normal(0, CRACK_TURN_RAD, steps))
    path = np.cumsum(CRACK_STEP_NM * np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
    path = np.concatenate([np.zeros((1, 2)), path])
    path -= path.mean(axis=0)
    x, y = local_axes(scene.canvas, replace(site, angle_rad=0.0))
    crack = _from_path(x, y, path)
    if steps > 3 and rng.integers(2):
        fork = path[steps // 2]
        turn = turns[steps // 2] + rng.choice([-1.0, 1.0]) * rng.uniform(0.7, 1.1)
        branch = fork + 0.35 * size_nm * np.array([[0, 0], [math.cos(turn), math.sin(turn)]])
        crack = np.minimum(crack, _from_path(x, y, branch))
    surface = scene.surface()
    body = Body(
        weight=special.expit((half_nm - crack) / SIDEWALL_NM),
        top_nm=surface.height_nm - rng.uniform(*CRACK_DEPTH_NM),
        material_yield=CRACK_YIELD * surface.material_yield,
    )
    return replace(scene, bodies=(*scene.bodies, body))


def _from_path(x_nm: Floats, y_nm: Floats, path_nm: Floats) -> Floats:
    """Return every pixel's distance from a line through points, (points, 2) of x and y."""
    nearest = np.full(np.broadcast_shapes(x_nm.shape, y_nm.shape), np.inf)
    for (x_0, y_0), (x_1, y_1) in pairwise(path_nm):
        dx, dy = x_1 - x_0, y_1 - y_0
        share = ((x_nm - x_0) * dx + (y_nm - y_0) * dy) / max(dx**2 + dy**2, 1e-9)
        share = np.clip(share, 0.0, 1.0)
        nearest = np.minimum(nearest, np.hypot(x_nm - x_0 - share * dx, y_nm - y_0 - share * dy))
    return nearest
