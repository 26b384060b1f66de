"""Shipped recipes: each that reads the benchmark's folders trains 2 steps at tiny sizes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import load_network
from tests.training.conftest import grating
from training.config.recipe import RECIPES, Recipe, load_recipe
from training.simulator.splits import SPLITS
from training.trainer import train

MADE_BY_OTHERS = {"zssr/train_pairs"}
"""Folders that `semsr internal-sr` makes from the benchmark's."""

SMALL: dict[str, dict[str, Any]] = {
    "grain_sr": {"channels": 4, "num_blocks": 1},
    "grain_unet": {"channels": [4, 4, 4, 4]},
    "lir": {"width": 4, "num_blocks": 1},
    "lir_style": {"width": 4, "num_blocks": 1},
    "masa": {"channels": 4, "encoder_blocks": 1, "decoder_blocks": 1, "blocks": [1, 1, 1]},
    "rep_sr": {"channels": 4, "num_blocks": 1},
    "resnet9": {"width": 4},  # all blocks: recipes name layers of theirs
    "unet": {"width": 4},
}
"""Hyper-parameters that make a network small, by its name."""

CROP_LR_PX, CROP_HR_PX = 24, 96
HR_PX = 2 * CROP_HR_PX
BATCH = 2


def folders_of(recipe: Recipe) -> dict[str, int]:
    """Return the folders that a recipe reads, with the side of their pictures in px."""
    data, scale = recipe.data, recipe.scale
    sizes = dict.fromkeys(data.lr, HR_PX // scale) | dict.fromkeys(data.hr, HR_PX)
    for pair in (*data.pairs, *data.held_out_pairs):
        sizes |= {pair.input: HR_PX // scale, pair.target: HR_PX}
    return sizes


def reads_the_benchmark(recipe: Recipe) -> bool:
    """Tell whether a recipe needs nothing but the benchmark's folders and what is made of them."""
    known = {folder for split in SPLITS.values() for folder in split.folders.values()}
    return not recipe.tools and folders_of(recipe).keys() <= known | MADE_BY_OTHERS


BENCHMARK_RECIPES = [
    path for path in sorted(RECIPES.glob("*.toml")) if reads_the_benchmark(load_recipe(path))
]


def small(recipe: Recipe) -> list[str]:
    """Return the overrides that make a recipe tiny."""
    section, options = recipe.method.model_dump(), recipe.optimization
    overrides = [
        f"generator.hyper_parameters.{key}={value}"
        for key, value in SMALL[recipe.generator.name].items()
    ]
    crop_px = CROP_HR_PX if recipe.scale == 1 else CROP_LR_PX
    overrides += [
        "optimization.steps=2",
        f"optimization.batch_size={min(BATCH, options.batch_size)}",
        f"optimization.crop_px={min(crop_px, options.crop_px)}",
        "optimization.device=cpu",
        "optimization.precision=fp32",
        "optimization.threads=1",
        "optimization.warm_up_steps=0",
    ]
    if recipe.degradation == "estimate":  # tested with the estimation itself, and slow
        overrides.append("degradation={}")
    for path in ("discriminator", "adversarial.discriminator"):
        part: Any = section
        for key in path.split("."):
            part = (part or {}).get(key)
        if part:
            overrides.append(f"method.{path}.width=4")
            overrides += [f"method.{path}.hidden=8"] if "hidden" in part else []
    return overrides


@pytest.mark.parametrize("path", BENCHMARK_RECIPES, ids=lambda path: path.stem)
def test_recipe_trains_from_the_benchmarks_folders(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps end with a checkpoint of the recipe's network: no recipe rots unnoticed."""
    monkeypatch.setattr("training.trainer.draw_curves", lambda *_, **__: None)  # a second each
    recipe = load_recipe(path)
    weights = os.environ.get("SEMSR_VGG16")
    if recipe.method.vgg16_taps and not weights:
        pytest.skip("SEMSR_VGG16 is not set")
    if recipe.method.name == "distillation":
        pytest.skip("needs a teacher")
    for folder, side_px in folders_of(recipe).items():
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(2):
            picture = grating(side_px=side_px, seed=number)
            # Held-out pairs must have other images than those that are trained on.
            Image.fromarray(np.roll(picture, 1 + len(folder))).save(
                tmp_path / "data" / folder / f"{number:04}.png"
            )

    checkpoint = train(
        path,
        data_root=tmp_path / "data",
        run_dir=tmp_path / "run",
        overrides=small(recipe),
        vgg16=Path(weights) if weights else None,
    )

    network, info = load_network(checkpoint)
    assert (recipe.generator.name, recipe.scale) == (info.generator, network.scale)
    assert 2 == info.training["steps_done"]


def test_every_kind_of_method_is_among_them() -> None:
    """The filter above does not leave a method out by mistake."""
    methods = {load_recipe(path).method.name for path in BENCHMARK_RECIPES}

    assert {"f_lsesim", "contrastive", "lir", "masa", "paired", "paired_gan"} <= methods
