"""Arguments of `semsr accept`, checked before torch is loaded."""

import argparse
import importlib.util
import re
from pathlib import Path

from semsr.acceptance.layout import Settings
from semsr.commands.checks import (
    at_least,
    existing_bundle,
    existing_file,
    existing_folder,
    folder_of_images,
    writable_folder,
    wrong_use,
)
from semsr.commands.options import UsageError, grey_window, pair, vgg16_path
from training.config.recipe import ConfigError, find_recipe, load_recipe

OWN_KEYS = {
    "optimization.steps": ": give --steps N",
    "optimization.seed": ": give --seed N",
    "optimization.threads": ": give --threads N",
    "run.log_every_steps": "",
    "run.checkpoint_every_steps": "",
}
"""Entries of a recipe that the command sets, and the option in their place."""


def check_arguments(options: argparse.Namespace) -> Settings:
    """Check every argument.

    Raises:
        UsageError: An argument is wrong; the message has its name, value and the expectation.
    """
    from bundle_format.shipped import default_bundle

    for folder, name in ((options.lr, "LR"), (options.hr, "HR")):
        folder_of_images(folder, name)
    if options.lr.resolve() == options.hr.resolve():
        raise UsageError(f"LR and HR are one folder, {options.lr}; expected two")
    writable_folder(options.out, "--out")
    out = options.out.resolve()
    for folder in (options.lr.resolve(), options.hr.resolve()):
        if out == folder or folder in out.parents:
            raise UsageError(f"--out: {options.out} lies in the folder of images {folder}")
    for value, least, name in (
        (options.limit, 1, "--limit"),
        (options.max_rows, 1, "--max-rows"),
        (options.steps, 1, "--steps"),
        (options.threads, 1, "--threads"),
        (options.seed, 0, "--seed"),
    ):
        at_least(value, least, name)
    if not options.minutes > 0:
        raise UsageError(f"--minutes is {options.minutes:g}, expected more than 0")
    if not 0 < options.held_out < 0.9:
        raise UsageError(f"--held-out is {options.held_out:g}, expected a share of 0 to 0.9")
    if not 0 < options.detector_threshold < 1:
        raise UsageError(
            f"--detector-threshold is {options.detector_threshold:g}, expected a score between 0 "
            "and 1"
        )
    for path, name in ((options.sources, "--sources"), (options.vgg16, "--vgg16")):
        if path is not None:
            existing_file(path, name)
    baseline = existing_bundle(options.baseline or default_bundle(), "--baseline")
    for text in options.set:
        key = text.partition("=")[0].strip()
        if key.startswith("data.") or key in OWN_KEYS:
            raise UsageError(f"--set {key}: semsr accept sets it itself{OWN_KEYS.get(key, '')}")
    with wrong_use(ConfigError, FileNotFoundError):
        recipe = find_recipe(options.recipe)
        load_recipe(recipe, overrides=options.set)
    settings = Settings(
        lr=options.lr,
        hr=options.hr,
        pairs=_pairs(options.pairs),
        name=options.name or out.name,
        window=None if options.window is None else grey_window(options.window, "--window"),
        max_rows=options.max_rows,
        sources=options.sources,
        held_out=options.held_out,
        limit=options.limit,
        is_order_sure=options.not_swapped,
        minutes=options.minutes,
        steps=options.steps,
        recipe=recipe,
        overrides=tuple(options.set),
        start=_start(options.start),
        baseline=baseline,
        detector=_detector(options),
        threshold=options.detector_threshold,
        vgg16=vgg16_path(options.vgg16),
        seed=options.seed,
        threads=options.threads,
        tile=pair(options.tile, "--tile"),
        precisions=tuple(dict.fromkeys(["fp32", *options.precision])),
    )
    _check_recipe(settings)
    if min(settings.tile) < 1:
        raise UsageError(f"--tile is {options.tile}; expected two sides of at least 1 px")
    return settings


def _check_recipe(settings: Settings) -> None:
    """Check that the recipe trains on two folders, and that the feature network is there."""
    recipe = load_recipe(settings.recipe, overrides=settings.overrides)
    data = recipe.data
    for value, what in (
        (recipe.tools, "[[tools]]"),
        (data.pairs or data.held_out_pairs, "data.pairs"),
        (data.index, "data.index"),
        (data.excluded_sources, "data.excluded_sources"),
        (data.max_rows_px, "data.max_rows_px"),
    ):
        if value:
            raise UsageError(
                f"--recipe: {settings.recipe.name} has {what}; expected one that trains on two "
                "folders, which semsr accept names itself"
            )
    if "pairs" in recipe.method.needs or recipe.method.name == "distillation":
        raise UsageError(
            f"--recipe: {settings.recipe.name} has the method {recipe.method.name}; expected one "
            "that trains on two unaligned folders"
        )
    if settings.vgg16 is not None:
        existing_file(settings.vgg16, "--vgg16 or SEMSR_VGG16")
    elif recipe.method.vgg16_taps and importlib.util.find_spec("torchvision") is None:
        raise UsageError(
            "the training needs the weights of the feature network: give them by --vgg16 FILE or "
            "SEMSR_VGG16 (VGG16's ImageNet convolutions, as torchvision has)"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", settings.name):
        raise UsageError(
            f"--name is {settings.name!r}; expected letters, digits, '.', '_' and '-', at most 64"
        )


def _pairs(text: str | None) -> tuple[Path, Path] | None:
    if text is None:
        return None
    parts = [Path(part) for part in text.split(",")]
    if len(parts) > 2 or not all(str(part) for part in parts):
        raise UsageError(f"--pairs is {text!r}; expected one folder, or two with a comma between")
    for part in parts:
        existing_folder(part, "--pairs")
    if len(parts) == 1:
        inner = (parts[0] / "lr", parts[0] / "hr")
        parts = list(inner) if all(folder.is_dir() for folder in inner) else parts * 2
    for part in parts:
        folder_of_images(part, "--pairs")
    return parts[0], parts[1]


def _start(text: str) -> str:
    if text not in ("auto", "shipped", "fresh"):
        existing_file(Path(text), "--from")
    return text


def _detector(options: argparse.Namespace) -> Path | None:
    if options.detector is None:
        return None
    from semsr.own_detector import OnnxDetector, OwnDetectorError

    existing_file(options.detector, "--detector")
    with wrong_use(OwnDetectorError):
        OnnxDetector(options.detector, threshold=options.detector_threshold).check()
    return options.detector
