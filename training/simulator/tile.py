"""One simulated tile in memory: a scene with its defects, seen in both modes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.simulator.capture import INSPECTION, REVIEW, CaptureMode, capture
from training.simulator.defects import PlantedDefect, plant
from training.simulator.emission import secondary_electrons
from training.simulator.layout import Canvas
from training.simulator.scenes import SCENES

LR_PIXEL_NM = 4.0
FINE_PER_LR = 4
"""Scenes are drawn on pixels of 1 nm, fine enough for a sidewall, whatever the scale."""

MARGIN_LR_PX = 12
"""Context around a tile for spot, lag, jitter and the nearer shadows."""


@dataclass(frozen=True)
class TileRecipe:
    """What one tile shows: a key of `SCENES`, and keys of `DEFECTS`."""

    scene: str
    defects: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name for files: the scene and each kind of defect once."""
        return "_".join((self.scene, *dict.fromkeys(self.defects)))


RECIPES = (
    TileRecipe("dense_lines"),
    TileRecipe("iso_lines"),
    TileRecipe("dense_holes"),
    TileRecipe("sparse_holes", ("missing_hole",)),
    TileRecipe("blank_film"),
    TileRecipe("dense_lines", ("bridge",)),
    TileRecipe("iso_lines", ("break",)),
    TileRecipe("dense_lines", ("particle",)),
)
"""The order in which tiles are made; it starts again after the last."""


@dataclass(frozen=True)
class SimulatedTile:
    """One scene in both modes with its truth.

    Attributes:
        lr: Inspection grey, (tile_px, tile_px), 0..255, not rounded.
        hr: Review grey, (scale · tile_px) squared, 0..255, not rounded.
        mask: bool, HR grid, True where a defect changed the surface.
        defects: Truth of each defect, masks on fine pixels.
        parameters: What the scene drew.
    """

    lr: NDArray[np.float64]
    hr: NDArray[np.float64]
    mask: NDArray[np.bool_]
    defects: tuple[PlantedDefect, ...]
    parameters: dict[str, float]


def simulate_tile(
    recipe: TileRecipe,
    *,
    seed: int,
    number: int,
    tile_px: int = 240,
    scale: int = 4,
    inspection: CaptureMode = INSPECTION,
    review: CaptureMode = REVIEW,
) -> SimulatedTile:
    """Simulate one tile in memory; see `simulate` for the arguments.

    Raises:
        ValueError: A number is out of its range.
        NoSiteError: The scene has no place for one of the recipe's defects.
    """
    if seed < 0 or tile_px < 48:
        message = f"expected seed >= 0 and tile_px >= 48, got {seed} and {tile_px}"
        raise ValueError(message)
    if scale < 1 or FINE_PER_LR % scale:
        message = f"expected a scale that divides {FINE_PER_LR}, got {scale}"
        raise ValueError(message)
    canvas = Canvas(
        tile_px=tile_px * FINE_PER_LR,
        margin_px=MARGIN_LR_PX * FINE_PER_LR,
        pixel_nm=LR_PIXEL_NM / FINE_PER_LR,
    )
    # One stream a stage, so that a stage that grows does not change the others' pictures.
    streams = np.random.SeedSequence((seed, number)).spawn(4)
    for_scene, for_defects, for_review, for_inspection = map(np.random.default_rng, streams)
    scene = SCENES[recipe.scene](canvas, for_scene)
    planted: list[PlantedDefect] = []
    for kind in recipe.defects:
        scene, defect = plant(scene, kind, for_defects, taken=planted)
        planted.append(defect)
    signal = secondary_electrons(scene.surface(), canvas.pixel_nm)
    fine_per_hr = FINE_PER_LR // scale
    fine_mask = np.zeros((canvas.tile_px, canvas.tile_px), dtype=bool)
    for defect in planted:
        fine_mask |= defect.mask
    return SimulatedTile(
        lr=capture(signal, canvas, inspection, for_inspection, fine_per_pixel=FINE_PER_LR),
        hr=capture(signal, canvas, review, for_review, fine_per_pixel=fine_per_hr),
        mask=any_in_blocks(fine_mask, fine_per_hr),
        defects=tuple(planted),
        parameters={name: round(value, 3) for name, value in scene.parameters.items()},
    )


def any_in_blocks(mask: NDArray[np.bool_], block_px: int) -> NDArray[np.bool_]:
    """Reduce a square mask by blocks: (side, side) to (side / block_px) squared."""
    side = mask.shape[0] // block_px
    return np.any(mask.reshape(side, block_px, side, block_px), axis=(1, 3))
