"""Defects of the pattern: each joins something to the layer or cuts something out of it.

By maximum and minimum of signed distances, rounded as an etch or resist rounds corners. Every edit
takes a scene (a window of one), a site, the size that was drawn for it in nm and a source of what
else is random, and returns the scene with the defect at full strength; see `planting`.
"""

from dataclasses import replace

import numpy as np

from training.simulator.defects.shapes import join, local_axes, polar, rough_outline
from training.simulator.layout import Floats, Scene, Site

BRIDGE_CORNER_NM = 6.0
BREAK_CORNER_NM = 18.0
BULGE_CORNER_NM = 4.0
"""Rounding where a bridge meets its lines, of a broken line's ends, and where a bulge meets its
edge."""


def bridge(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Join two neighbouring lines by a neck of `size_nm` that widens towards them."""
    del rng
    across, along = local_axes(scene.canvas, site)
    reach_nm = site.size_nm / 2 + 8
    width_nm = size_nm * (1 + 0.35 * np.minimum((across / (site.size_nm / 2)) ** 2, 1.5))
    neck = np.minimum(reach_nm - np.abs(across), width_nm / 2 - np.abs(along))
    return replace(scene, layer_nm=join(scene.layer_nm, neck, BRIDGE_CORNER_NM))


def broken_line(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Cut a line through, leaving rounded ends `size_nm` apart at its middle."""
    del rng
    across, along = local_axes(scene.canvas, site)
    width_nm = size_nm * (1 + 0.8 * np.minimum((across / (site.size_nm / 2)) ** 2, 1.5))
    gap = np.minimum(site.size_nm / 2 + 8 - np.abs(across), width_nm / 2 - np.abs(along))
    return replace(scene, layer_nm=-join(-scene.layer_nm, gap, BREAK_CORNER_NM))


def missing_hole(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Leave one contact hole unopened: the film stands where it should have been cut."""
    del size_nm, rng  # nothing about it is random but the place
    x, y = local_axes(scene.canvas, site)
    plug = site.size_nm / 2 + 10 - np.hypot(x, y)
    return replace(scene, layer_nm=np.maximum(scene.layer_nm, plug))


def protrusion(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Let an edge bulge outwards by `size_nm`."""
    bulge = _half_ellipse(scene, site, size_nm, rng)
    return replace(scene, layer_nm=join(scene.layer_nm, bulge, BULGE_CORNER_NM))


def intrusion(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Bite `size_nm` out of an edge ("mouse bite")."""
    bite = _half_ellipse(scene, site, size_nm, rng)
    return replace(scene, layer_nm=-join(-scene.layer_nm, bite, BULGE_CORNER_NM))


def void(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Leave an irregular hole of radius `size_nm` in the layer, or smaller where it is narrow."""
    radius_nm = min(size_nm, site.size_nm / 2 - 3)
    outline = rough_outline(rng, radius_nm, roughness=0.1)
    distance, edge = polar(*local_axes(scene.canvas, site), outline)
    return replace(scene, layer_nm=np.minimum(scene.layer_nm, distance - edge))


def _half_ellipse(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Floats:
    """Return the signed distance to an ellipse on an edge, `size_nm` deep on either side of it."""
    across, along = local_axes(scene.canvas, site)
    half_nm = size_nm * rng.uniform(0.6, 1.1)
    return (1 - np.hypot(across / size_nm, along / half_nm)) * min(size_nm, half_nm)
