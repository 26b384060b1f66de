"""Recipes: shipped ones load, mistakes are named."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from models import GENERATORS
from training.config.degradation import DegradationConfig
from training.config.recipe import (
    GENERATOR_NAMES,
    RECIPES,
    ConfigError,
    Recipe,
    find_recipe,
    load_recipe,
)

MINIMAL = 'name = "a"\n[data]\nhr = ["hr/*.png"]\n'


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """Write the smallest valid recipe."""
    path = tmp_path / "recipe.toml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    """Recipes in the repository load without overrides and say what their data are."""
    assert load_recipe(path).data.statement != ""


def test_supervised_recipe_keeps_defects_and_enough_sources_out() -> None:
    """At least four sources are held out, and no file with process defects is trained on."""
    data = load_recipe(find_recipe("supervised")).data
    defects = {f"openEBL-2026-02/CC_{number:03}.jpg" for number in (33, 36, 38)}

    assert len(set(data.held_out_sources)) >= 4
    assert defects <= set(data.excluded_sources)


def test_defaults_fill_what_the_file_leaves_out(recipe_path: Path) -> None:
    """Only a name and images are required."""
    recipe = load_recipe(recipe_path)

    assert "rep_sr" == recipe.generator.name
    assert 16 == recipe.optimization.batch_size


def test_overrides_win_over_the_file_and_are_typed(recipe_path: Path) -> None:
    """Numbers, lists, tables and plain words all reach their field."""
    recipe = load_recipe(
        recipe_path,
        overrides=[
            "optimization.steps=7",
            "degradation.gain=[1.1, 1.2]",
            "generator.hyper_parameters.channels=8",
            "generator.name=resnet9",
            'data.hr=["a/*.png", "b/*.png"]',
            "name=run=2",
        ],
    )

    assert 7 == recipe.optimization.steps
    assert isinstance(recipe.degradation, DegradationConfig)
    assert (1.1, 1.2) == recipe.degradation.gain
    assert {"channels": 8} == recipe.generator.hyper_parameters
    assert "resnet9" == recipe.generator.name
    assert ["a/*.png", "b/*.png"] == recipe.data.hr
    assert "run=2" == recipe.name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimization.stepz=7", r"unknown key optimization\.stepz; did you mean steps\?"),
        ("optimisation.steps=7", r"unknown key optimisation; did you mean optimization\?"),
        ("steps=7", r"unknown key steps; did you mean optimization\.steps\?"),
        ("zzz.q=1", r"unknown key zzz; there are name, generator, data"),
        ("degradation.gian=[1, 2]", r"unknown key degradation\.gian; did you mean gain\?"),
        ("generator.name=resnet", r"unknown generator 'resnet'; did you mean resnet9\?"),
        ("method.name=flsesim", r"unknown method 'flsesim'; did you mean f_lsesim\?"),
        ("method.charbonnier_eps=1", r"method\.name is missing"),
        ("optimization.steps=0", r"optimization\.steps: .*greater than or equal to 1"),
        ("optimization.steps=many", r"optimization\.steps: .*integer"),
        ("degradation.gain=[2, 1]", r"degradation\.gain: .*\[low, high\], got \[2.0, 1.0\]"),
        ("degradation.noise_var_base=[-1, 1]", r"degradation\.noise_var_base"),
        ("degradation.lag_decay=[0, 1]", r"degradation\.lag_decay"),
        ("data.hr=[]", r"data\.hr"),
        ("optimization.steps", "section.key=value, got 'optimization.steps'"),
        ("optimization..steps=1", "section.key=value"),
        ("name.first=1", "'name' is a value, not a section"),
    ],
)
def test_mistakes_are_named(recipe_path: Path, override: str, message: str) -> None:
    """The error says which field and what was expected."""
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe_path, overrides=[override])


def test_a_source_cannot_be_held_out_and_excluded(recipe_path: Path) -> None:
    """Held out means evaluated on; excluded means not even that."""
    overrides = ['data.held_out_sources=["a"]', 'data.excluded_sources=["a", "b"]']

    with pytest.raises(ConfigError, match=r"both held out and excluded: \['a'\]"):
        load_recipe(recipe_path, overrides=overrides)


def test_broken_toml_is_a_config_error(recipe_path: Path) -> None:
    """A syntax error names the file."""
    recipe_path.write_text("name = ")

    with pytest.raises(ConfigError, match=r"recipe\.toml is not TOML"):
        load_recipe(recipe_path)


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    """A path that does not exist is the usual FileNotFoundError."""
    with pytest.raises(FileNotFoundError, match=r"no recipe at .*none\.toml"):
        load_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["tiny", "tiny.toml", "recipes/tiny.toml"])
def test_shipped_recipes_are_found_by_name(name: str) -> None:
    """`recipes/tiny.toml` works from any folder."""
    assert RECIPES / "tiny.toml" == find_recipe(name)


def test_a_path_wins_over_a_shipped_name(recipe_path: Path) -> None:
    """A file that exists is taken as named."""
    assert recipe_path == find_recipe(str(recipe_path))


def test_unknown_recipe_lists_the_shipped_ones() -> None:
    """A misspelt name is answered with the right ones."""
    with pytest.raises(
        FileNotFoundError, match=r"'supervized'; did you mean supervised\?; .*supervised, tiny"
    ):
        find_recipe("supervized")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.self_similarity.weights=1", "self_similarity.weights; did you mean weight?"),
        ("method.adversarial.discriminator.widths=1", "discriminator.widths; did you mean width?"),
        ("method.charbonnier_eps=1", "did you mean method.paired.charbonnier_eps?"),
        ('tools=[{name="a", hr=["x"], lr=["y"], share=0.5, shar=1}]', "shar; did you mean share?"),
    ],
)
def test_unknown_keys_of_nested_sections_are_answered_with_the_nearest(
    recipe_path: Path, override: str, message: str
) -> None:
    """The suggestion comes from the section that the key stands in, at any depth."""
    overrides = ["method.name=f_lsesim", 'data.lr=["lr"]', override]

    with pytest.raises(ConfigError, match=re.escape(message)):
        load_recipe(recipe_path, overrides=overrides)


def test_the_docs_name_the_recipe_that_made_the_shipped_model() -> None:
    """The manifest knows: its recipe is the file that training.md and models.md name."""
    root = RECIPES.parents[1]
    manifest = json.loads((root / "bundles" / "default" / "manifest.json").read_text())
    name = manifest["training"]["recipe"]["name"]
    [made_by] = [path for path in RECIPES.glob("*.toml") if name == load_recipe(path).name]
    training = (root / "docs" / "training.md").read_text(encoding="utf-8")
    models = (root / "docs" / "measurements" / "models.md").read_text(encoding="utf-8")

    said = [line for line in training.splitlines() if "`bundles/default` was trained by" in line]
    assert [f"| `{made_by.stem}` |"] == [line[: len(made_by.stem) + 6] for line in said]
    assert f"`bundles/default` is the generator `{manifest['generator']['name']}`" in models
    assert f"It was trained by `training/recipes/{made_by.name}`" in models


def test_the_names_of_generators_are_those_of_the_registry() -> None:
    """A recipe is checked before torch is loaded, so that the names stand in both places."""
    assert sorted(GENERATORS) == sorted(GENERATOR_NAMES)


def test_a_loaded_recipe_cannot_be_changed(recipe_path: Path) -> None:
    """The run is described by the recipe, so nothing may edit it on the way."""
    recipe = load_recipe(recipe_path)

    with pytest.raises(ValidationError, match="frozen"):
        recipe.optimization.steps = 3


TOOL = {"hr": ["b"], "share": 0.5}


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([{**TOOL, "name": "b"}], r"to be estimated.*: \['b'\]"),
        ([{**TOOL, "name": "b", "lr": ["l"]}] * 2, r"tools of the same name: \['b', 'b'\]"),
        ([{**TOOL, "name": "b", "lr": ["l"], "share": 1.0}], "less than 1"),
        (
            [{**TOOL, "name": name, "lr": ["l"]} for name in ("b", "c")],
            "leave nothing to the images of data",
        ),
        ([{**TOOL, "name": "../b", "lr": ["l"]}], "should match pattern"),
    ],
)
def test_tools_that_do_not_fit_are_refused(tools: list[dict[str, object]], message: str) -> None:
    """Each mistake by name."""
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({"name": "x", "data": {"hr": ["a"]}, "tools": tools})
