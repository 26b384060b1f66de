"""Stage `estimate`: properties of the fast scan, from the training images of both folders."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semsr.acceptance.layout import Layout, Settings, read_json, write_json
from training.config.degradation import DegradationConfig
from training.config.recipe import load_recipe
from training.data.images import load_images

Tile = NDArray[np.uint8]


def images_of(layout: Layout, part: str, side: str) -> dict[str, Tile]:
    """Load the 8-bit copies of a part, name to (H, W) uint8."""
    folder = layout.data / part / side
    return {image.name: image.pixels for image in load_images(folder, root=folder)}


def estimate(settings: Settings, layout: Layout) -> list[Path]:
    """Estimate the degradation once, and write it to `degradation.json`.

    A recipe that gives its ranges is taken at its word.

    Raises:
        ValueError: There are too few images, or they are too small.
    """
    from training.data.estimation.estimate import estimate_degradation

    recipe = load_recipe(settings.recipe, overrides=settings.overrides)
    if recipe.degradation != "estimate":
        ranges = recipe.degradation.model_dump(mode="json")
        write_json(layout.degradation, "degradation", {"ranges": ranges, "evidence": {}})
        return [layout.degradation]
    lr, hr = (list(images_of(layout, "training", side).values()) for side in ("lr", "hr"))
    found = estimate_degradation(lr, hr, scale=recipe.scale, seed=settings.seed)
    write_json(
        layout.degradation,
        "degradation",
        {"ranges": found.config.model_dump(mode="json"), "evidence": found.evidence},
    )
    return [layout.degradation]


def read_ranges(layout: Layout) -> DegradationConfig:
    """Read the estimated ranges."""
    return DegradationConfig.model_validate(read_json(layout.degradation)["ranges"])
