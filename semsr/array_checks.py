"""Checks of arrays that callers pass to `semsr.Upscaler`, with errors that say what to do."""

from typing import Any

import numpy as np
import numpy.typing as npt

COLOURS = (3, 4)
"""Lengths of a colour image's last axis; a stack of tiles this narrow is far more likely one."""


def checked_tile(tile: object, name: str) -> npt.NDArray[np.uint8 | np.uint16]:
    """Check that a value is a grey image.

    Args:
        tile: Value of a caller.
        name: Its name in errors.

    Returns:
        (H, W) uint8 or uint16 in native byte order.

    Raises:
        ValueError: The value has another shape or data type, no pixels, or a mask.
    """
    about = f"{name} is {described(tile)}"
    if not isinstance(tile, np.ndarray) or tile.ndim != 2 or not tile.size:
        raise ValueError(f"{about}; expected a two-dimensional array{_hint(tile)}")
    if isinstance(tile, np.ma.MaskedArray):
        raise ValueError(f"{about}; expected one without a mask")  # noqa: TRY004 (a value)
    if tile.dtype.kind != "u" or tile.dtype.itemsize > 2:
        raise ValueError(f"{about}; expected uint8 or uint16{_hint(tile)}")
    native: Any = tile.astype(tile.dtype.newbyteorder("="), copy=False)
    return native


def described(value: object) -> str:
    """Return what a value is, for an error."""
    if isinstance(value, np.ma.MaskedArray):
        return f"a masked array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"


def _hint(value: object) -> str:
    """Return what else the caller could do, or nothing."""
    if value is None:
        return " (None is what cv2.imread gives for a file that it cannot read)"
    if not isinstance(value, np.ndarray):
        return ""
    if value.ndim == 3 and value.shape[2] in COLOURS:
        return ": convert colour to grey first"
    if value.ndim == 3:
        return "; `many` takes a stack (N, H, W)"
    if value.dtype.kind == "f" and value.size:
        return ": scale the grey levels yourself, with the same range for every tile"
    return ""
