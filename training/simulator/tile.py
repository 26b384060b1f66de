"""One simulated tile in memory: a scene with its defects, seen in both modes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.simulator.capture import INSPECTION, REVIEW, CaptureMode, add_noise, noise_free
from training.simulator.defects.planting import NoSiteError, PlantedDefect, plant
from training.simulator.emission import secondary_electrons
from training.simulator.layout import Canvas, Floats, Scene
from training.simulator.recipes import TileRecipe, substitutes
from training.simulator.scenes.registry import SCENES

LR_PIXEL_NM = 4.0
FINE_PER_LR = 4
"""Scenes are drawn on pixels of 1 nm, fine enough for a sidewall at any scale."""

MARGIN_LR_PX = 12
"""Context around a tile for spot, lag, jitter and the nearer shadows."""


@dataclass(frozen=True)
class SimulatedTile:
    """One scene in both modes with its truth; a picture is made when it is first needed.

    Attributes:
        scene: Layout with its defects.
        defects: Truth of each defect, masks on fine pixels.
        parameters: Draws of the scene.
        scale: HR pixels per LR pixel.
        inspection: Mode of the LR picture.
        review: Mode of the HR picture.
        streams: Sources of the review's and the inspection's randomness.
    """

    scene: Scene
    defects: tuple[PlantedDefect, ...]
    parameters: dict[str, float]
    scale: int
    inspection: CaptureMode
    review: CaptureMode
    streams: tuple[np.random.SeedSequence, np.random.SeedSequence]

    @property
    def lr(self) -> Floats:
        """Inspection grey, (tile_px, tile_px), 0..255, not rounded."""
        return self._inspection[1]

    @property
    def lr_noise_free(self) -> Floats:
        """The LR picture before its noise, about 0..255."""
        return self._inspection[0]

    @property
    def hr(self) -> Floats:
        """Review grey, (scale · tile_px) squared, 0..255, not rounded."""
        return self._review[1]

    @property
    def hr_noise_free(self) -> Floats:
        """The HR picture before its noise, about 0..255."""
        return self._review[0]

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """HR grid: 0 on the background, k where the k-th defect changed the review picture."""
        fine_per_hr = FINE_PER_LR // self.scale
        side = self.scene.canvas.tile_px // fine_per_hr
        labels = np.zeros((side, side), dtype=np.uint8)
        for defect in self.defects:
            labels[any_in_blocks(defect.mask, fine_per_hr)] = defect.number
        return labels

    @property
    def mask(self) -> NDArray[np.bool_]:
        """HR grid, True where a defect changed the review picture."""
        return self.labels > 0

    @cached_property
    def _signal(self) -> Floats:
        return secondary_electrons(self.scene.surface(), self.scene.canvas.pixel_nm)

    @cached_property
    def _inspection(self) -> tuple[Floats, Floats]:
        return self._capture(self.inspection, self.streams[1], FINE_PER_LR)

    @cached_property
    def _review(self) -> tuple[Floats, Floats]:
        return self._capture(self.review, self.streams[0], FINE_PER_LR // self.scale)

    def _capture(
        self, mode: CaptureMode, stream: np.random.SeedSequence, fine_per_pixel: int
    ) -> tuple[Floats, Floats]:
        rng = np.random.default_rng(stream)
        canvas = self.scene.canvas
        grey = noise_free(self._signal, canvas, mode, rng, fine_per_pixel=fine_per_pixel)
        return grey, add_noise(grey, mode, rng)


def simulate_tile(
    recipe: TileRecipe,
    *,
    seed: int,
    number: int,
    tile_px: int = 240,
    scale: int = 4,
    inspection: CaptureMode = INSPECTION,
    review: CaptureMode = REVIEW,
    is_limited: bool = True,
) -> SimulatedTile:
    """Simulate one tile in memory, the same for the same arguments.

    Args:
        recipe: Content of the tile.
        seed: Seed, at least 0.
        number: Another number gives another tile.
        tile_px: Side of the LR picture, at least 48.
        scale: HR pixels per LR pixel, a divisor of 4.
        inspection: Scan mode of the LR picture.
        review: Scan mode of the HR picture.
        is_limited: Whether defects keep within the limits of `planting`.

    Raises:
        ValueError: A number is out of its range.
        NoSiteError: The scene has no place for one of the recipe's defects.
    """
    if seed < 0 or number < 0:
        raise ValueError(f"expected seed >= 0 and number >= 0, got {seed} and {number}")
    return render_tile(
        recipe,
        np.random.SeedSequence((seed, number)),
        tile_px=tile_px,
        scale=scale,
        inspection=inspection,
        review=review,
        is_limited=is_limited,
    )


def render_tile(
    recipe: TileRecipe,
    sequence: np.random.SeedSequence,
    *,
    tile_px: int,
    scale: int,
    inspection: CaptureMode = INSPECTION,
    review: CaptureMode = REVIEW,
    is_limited: bool = True,
) -> SimulatedTile:
    """Simulate one tile from its own source of randomness; see `simulate_tile`."""
    if tile_px < 48:
        raise ValueError(f"expected tile_px >= 48, got {tile_px}")
    if scale < 1 or FINE_PER_LR % scale:
        raise ValueError(f"expected a scale that divides {FINE_PER_LR}, got {scale}")
    canvas = Canvas(
        tile_px=tile_px * FINE_PER_LR,
        margin_px=MARGIN_LR_PX * FINE_PER_LR,
        pixel_nm=LR_PIXEL_NM / FINE_PER_LR,
    )
    # One stream a stage, so that a stage that grows does not change the others' pictures.
    for_scene, for_defects, for_review, for_inspection = sequence.spawn(4)
    scene = SCENES[recipe.scene](canvas, np.random.default_rng(for_scene))
    scene, planted = _plant_all(
        scene, recipe, np.random.default_rng(for_defects), is_limited=is_limited
    )
    return SimulatedTile(
        scene=scene,
        defects=planted,
        parameters={name: round(value, 3) for name, value in scene.parameters.items()},
        scale=scale,
        inspection=inspection,
        review=review,
        streams=(for_review, for_inspection),
    )


def _plant_all(
    scene: Scene, recipe: TileRecipe, rng: np.random.Generator, *, is_limited: bool
) -> tuple[Scene, tuple[PlantedDefect, ...]]:
    planted: list[PlantedDefect] = []
    for kind in recipe.defects:
        others = substitutes(recipe.scene, kind) if recipe.can_substitute else ()
        for place, candidate in enumerate((kind, *others)):
            try:
                scene, defect = plant(scene, candidate, rng, taken=planted, is_limited=is_limited)
            except NoSiteError:
                if place == len(others):
                    raise
            else:
                planted.append(defect)
                break
    return scene, tuple(planted)


def any_in_blocks(mask: NDArray[np.bool_], block_px: int) -> NDArray[np.bool_]:
    """Reduce a square mask by blocks: (side, side) to (side / block_px) squared."""
    side = mask.shape[0] // block_px
    return np.any(mask.reshape(side, block_px, side, block_px), axis=(1, 3))
