"""What a checkpoint says about its own training; the model card is made from it.

Only facts of the run: recipe, images used and kept out, statistics of the LR images that the
network saw, credits. No figure that was not computed here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.config import Recipe
from training.datasets import CropSampler, SourceImage
from training.quality import noise_sigma

DOMAIN_BATCHES = 8


def describe_training(
    recipe: Recipe,
    *,
    images: Sequence[SourceImage],
    held_out: Sequence[SourceImage],
    sampler: CropSampler,
) -> dict[str, Any]:
    """Describe a run as JSON-compatible values.

    Returns:
        A dict with `name`, `data` (statement, credits, files and sources used, held out and
        excluded), `degradation` (ranges), `recipe` (resolved), `steps`, `seed`, and `lr_domain`
        (mean, deviation and noise of the LR crops in grey levels).
    """
    return {
        "name": recipe.name,
        "data": {
            "statement": recipe.data.statement.strip(),
            "credits": recipe.data.credits,
            "image_count": len(images),
            "images": sorted(image.name for image in images),
            "source_count": len({image.source for image in images}),
            "held_out_sources": sorted(recipe.data.held_out_sources),
            "held_out_tiles": sorted(tile.name for tile in held_out),
            "excluded_sources": sorted(recipe.data.excluded_sources),
        },
        "degradation": recipe.degradation.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "steps": recipe.optimization.steps,
        "seed": recipe.optimization.seed,
        "lr_domain": lr_domain(sampler),
    }


def lr_domain(sampler: CropSampler) -> dict[str, float]:
    """Measure the LR crops of the first batches, in grey levels.

    Returns:
        `mean` (of all pixels), `std` (of all pixels), `noise_sigma` (median over crops).
    """
    crops = np.concatenate(
        [255.0 * sampler.batch(step)[0][:, 0].numpy() for step in range(DOMAIN_BATCHES)]
    )
    return {
        "mean": round(float(crops.mean()), 2),
        "std": round(float(crops.std()), 2),
        "noise_sigma": round(float(np.median([noise_sigma(crop) for crop in crops])), 2),
    }
