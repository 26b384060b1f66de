"""What the description of a training says to a comparison: its images, and whether it is short."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from training.config.recipe import RECIPES, Recipe, load_recipe
from training.data.picture_folder import PictureFacts

NEEDS = {
    ("hr",): "HR images",
    ("hr", "lr"): "LR and HR images, unaligned",
    ("pairs",): "aligned pairs",
}
"""What a method trains on, by the images that it needs."""


def trained_on(recipe: Recipe) -> str:
    """Return the images that a recipe trains on, in words."""
    needs = tuple(sorted(recipe.method.needs))
    return NEEDS.get(needs, " and ".join(needs))


def facts_of_training(training: Mapping[str, Any], *, summary: str, offline: str) -> PictureFacts:
    """Return the facts of a trained network's pictures.

    Args:
        training: Description of the training, as in the checkpoint.
        summary: Method in words.
        offline: Reason why it can be neither exported nor served.
    """
    recipe = _recipe_of(training)
    return PictureFacts(
        summary=summary,
        is_short=is_short(training),
        trained_on="" if recipe is None else trained_on(recipe),
        offline=offline,
    )


def is_short(training: Mapping[str, Any]) -> bool:
    """Return whether a network was trained less than its recipe says, or as another network.

    The recipe is the shipped one of the same name, where there is one: a copy with fewer steps does
    not make a training complete. A training without a record counts as short, so that it is never
    taken for beaten.
    """
    recipe, done = _recipe_of(training), training.get("steps_done")
    if recipe is None or not isinstance(done, int):
        return True
    shipped = [load_recipe(path) for path in sorted(RECIPES.glob("*.toml"))]
    wanted = next((of for of in shipped if of.name == recipe.name), recipe)
    if wanted.generator != recipe.generator:
        return True
    whole, seen = wanted.optimization, recipe.optimization
    # As in a plan of `training.comparison`: pixels of crops.
    whole_px = whole.steps * whole.batch_size * whole.crop_px**2
    return done * seen.batch_size * seen.crop_px**2 < whole_px


def _recipe_of(training: Mapping[str, Any]) -> Recipe | None:
    try:
        return Recipe.model_validate(training.get("recipe"))
    except ValidationError:
        return None
