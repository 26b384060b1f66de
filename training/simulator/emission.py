"""From surface to secondary electrons: what the detector could collect at each point of the beam.

Three effects, each from the height map alone, so that particles, lines and holes are treated alike:
tilt (the yield grows as 1/cos of the surface tilt), edges (near a top edge electrons also leave
through the side wall), and shadowing (from the foot of a wall fewer electrons reach the detector).
"""

import numpy as np
from scipy import fft

from training.simulator.layout import Floats, Surface

TILT_CEILING = 1.4
"""Largest excess of a tilted over a flat surface. 1/cos diverges at a steep wall; the finite escape
depth and the electrons that are caught again below keep the rim at 2 to 2.5 times the level of the
flat."""

EDGE_TERMS = ((8.0, 0.24), (35.0, 0.30))
"""(range in nm, gain): the short range of secondaries made by the beam, and the longer one of those
made by backscattered electrons. The same two decays stand in real profiles across a wide line."""

SHADOW_TERMS = ((15.0, 0.30), (50.0, 0.55), (150.0, 0.55))
"""(range in nm, strength) of the loss of view upwards, near, middle and far."""

DEEP_LEVEL = 0.07
"""Signal at the bottom of a deep, narrow hole, from backscattered electrons."""


def secondary_electrons(surface: Surface, pixel_nm: float) -> Floats:
    """Return the signal before any optics, (rows, columns), 1 on flat oxide in the open.

    The difference between a height and its Gaussian mean over a range is positive by a top edge and
    negative in a trench; over the range it is about the tangent under which the surroundings rise
    (or fall), and so measures how much of the sky is covered. This local form is our approximation;
    the effects and their signs are those of Reimer, *Scanning Electron Microscopy*, 2nd ed.
    (Springer 1998), chapters 4 (yield against tilt, 1/cos) and 6 (edge effect, shadow contrast),
    and Goldstein et al., *Scanning Electron Microscopy and X-Ray Microanalysis*, 4th ed. (2018).
    """
    height = surface.height_nm
    slope_y, slope_x = np.gradient(height, pixel_nm)
    excess = np.sqrt(1 + slope_y**2 + slope_x**2) - 1
    tilt = 1 + excess / (1 + excess / TILT_CEILING)

    edge = np.ones_like(height)
    blocked = np.zeros_like(height)
    spectrum: Floats = np.asarray(fft.dctn(height, type=2))
    for range_nm, gain in EDGE_TERMS:
        rise = (height - _mean_over(spectrum, range_nm / pixel_nm)) / range_nm
        edge += gain * -np.expm1(-np.maximum(rise, 0.0))
    for range_nm, strength in SHADOW_TERMS:
        rise = (height - _mean_over(spectrum, range_nm / pixel_nm)) / range_nm
        blocked += strength * np.maximum(-rise, 0.0)
    view = DEEP_LEVEL + (1 - DEEP_LEVEL) * np.exp(-blocked)
    return surface.material_yield * tilt * edge * view


def _mean_over(spectrum: Floats, sigma_px: float) -> Floats:
    """Return the Gaussian mean of a map given by its cosine transform, mirrored at its borders.

    In the transform a Gaussian costs the same at 5 nm and at 150 nm.
    """
    rows, columns = (
        np.exp(-0.5 * (sigma_px * np.pi * np.arange(n) / n) ** 2) for n in spectrum.shape
    )
    return np.asarray(fft.idctn(spectrum * rows[:, None] * columns[None, :], type=2))
