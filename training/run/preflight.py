"""Problems of a run, found before torch is loaded and before an image is read.

`training.run.preparation` checks what needs torch: device, generator, feature network.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from training.config.method import DistillationConfig
from training.config.recipe import ConfigError, Recipe, load_recipe
from training.data.bank_format import bank_content, check_bank
from training.data.images import find_images
from training.run.folder import RunDir


def check_run(
    recipe_path: Path,
    *,
    data_root: Path,
    run_dir: Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    vgg16: Path | None = None,
    start_from: Path | None = None,
    bank: Path | None = None,
) -> Recipe:
    """Check the arguments of `training.trainer.train`.

    Returns:
        The recipe.

    Raises:
        FileNotFoundError: The recipe or the checkpoint to start from does not exist.
        ConfigError: The recipe is wrong, or files that it needs are not there: all of them.
        BankError: The folder of the bank holds something else, or another recipe's bank.
        RunDirError: The run's folder is taken, or holds nothing to resume.
    """
    recipe = load_recipe(recipe_path, overrides=overrides)
    if start_from is not None and not start_from.is_file():
        raise FileNotFoundError(f"no checkpoint at {start_from}")
    folder = RunDir(run_dir)
    folder.check(recipe, resume=resume, overwrite=overwrite, start_from=start_from, bank=bank)
    if bank is not None:
        check_bank(bank, bank_content(recipe))
    if missing := missing_files(recipe, data_root, vgg16):
        raise ConfigError("\n  ".join([f"{recipe_path.name} under {data_root}:", *missing]))
    return recipe


def missing_files(recipe: Recipe, data_root: Path, vgg16: Path | None) -> list[str]:
    """List the images and other files that a recipe needs and that are not there, in words.

    Args:
        recipe: Resolved recipe.
        data_root: Folder that its paths are relative to.
        vgg16: Weights of the feature network; None for torchvision's.
    """
    return [*_missing_images(recipe, data_root), *_missing_files(recipe, data_root, vgg16)]


def _missing_images(recipe: Recipe, data_root: Path) -> list[str]:
    data = recipe.data
    patterns = {"data.hr": data.hr, "data.lr": data.lr}
    for key, several in (("pairs", data.pairs), ("held_out_pairs", data.held_out_pairs)):
        patterns[f"data.{key}"] = [part for pair in several for part in (pair.input, pair.target)]
    if data.held_out_sources:
        patterns["data.held_out_tiles"] = data.held_out_tiles
    for tool in recipe.tools:
        patterns |= {f"tools {tool.name}: hr": tool.hr, f"tools {tool.name}: lr": tool.lr}
    return [
        f"{key}: no image file matches {pattern!r}"
        for key, several in patterns.items()
        for pattern in several
        if not find_images(pattern, root=data_root)
    ]


def _missing_files(recipe: Recipe, data_root: Path, vgg16: Path | None) -> list[str]:
    index, method = recipe.data.index, recipe.method
    missing = [
        f"data.pairs: {pairs.alignment} does not exist"
        for pairs in (*recipe.data.pairs, *recipe.data.held_out_pairs)
        if pairs.alignment is not None and not (data_root / pairs.alignment).is_file()
    ]
    if index is not None and not (data_root / index).is_file():
        missing.append(f"data.index: {index} does not exist")
    if isinstance(method, DistillationConfig):
        missing += [
            f"method.teachers: {teacher} does not exist"
            for teacher in method.teachers
            if not (data_root / teacher).is_file()
        ]
    if method.vgg16_taps:
        if vgg16 is not None and not vgg16.is_file():
            missing.append(f"the feature network's weights: {vgg16} does not exist")
        if vgg16 is None and importlib.util.find_spec("torchvision") is None:
            missing.append(
                "the method needs the weights of the feature network: give them by "
                "--vgg16 FILE or SEMSR_VGG16 (VGG16's ImageNet convolutions, as torchvision has)"
            )
    return missing
