"""Defects of the surface: what lies on it, covers it or is scratched into it; see `planting`."""

import math
from dataclasses import replace

import numpy as np
from scipy import special

from training.simulator.defects.shapes import local_axes, polar, rough_outline
from training.simulator.layout import SIDEWALL_NM, Body, Scene, Site


def particle(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Drop an irregular, rounded grain of radius `size_nm`; it rests on what stands below it."""
    flatness = rng.uniform(0.6, 1.0)
    yield_ = rng.uniform(1.5, 2.3)
    outline = rough_outline(rng, size_nm, roughness=0.12)
    distance, edge = polar(*local_axes(scene.canvas, site), outline)
    inside = distance < edge
    rest_nm = float(np.quantile(scene.surface().height_nm[inside], 0.9))
    dome = np.sqrt(np.maximum(1 - (distance / edge) ** 2, 0.0))
    body = Body(
        weight=special.expit((edge - distance) / SIDEWALL_NM),
        top_nm=rest_nm + size_nm * flatness * (0.4 + 0.8 * dome),
        material_yield=yield_,
    )
    return replace(scene, bodies=(*scene.bodies, body))


def stain(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Cover a soft-edged area of radius `size_nm` by a film of about 1 nm that changes the yield.

    Carbon from residual gas or resist darkens (Reimer 1998, on contamination; Vladár and
    Postek, Microsc. Microanal. 11 S2, 764, 2005); one in four is a brighter film, such as an oxide.
    """
    is_bright = rng.uniform() < 0.25
    change = rng.uniform(0.25, 0.4) if is_bright else -rng.uniform(0.3, 0.5)
    softness_nm = min(rng.uniform(1.0, 3.0), size_nm / 4)
    outline = rough_outline(rng, size_nm, roughness=0.18)
    distance, edge = polar(*local_axes(scene.canvas, site), outline)
    surface = scene.surface()
    body = Body(
        weight=special.expit((edge - distance) / softness_nm),
        top_nm=surface.height_nm + 1.0,
        material_yield=surface.material_yield * (1 + change),
    )
    return replace(scene, bodies=(*scene.bodies, body))


def scratch(scene: Scene, site: Site, size_nm: float, rng: np.random.Generator) -> Scene:
    """Draw a groove `size_nm` long and 6 to 10 nm wide, with pile-up along its sides."""
    width_nm = rng.uniform(6, 10)
    depth_nm = rng.uniform(8, 16)
    turned = replace(site, angle_rad=rng.uniform(0, math.pi))
    across, along = local_axes(scene.canvas, turned)
    beyond_end = np.maximum(np.abs(along) - (size_nm - width_nm) / 2, 0.0)
    from_axis = np.hypot(across, beyond_end) / width_nm
    # A Gaussian profile whose full width at half depth is the width, between two low walls.
    relief = -np.exp(-4 * math.log(2) * from_axis**2) + 0.2 * np.exp(
        -0.5 * ((from_axis - 0.9) / 0.25) ** 2
    )
    surface = scene.surface()
    body = Body(
        weight=np.ones_like(relief),
        top_nm=surface.height_nm + depth_nm * relief,
        material_yield=surface.material_yield,
    )
    return replace(scene, bodies=(*scene.bodies, body))
