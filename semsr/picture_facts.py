"""Facts of pictures that a reference was needed for, which `semsr compare` shows next to them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from semsr.whole_file import write_whole_text
from training.comparison.facts import NEEDS, PICTURES_FILE, PICTURES_KIND, PICTURES_VERSION
from training.config.recipe import RECIPES, Recipe, load_recipe
from training.evaluation.folders.reference_record import ReferenceKind

OFFLINE = "needs a reference image, which an LR tile comes without"

WORDS: Mapping[ReferenceKind, str] = {
    "own": "the tile's own true HR image",
    "kind": "an HR image of the same kind of scene",
    "random": "a random HR image",
    "fixed": "one HR image for all tiles",
}
"""Reference of a tile, in words."""


def write_facts(
    out: Path, *, network: str, reference: ReferenceKind, training: Mapping[str, Any]
) -> None:
    """Write the facts of a folder of pictures.

    Args:
        out: Folder of the pictures.
        network: Registry name of the network.
        reference: Choice of the references.
        training: Description of its training, as in the checkpoint.
    """
    recipe = _recipe_of(training)
    document = {
        "format_version": PICTURES_VERSION,
        "kind": PICTURES_KIND,
        "summary": f"{network} with {WORDS[reference]} as reference",
        "is_short": is_short(training),
        "trained_on": "" if recipe is None else NEEDS.get(tuple(sorted(recipe.method.needs)), ""),
        "offline": OFFLINE,
    }
    write_whole_text(out / PICTURES_FILE, json.dumps(document, indent=1) + "\n")


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
    crops = wanted.optimization.steps * wanted.optimization.batch_size
    return done * recipe.optimization.batch_size < crops


def _recipe_of(training: Mapping[str, Any]) -> Recipe | None:
    try:
        return Recipe.model_validate(training.get("recipe"))
    except ValidationError:
        return None
