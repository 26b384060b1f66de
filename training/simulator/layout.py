"""Layout of a scene: one patterned layer on a fine grid, and the places where defects may go.

The layer is given by the signed distance to its edges (positive where it stands, in nm), so that
edges lie at any fraction of a pixel and defects are cut in and joined on by minimum and maximum
(`defects`). `Scene.surface` turns it into height and material for `emission`. Coordinates are in nm
from the tile's top-left corner, x to the right and y down; the canvas is larger than the tile by a
margin that blur, lag and jitter may look into.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    """A place at which the layout allows a defect.

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
    """Something that lies on the surface, or is cut into it; arrays are on the scene's canvas.

    Attributes:
        weight: 1 inside, 0 outside.
        top_nm: Height of the surface inside.
        material_yield: Yield inside, of the whole body or of each pixel.
    """

    weight: Floats
    top_nm: Floats
    material_yield: float | Floats


@dataclass(frozen=True)
class Patch:
    """A planted defect as a change of the surface in a window of the canvas.

    Attributes:
        row: First row of the window.
        column: First column of the window.
        height_nm: Change of the height, (rows, columns) of the window.
        material_yield: Change of the yield, the same shape.
    """

    row: int
    column: int
    height_nm: Floats
    material_yield: Floats

    def cut(self, row: int, column: int, side_px: int) -> "Patch | None":
        """Return what lies in a square window, in its coordinates; None where nothing does."""
        top, left = max(row, self.row), max(column, self.column)
        bottom = min(row + side_px, self.row + self.height_nm.shape[0])
        right = min(column + side_px, self.column + self.height_nm.shape[1])
        if top >= bottom or left >= right:
            return None
        rows = slice(top - self.row, bottom - self.row)
        columns = slice(left - self.column, right - self.column)
        return Patch(
            top - row,
            left - column,
            self.height_nm[rows, columns],
            self.material_yield[rows, columns],
        )


@dataclass(frozen=True)
class Surface:
    """Surface that the beam meets: (rows, columns) each; yield relative to flat oxide."""

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
        sites: Places for defects: "line", "space", "hole" (edges and tops are found on `layer_nm`).
        parameters: Draws of the scene, for the index.
        bodies: Particles and the like, in the order in which they fell.
        patches: Planted defects.
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
    patches: tuple[Patch, ...] = ()

    def surface(self) -> Surface:
        """Return height and material on the canvas."""
        standing = special.expit(self.layer_nm / SIDEWALL_NM)
        height = self.step_nm * standing
        material = self.yield_bottom + (self.yield_top - self.yield_bottom) * standing
        material = material * (1 + self.texture)
        for body in self.bodies:
            height = height + (body.top_nm - height) * body.weight
            material = material + (body.material_yield - material) * body.weight
        for patch in self.patches:
            rows, columns = patch.height_nm.shape
            window = slice(patch.row, patch.row + rows), slice(patch.column, patch.column + columns)
            height[window] += patch.height_nm
            material[window] += patch.material_yield
        return Surface(height, material)

    def crop(self, row: int, column: int, side_px: int) -> "Scene":
        """Return a square window of the canvas, without margin and sites; its corner is (0, 0)."""
        window = slice(row, row + side_px), slice(column, column + side_px)
        patches = (patch.cut(row, column, side_px) for patch in self.patches)
        return replace(
            self,
            canvas=Canvas(tile_px=side_px, margin_px=0, pixel_nm=self.canvas.pixel_nm),
            layer_nm=self.layer_nm[window],
            texture=self.texture[window],
            sites={},
            bodies=tuple(_crop_body(body, window) for body in self.bodies),
            patches=tuple(patch for patch in patches if patch is not None),
        )


def _crop_body(body: Body, window: tuple[slice, slice]) -> Body:
    yield_ = body.material_yield
    return Body(
        body.weight[window],
        body.top_nm[window],
        yield_[window] if isinstance(yield_, np.ndarray) else yield_,
    )
