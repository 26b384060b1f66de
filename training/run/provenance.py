"""Description of a training in its checkpoint; the model card is made from it.

Only facts of the run: recipe, images used and kept out, statistics of the LR images that the
network saw, credits. No figure that was not computed here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.recipe import Recipe
from training.data.datasets import ToolImages
from training.data.images import SourceImage
from training.ground.quality import noise_sigma


def describe_training(
    recipe: Recipe,
    *,
    hr_images: Sequence[SourceImage],
    lr_images: Sequence[SourceImage],
    held_out: Sequence[SourceImage],
    tools: Sequence[ToolImages],
    lr_crops: NDArray[np.floating],
) -> dict[str, Any]:
    """Describe a run as JSON-compatible values.

    Args:
        recipe: Resolved recipe.
        hr_images: HR images trained on.
        lr_images: LR images trained on; empty where the method needs none.
        held_out: Tiles that are only evaluated.
        tools: Tools whose pseudo-pairs were trained on, with ranges as given or as estimated.
        lr_crops: (N, H, W) grey levels 0 to 255, as the network sees them in training.

    Returns:
        A dict with `name`, `method`, `data` (statement, credits, licence, files and sources used,
        held out and excluded), `degradation` (the first tool's ranges, and whether they were
        estimated), `tools` (the same and the share of each further one), `recipe` (resolved),
        `steps`, `seed`, and `lr_domain` (mean, deviation and noise of the LR crops in grey levels).
    """
    data = recipe.data
    return {
        "name": recipe.name,
        "method": recipe.method.name,
        "data": {
            "statement": data.statement.strip(),
            "credits": data.credits,
            **({"licence": data.licence} if data.licence else {}),
            "image_count": len(hr_images) + len(lr_images),
            "images": sorted(image.name for image in (*hr_images, *lr_images)),
            "source_count": len({image.source for image in (*hr_images, *lr_images)}),
            "held_out_sources": sorted(data.held_out_sources),
            "held_out_tiles": sorted(tile.name for tile in held_out),
            "excluded_sources": sorted(data.excluded_sources),
        },
        "degradation": _ranges(tools[0]) if tools else None,
        "tools": [
            {"name": tool.name, "share": tool.share, "degradation": _ranges(tool)}
            for tool in tools[1:]
        ],
        "degradation_is_estimated": recipe.degradation == "estimate",
        "recipe": recipe.model_dump(mode="json"),
        "steps": recipe.optimization.steps,
        "seed": recipe.optimization.seed,
        "lr_domain": lr_domain(lr_crops),
    }


def _ranges(tool: ToolImages) -> Any:  # noqa: ANN401 - JSON
    known = tool.degradation
    return known if known == "estimate" else known.model_dump(mode="json")


def lr_domain(crops: NDArray[np.floating]) -> dict[str, float]:
    """Measure LR crops (N, H, W) in grey levels.

    Returns:
        `mean` (of all pixels), `std` (of all pixels), `noise_sigma` (median over crops).
    """
    return {
        "mean": round(float(crops.mean()), 2),
        "std": round(float(crops.std()), 2),
        "noise_sigma": round(
            float(np.median([noise_sigma(crop.astype(np.float64)) for crop in crops])), 2
        ),
    }
