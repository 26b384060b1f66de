"""Shapes that defects are cut from: local axes, irregular outlines, rounded unions of distances."""

import math

import numpy as np

from training.simulator.layout import Canvas, Floats, Site
from training.simulator.roughness import rough_edge

NUM_OUTLINE_SAMPLES = 64


def local_axes(canvas: Canvas, site: Site) -> tuple[Floats, Floats]:
    """Return every pixel's place in the site's own axes, across and along, in nm."""
    x = (canvas.axis_nm - site.x_nm)[None, :]
    y = (canvas.axis_nm - site.y_nm)[:, None]
    cosine, sine = math.cos(site.angle_rad), math.sin(site.angle_rad)
    return x * cosine + y * sine, y * cosine - x * sine


def join(a: Floats, b: Floats, corner_nm: float) -> Floats:
    """Return the union of two signed distances with its inner corners filled (a smooth maximum)."""
    nearness = np.maximum(corner_nm - np.abs(a - b), 0.0) / corner_nm
    # Far from both edges the blend would lift level ground; within reach of a corner it may act.
    near_edge = np.clip(2 - np.maximum(np.abs(a), np.abs(b)) / corner_nm, 0.0, 1.0)
    return np.maximum(a, b) + corner_nm / 4 * near_edge * nearness**2


def rough_outline(rng: np.random.Generator, radius_nm: float, *, roughness: float) -> Floats:
    """Draw the radius of an irregular closed outline at equal angles, (64,), in nm.

    Args:
        rng: Source of the outline.
        radius_nm: Mean radius.
        roughness: Standard deviation as a share of the radius.
    """
    return radius_nm + rough_edge(
        rng,
        length_px=NUM_OUTLINE_SAMPLES,
        step_nm=2 * math.pi * radius_nm / NUM_OUTLINE_SAMPLES,
        sigma_nm=roughness * radius_nm,
        xi_nm=0.7 * radius_nm,
        hurst=0.9,
        is_closed=True,
    )


def polar(x_nm: Floats, y_nm: Floats, outline_nm: Floats) -> tuple[Floats, Floats]:
    """Return every pixel's distance from the centre, and the outline's radius in its direction."""
    sample = (np.arctan2(y_nm, x_nm) / (2 * math.pi) % 1.0) * NUM_OUTLINE_SAMPLES
    closed = np.append(outline_nm, outline_nm[0])
    return np.hypot(x_nm, y_nm), np.interp(sample, np.arange(NUM_OUTLINE_SAMPLES + 1), closed)
