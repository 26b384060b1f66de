"""Unpatterned films."""

import numpy as np

from training.simulator.layout import FILM_YIELD, OXIDE_YIELD, Canvas, Scene
from training.simulator.roughness import rough_field


def blank_film(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Draw an unpatterned film: fine grain, and a slow variation of its thickness."""
    fine = rough_field(rng, canvas.shape, pixel_nm=canvas.pixel_nm, xi_nm=5, hurst=0.5)
    slow = rough_field(rng, canvas.shape, pixel_nm=canvas.pixel_nm, xi_nm=150, hurst=1.0)
    return Scene(
        kind="blank_film",
        canvas=canvas,
        layer_nm=np.full(canvas.shape, 100.0),
        step_nm=30.0,
        yield_top=FILM_YIELD * rng.uniform(0.93, 1.07),
        yield_bottom=OXIDE_YIELD,
        texture=0.03 * fine + 0.015 * slow,
        parameters={"grain_nm": 5.0},
    )
