"""Image folders to training crops and held-out tiles; hold-out is by source image, never by tile.

Tiles cut from one image share its noise, its charging and often its pixels, so a tile of a source
that training saw proves nothing. Each image belongs to a source: what the index names, else itself.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.config import ConfigError, DataConfig, DegradationConfig
from training.degradation import degrade, draw_degradation

# LR pixels around a crop that the degradation sees and that are then cut away, so that the crop's
# border is degraded from real neighbours: the spot reaches 2 LR px, the lag below 8 but faintly.
MARGIN_PX = 4


@dataclass(frozen=True, kw_only=True)
class SourceImage:
    """One image file and the source image that it was cut from.

    Attributes:
        name: Path relative to the data root.
        source: Source image, as the index names it, or the file's own `folder/name`.
        pixels: (H, W) uint8.
    """

    name: str
    source: str
    pixels: NDArray[np.uint8]


def read_grey(path: Path, *, max_rows_px: int | None = None) -> NDArray[np.uint8]:
    """Read an image file as one grey channel, (H, W) uint8, rows from the top up to a limit."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"), dtype=np.uint8)
    return pixels[:max_rows_px].copy()


def load_training_images(config: DataConfig, *, data_root: Path) -> list[SourceImage]:
    """Load every HR image that training may see: all but held-out and excluded sources.

    Raises:
        ConfigError: A glob matches nothing, nothing is left, or a held-out or excluded source
            names no image (a spelling mistake there would leak it into training).
    """
    found = _find(config, config.hr, data_root=data_root)
    sources = {source for _, source in found}
    unknown = (set(config.held_out_sources) | set(config.excluded_sources)) - sources
    if unknown:
        raise ConfigError(f"held-out or excluded sources match no image: {sorted(unknown)}")
    kept_out = {*config.held_out_sources, *config.excluded_sources}
    images = [
        _load(path, source, config, data_root=data_root)
        for path, source in found
        if source not in kept_out
    ]
    if not images:
        raise ConfigError("no training image is left after hold-out and exclusion")
    return images


def load_held_out_tiles(config: DataConfig, *, data_root: Path) -> list[SourceImage]:
    """Load the tiles of the held-out sources; an empty list where the recipe holds out none.

    Raises:
        ConfigError: A glob matches nothing, or sources are held out but no tile comes from them.
    """
    if not config.held_out_sources:
        return []
    tiles = [
        _load(path, source, config, data_root=data_root)
        for path, source in _find(config, config.held_out_tiles, data_root=data_root)
        if source in config.held_out_sources
    ]
    if not tiles:
        raise ConfigError(f"no tile comes from the held-out sources {config.held_out_sources}")
    return tiles


class CropSampler:
    """Draws batches of HR crops and degrades them; the batch is a function of (seed, step) alone.

    So a run that is resumed at a step sees exactly what it would have seen without the stop.
    """

    def __init__(
        self,
        images: Sequence[SourceImage],
        *,
        degradation: DegradationConfig,
        scale: int,
        crop_px: int,
        batch_size: int,
        seed: int,
        crop_candidates: int = 1,
    ) -> None:
        self.side_px = (crop_px + 2 * MARGIN_PX) * scale
        small = [image.name for image in images if min(image.pixels.shape) < self.side_px]
        if small:
            raise ConfigError(f"images smaller than a crop of {self.side_px} px: {small}")
        self.images = list(images)
        self.degradation = degradation
        self.scale = scale
        self.batch_size = batch_size
        self.crop_candidates = crop_candidates
        self.seed = seed

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the pair of a step.

        Returns:
            lr (N, 1, c, c) and hr (N, 1, s*c, s*c), float32 in [0, 1]. Each crop is drawn uniformly
            from an image drawn uniformly (of `crop_candidates` such draws, the one of most
            contrast), and is turned and flipped at random before it is degraded.
        """
        rng = np.random.default_rng((self.seed, step))
        hr = torch.from_numpy(np.stack([self._crop(rng) for _ in range(self.batch_size)]))
        hr = hr[:, None].float() / 255.0
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        drawn = draw_degradation(self.degradation, count=self.batch_size, generator=generator)
        lr = degrade(hr, drawn, scale=self.scale, generator=generator)
        inner_lr = slice(MARGIN_PX, -MARGIN_PX)
        inner_hr = slice(MARGIN_PX * self.scale, -MARGIN_PX * self.scale)
        return (
            lr[:, :, inner_lr, inner_lr].contiguous(),
            hr[:, :, inner_hr, inner_hr].contiguous(),
        )

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        candidates = [self._place(rng) for _ in range(self.crop_candidates)]
        # Most of a wafer image is flat; edges are what there is to learn.
        crop = max(candidates, key=np.std) if len(candidates) > 1 else candidates[0]
        crop = np.rot90(crop, int(rng.integers(4)))
        return np.ascontiguousarray(crop[:, ::-1] if rng.integers(2) else crop)

    def _place(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        pixels = self.images[int(rng.integers(len(self.images)))].pixels
        y = int(rng.integers(pixels.shape[0] - self.side_px + 1))
        x = int(rng.integers(pixels.shape[1] - self.side_px + 1))
        return pixels[y : y + self.side_px, x : x + self.side_px]


def degraded_pairs(
    tiles: Sequence[SourceImage], *, degradation: DegradationConfig, scale: int, seed: int
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Degrade whole tiles with a fixed seed; the same tiles, ranges and seed give the same pairs.

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


def load_pairs(
    lr_folder: Path, hr_folder: Path, *, lr_suffix: str = "", hr_suffix: str = ""
) -> list[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Load images that lie as pairs on disk.

    Args:
        lr_folder: Folder of `<name><lr_suffix>.png`.
        hr_folder: Folder of `<name><hr_suffix>.png`; may be the same.
        lr_suffix: End of the stem of an LR file, such as `_lr`.
        hr_suffix: End of the stem of an HR file.

    Returns:
        (name, lr, hr), sorted by name; uint8 (H, W) and (s*H, s*W).

    Raises:
        ConfigError: There is no pair, or an LR file without its HR file.
    """
    pairs = []
    for lr_path in sorted(lr_folder.glob(f"*{lr_suffix}.png")):
        name = lr_path.stem.removesuffix(lr_suffix)
        hr_path = hr_folder / f"{name}{hr_suffix}.png"
        if not hr_path.is_file():
            raise ConfigError(f"{lr_path} has no HR partner {hr_path}")
        pairs.append((name, read_grey(lr_path), read_grey(hr_path)))
    if not pairs:
        raise ConfigError(f"no pair of images in {lr_folder} and {hr_folder}")
    return pairs


def _find(config: DataConfig, globs: Sequence[str], *, data_root: Path) -> list[tuple[Path, str]]:
    sources = _read_index(config, data_root=data_root)
    paths: set[Path] = set()
    for pattern in globs:
        matches = [path for path in data_root.glob(pattern) if path.is_file()]
        if not matches:
            raise ConfigError(f"no image matches {pattern!r} under {data_root}")
        paths.update(matches)
    keys = [(path, f"{path.parent.name}/{path.name}") for path in sorted(paths)]
    return [(path, sources.get(key, key)) for path, key in keys]


def _load(path: Path, source: str, config: DataConfig, *, data_root: Path) -> SourceImage:
    pixels = read_grey(path, max_rows_px=config.max_rows_px)
    return SourceImage(name=str(path.relative_to(data_root)), source=source, pixels=pixels)


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
