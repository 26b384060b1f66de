"""What a scene is: one patterned layer on a fine grid, and the places where defects may go.

The layer is given by the signed distance to its edges (positive where it stands, in nm), so that
edges lie at any fraction of a pixel and defects are cut in and joined on by minimum and maximum
(`defects`). `Scene.surface` turns it into height and material for `emission`. Coordinates are in nm
from the tile's top-left corner, x to the right and y down; the canvas is larger than the tile by a
margin that blur, lag and jitter may look into.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

SIDEWALL_NM = 0.9
"""Scale of the logistic sidewall profile: 10 to 90 % of the height within 4 nm, a steep etch."""

OXIDE_YIELD = 1.0
SILICON_YIELD = 1.95
FILM_YIELD = 1.2
"""Secondary yields relative to a flat oxide in the open. Silicon on oxide as seen in openEBL's
images (flat levels 39 and 78 in grey); a film over contacts lies between."""


@dataclass(frozen=True)
class Canvas:
    """The fine grid that scenes are drawn on.

    Attributes:
        tile_px: Rows and columns of the tile in fine pixels, without the margin.
        margin_px: Fine pixels around it on every side.
        pixel_nm: Size of a fine pixel.
    """

    tile_px: int
    margin_px: int
    pixel_nm: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns with the margin."""
        side = self.tile_px + 2 * self.margin_px
        return side, side

    @property
    def tile_nm(self) -> float:
        """Side of the tile."""
        return self.tile_px * self.pixel_nm

    @property
    def margin_nm(self) -> float:
        """Width of the margin."""
        return self.margin_px * self.pixel_nm

    @property
    def axis_nm(self) -> Floats:
        """Pixel centres along either axis."""
        return (np.arange(self.shape[0], dtype=np.float64) - self.margin_px + 0.5) * self.pixel_nm

    @property
    def inner(self) -> slice:
        """The tile's rows, or columns, within the canvas."""
        return slice(self.margin_px, self.margin_px + self.tile_px)


@dataclass(frozen=True)
class Site:
    """A place where the layout allows a defect.

    Attributes:
        x_nm: Centre.
        y_nm: Centre.
        angle_rad: Direction across the line or space, from x towards y.
        size_nm: Width of the line or space, or diameter of the hole.
    """

    x_nm: float
    y_nm: float
    angle_rad: float
    size_nm: float


@dataclass(frozen=True)
class Body:
    """Something that lies on the surface: weight 1 inside, its top height and its yield."""

    weight: Floats
    top_nm: Floats
    yield_: float


@dataclass(frozen=True)
class Surface:
    """What the beam meets: (rows, columns) each; yield relative to flat oxide."""

    height_nm: Floats
    material_yield: Floats


@dataclass(frozen=True)
class Scene:
    """One patterned layer over a substrate.

    Attributes:
        kind: Key in `SCENES`.
        canvas: Grid of every array here.
        layer_nm: Signed distance to the layer's edges, positive where it stands.
        step_nm: Height of the layer.
        yield_top: Yield of the layer.
        yield_bottom: Yield of what lies below.
        texture: Relative variation of the yield from grain and roughness.
        sites: Places for defects: "line", "space", "hole".
        parameters: What was drawn, for the index.
        bodies: Particles and the like, in the order in which they fell.
    """

    kind: str
    canvas: Canvas
    layer_nm: Floats
    step_nm: float
    yield_top: float
    yield_bottom: float
    texture: Floats
    sites: Mapping[str, tuple[Site, ...]] = field(default_factory=lambda: MappingProxyType({}))
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    bodies: tuple[Body, ...] = ()

    def surface(self) -> Surface:
        """Return height and material on the canvas."""
        standing = special.expit(self.layer_nm / SIDEWALL_NM)
        height = self.step_nm * standing
        material = self.yield_bottom + (self.yield_top - self.yield_bottom) * standing
        material = material * (1 + self.texture)
        for body in self.bodies:
            height = height + (body.top_nm - height) * body.weight
            material = material + (body.yield_ - material) * body.weight
        return Surface(height, material)
