"""The facts of a tile: pixel size, stage position, tool, lot, wafer, die, and any others.

Facts come from a JSON file next to the tile (its sidecar), or from an HDF5 or Zarr file: from the
attributes of the array and the one-dimensional arrays in its group. A scan copies all facts to the
output and scales the pixel size.
"""

import json
import math
from typing import Any, cast

from service.images.metadata import PixelSize
from service.scans.errors import TileError

Facts = dict[str, Any]

PIXEL_SIZE = "pixel_size_nm"
# Facts with their own columns in the manifest; numbers first.
STAGE = ("stage_x", "stage_y")
IDENTITY = ("stage_unit", "tool", "lot", "wafer", "die")
# Arrays of these names in the group of an array of tiles hold one value per tile.
PER_TILE = frozenset({PIXEL_SIZE, *STAGE, *IDENTITY})

MAX_SIDECAR_BYTES = 64 * 1024
# The fact that replaces a sidecar which is too long.
SIDECAR_LEFT_OUT = "sidecar_left_out"


def parse_sidecar(content: bytes, name: str) -> Facts:
    """Read the JSON file of one tile.

    Raises:
        TileError: The content is not a JSON object or is nested too deeply, or it has an invalid
            pixel size or an invalid text (half of a surrogate pair).
    """
    try:
        value = json.loads(content)
        # Facts that cannot be written are found now, before the tile is computed.
        to_json(value).encode()
    except (ValueError, RecursionError) as error:
        raise TileError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise TileError(f"{name} holds a {type(value).__name__}; expected a JSON object")
    facts = cast("Facts", value)
    pixel_size(facts)
    return facts


def sidecar_facts(content: bytes, name: str, size_bytes: int) -> Facts:
    """Read the JSON file of one tile, or note that it is too long.

    Annotation programs (LabelMe) also write NAME.json next to NAME.png, with the picture in it. The
    tile must not fail because of such a file.

    Args:
        content: Content of the file; ignored if it is too long.
        name: Name of the file, for messages.
        size_bytes: Length of the file.

    Raises:
        TileError: See `parse_sidecar`.
    """
    if size_bytes > MAX_SIDECAR_BYTES:
        limit = f"at most {MAX_SIDECAR_BYTES} are read as facts of a tile"
        return {SIDECAR_LEFT_OUT: f"{name} has {size_bytes} bytes; {limit}"}
    return parse_sidecar(content, name)


def pixel_size(facts: Facts) -> PixelSize | None:
    """Return the pixel size in the facts, or None.

    Raises:
        TileError: `pixel_size_nm` is neither a positive number nor two of them (x, y).
    """
    value = facts.get(PIXEL_SIZE)
    if value is None:
        return None
    pair = cast("list[Any]", value) if isinstance(value, list) else [value, value]
    try:
        x_nm, y_nm = (float(number) for number in pair)
        size = PixelSize.sane(x_nm, y_nm)
    except (TypeError, ValueError, OverflowError):
        size = None
    if size is None:
        raise TileError(
            f"{PIXEL_SIZE} is {value!r}; expected a positive number of nanometres, or [x, y]"
        )
    return size


def scaled(facts: Facts, scale: int) -> Facts:
    """Return the facts of the tile upscaled `scale` times."""
    size = pixel_size(facts)
    if size is None:
        return facts
    smaller = size.times(1 / scale, 1 / scale)
    is_pair = isinstance(facts[PIXEL_SIZE], list)
    return {**facts, PIXEL_SIZE: [smaller.x_nm, smaller.y_nm] if is_pair else smaller.x_nm}


def to_json(facts: Any) -> str:
    """Return facts as JSON with sorted keys, so that equal facts become equal texts."""
    return json.dumps(facts, sort_keys=True, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return an attribute or element of HDF5 or Zarr as a JSON value, or None if it has none.

    NaN marks a missing number in such files, and JSON has neither NaN nor infinity.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        value = value.tolist()
    if isinstance(value, list):
        numbers = cast("list[Any]", value)
        return numbers if all(map(_is_number, numbers)) else None
    if isinstance(value, str):
        return text(value)
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def text(value: str | bytes) -> str:
    """Return a text that is valid UTF-8; invalid bytes and half surrogate pairs become `?`."""
    if isinstance(value, bytes):  # a name in HDF5 that is not UTF-8
        return value.decode("utf-8", "replace")
    return value.encode("utf-8", "replace").decode()
