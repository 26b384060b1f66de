"""Random turns of crops in the directions that a recipe allows."""

from typing import Literal

import numpy as np

from training.data.crops import draw_turn

Turns = Literal["none", "vertical", "horizontal", "all"]
"""Random turns of a crop: none, a flip up and down, a flip left and right, or all eight."""

Turn = tuple[int, bool]
"""Quarter turns, and whether a flip left and right follows; see `crops.turned`."""

_FLIPS: dict[Turns, Turn] = {"vertical": (2, True), "horizontal": (0, True)}


def draw_turn_of(turns: Turns, rng: np.random.Generator) -> Turn:
    """Draw a turn in the given directions."""
    if turns == "all":
        return draw_turn(rng)
    if turns == "none" or not rng.integers(2):
        return 0, False
    return _FLIPS[turns]


def turned_shift(shift: tuple[float, float], turn: Turn) -> tuple[float, float]:
    """Return a shift (dy, dx) between two images that are both turned."""
    dy, dx = shift
    for _ in range(turn[0]):
        # A quarter turn takes "right" to "up" and "down" to "right".
        dy, dx = -dx, dy
    return dy, -dx if turn[1] else dx
