"""OME-NGFF 0.5 metadata of a Zarr stack: its axes, and the size of its pixels.

There is one resolution level: tiles are small, and the LR tiles are other images (other noise,
contrast and for 16-bit input another data type), not a coarser version of the same.

Source: OME-NGFF 0.5, *"multiscales" metadata*; Zarr v3, *Group metadata*.
"""

import json
from collections.abc import Sequence
from typing import Any

VERSION = "0.5"

LEVEL = "0"
"""Path of the array in the group: the only level."""

AXES = ("tile", "y", "x")
"""Names of the array's dimensions. Tiles are neither times nor channels, so that their axis has a
type of its own, which the specification allows once."""


def group_metadata(name: str, pixel_size_nm: Sequence[float] | None) -> bytes:
    """Write the `zarr.json` of a group with one stack.

    Args:
        name: Name of the stack for people.
        pixel_size_nm: Width and height of a pixel in nm; None if it is unknown, and then the axes
            have no unit.

    Returns:
        JSON text; the same bytes for the same arguments.
    """
    x_nm, y_nm = pixel_size_nm or (1.0, 1.0)
    unit = {} if pixel_size_nm is None else {"unit": "nanometer"}
    tile, y, x = AXES
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [
            {"name": tile, "type": "tile"},
            {"name": y, "type": "space", **unit},
            {"name": x, "type": "space", **unit},
        ],
        "datasets": [
            {
                "path": LEVEL,
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, float(y_nm), float(x_nm)]}
                ],
            }
        ],
    }
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"version": VERSION, "multiscales": [multiscale]}},
    }
    return json.dumps(group, indent=2).encode()
