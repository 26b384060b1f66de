"""Keys' cubic, for tensors and for arrays; see `near` and `far`.

Source: Keys 1981, "Cubic convolution interpolation for digital image processing", eq. 15, a = -0.5.
"""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

A = -0.5
REACH_PX = 2
"""Distance from which on the cubic is 0."""

_Values = TypeVar("_Values", torch.Tensor, NDArray[np.floating[Any]])


def near(distance: _Values) -> _Values:
    """Return the cubic's value at distances from 0 to 1, any shape."""
    return (A + 2) * distance**3 - (A + 3) * distance**2 + 1


def far(distance: _Values) -> _Values:
    """Return the cubic's value at distances from 1 to 2, any shape."""
    return A * distance**3 - 5 * A * distance**2 + 8 * A * distance - 4 * A


def keys(distance: torch.Tensor) -> torch.Tensor:
    """Return the cubic's value at distances in pixels, any shape and sign."""
    d = distance.abs()
    beyond = torch.zeros_like(d)
    return torch.where(d < 1, near(d), torch.where(d < REACH_PX, far(d), beyond))
