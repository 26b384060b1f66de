"""Loading of training images and held-out tiles; hold-out is by source image, never by tile.

Tiles cut from one image share its noise, its charging and often its pixels. A tile of a source used
in training is therefore no independent test. The index names each image's source; without an entry,
the image is its own source.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.config.degradation import DegradationConfig
from training.config.recipe import ConfigError, DataConfig, Recipe, ToolConfig
from training.data.degradation.synthetic_lr import degrade, draw_degradation
from training.data.given_pairs import SourcePair
from training.data.images import SourceImage, load_images


@dataclass(frozen=True, kw_only=True)
class ToolImages:
    """Training images of one tool, and the degradation of its HR images for pseudo-pairs.

    Attributes:
        name: Name of the tool; empty for the first, whose images the recipe's `data` names.
        hr: HR images to train on.
        lr: LR images to train on.
        degradation: Ranges, or "estimate".
        share: Share of the pseudo-pairs.
    """

    name: str
    hr: Sequence[SourceImage]
    lr: Sequence[SourceImage]
    degradation: DegradationConfig | Literal["estimate"]
    share: float


@dataclass(frozen=True, kw_only=True)
class KnownTool(ToolImages):
    """A tool whose degradation ranges are known: given, or estimated already."""

    degradation: DegradationConfig


def load_tools(
    recipe: Recipe, *, data_root: Path, pairs: Sequence[SourcePair] = ()
) -> list[ToolImages]:
    """Load the training images of every tool of a recipe, the first tool first.

    Args:
        recipe: Resolved recipe.
        data_root: Folder that its paths are relative to.
        pairs: Given pairs, whose images are the first tool's where `data` names none.

    Raises:
        ImageFileError: A pattern matches nothing, or files are not usable images.
        ConfigError: All HR images of a tool are held out or excluded, or a held-out or excluded
            source matches no image (with a spelling mistake it would be trained on).
    """
    data = recipe.data
    first = ToolConfig.model_construct(
        name="",
        hr=data.hr,
        lr=data.lr,
        degradation=recipe.degradation,
        share=1.0 - sum(tool.share for tool in recipe.tools),
    )
    tools = [first, *recipe.tools]
    named = tools if data.hr else tools[1:]
    hr = load_training_images(data, [tool.hr for tool in named], data_root=data_root)
    if not data.hr:
        hr = [[pair.hr for pair in pairs], *hr]
    lr = [
        load_lr_images(data.model_copy(update={"lr": tool.lr}), data_root=data_root)
        for tool in tools
    ]
    if not data.lr:
        lr[0] = [pair.lr for pair in pairs]
    return [
        ToolImages(
            name=tool.name, hr=fine, lr=coarse, degradation=tool.degradation, share=tool.share
        )
        for tool, fine, coarse in zip(tools, hr, lr, strict=True)
    ]


def load_training_images(
    config: DataConfig, hr: Sequence[Sequence[str]], *, data_root: Path
) -> list[list[SourceImage]]:
    """Load the HR images of every tool, without held-out and excluded sources.

    Args:
        config: Data section of the recipe.
        hr: Patterns of each tool.
        data_root: Folder that they are relative to.
    """
    found = [_load(config, patterns, data_root=data_root) for patterns in hr]
    kept_out = {*config.held_out_sources, *config.excluded_sources}
    unknown = kept_out - {image.source for images in found for image in images}
    if unknown:
        raise ConfigError(f"held-out or excluded sources match no image: {sorted(unknown)}")
    kept = [[image for image in images if image.source not in kept_out] for images in found]
    for patterns, images in zip(hr, kept, strict=True):
        if not images:
            raise ConfigError(
                f"no training image of {list(patterns)} is left after hold-out and exclusion"
            )
    return kept


def load_lr_images(config: DataConfig, *, data_root: Path) -> list[SourceImage]:
    """Load the LR images; the list is empty if the recipe names none.

    Raises:
        ImageFileError: A pattern matches nothing, or files are not usable images: all of them.
    """
    if not config.lr:
        return []
    return load_images(
        config.lr, root=data_root, max_rows_px=config.max_rows_px, window=config.window
    )


def load_held_out_tiles(config: DataConfig, *, data_root: Path) -> list[SourceImage]:
    """Load the tiles of the held-out sources; the list is empty if the recipe holds out none.

    Raises:
        ImageFileError: A pattern matches nothing, or files are not usable images: all of them.
        ConfigError: Sources are held out but no tile comes from them.
    """
    if not config.held_out_sources:
        return []
    found = _load(config, config.held_out_tiles, data_root=data_root)
    tiles = [image for image in found if image.source in config.held_out_sources]
    if not tiles:
        raise ConfigError(f"no tile comes from the held-out sources {config.held_out_sources}")
    return tiles


def degraded_pairs(
    tiles: Sequence[SourceImage], *, degradation: DegradationConfig, scale: int, seed: int
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Degrade whole tiles; the same tiles, ranges and seed give the same pairs.

    Returns:
        (lr, hr) uint8 pairs, (H, W) and (s*H, s*W); HR is cut to a multiple of the scale.
    """
    pairs = []
    for number, tile in enumerate(tiles):
        height, width = (side - side % scale for side in tile.pixels.shape)
        hr = tile.pixels[:height, :width]
        generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + number)
        drawn = draw_degradation(degradation, count=1, generator=generator)
        image = torch.from_numpy(hr.copy())[None, None].float() / 255.0
        lr = degrade(image, drawn, scale=scale, generator=generator)
        pairs.append(((lr[0, 0] * 255.0).round().byte().numpy(), hr))
    return pairs


def _load(config: DataConfig, patterns: Sequence[str], *, data_root: Path) -> list[SourceImage]:
    """Load images and set the source of each by the index, if the recipe has one."""
    sources = _read_index(config, data_root=data_root)
    images = load_images(
        patterns, root=data_root, max_rows_px=config.max_rows_px, window=config.window
    )
    return [replace(image, source=sources.get(image.source, image.source)) for image in images]


def _read_index(config: DataConfig, *, data_root: Path) -> dict[str, str]:
    if config.index is None:
        return {}
    path = data_root / config.index
    if not path.is_file():
        raise ConfigError(f"no index at {path}")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"folder", "file", "src"} <= rows[0].keys():
        raise ConfigError(f"{path} must have the columns folder, file and src")
    return {f"{row['folder']}/{row['file']}": row["src"] for row in rows}
