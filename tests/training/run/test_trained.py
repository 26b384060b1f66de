"""Facts of a trained network for a comparison."""

import pytest

from training.config.recipe import find_recipe, load_recipe
from training.run.trained import facts_of_training, is_short


@pytest.mark.parametrize(
    ("changes", "steps_done", "expected"),
    [
        ([], 24000, False),
        ([], 23999, True),
        (["optimization.steps=100"], 100, True),
        (["optimization.batch_size=18", "optimization.steps=12000"], 12000, False),
        (["generator.hyper_parameters.channels=16"], 24000, True),
        (["name=mine", "optimization.steps=100"], 100, False),
    ],
)
def test_a_training_is_short_where_it_saw_less_than_its_recipe_says(
    changes: list[str], steps_done: int, expected: bool
) -> None:
    """Crops count; another network counts as short."""
    recipe = load_recipe(find_recipe("masa"), overrides=changes)

    training = {"recipe": recipe.model_dump(mode="json"), "steps_done": steps_done}

    assert expected == is_short(training)


def test_facts_say_what_was_trained_on() -> None:
    """By the recipe in the checkpoint; a checkpoint that says nothing counts as short."""
    recipe = load_recipe(find_recipe("pix2pix_zssr"))
    training = {"recipe": recipe.model_dump(mode="json"), "steps_done": 1}

    facts = facts_of_training(training, summary="s", offline="o")
    unknown = facts_of_training({}, summary="s", offline="o")

    assert ("aligned pairs", True) == (facts.trained_on, facts.is_short)
    assert ("", True) == (unknown.trained_on, unknown.is_short)
