"""Creation of a bank's images in worker processes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config.added_structure import AddedStructureConfig
from training.data.augmentation.added_structure import StructureAdder
from training.data.bank_format import SIDE_PX, BankHeader, file_name
from training.data.crops import flags_of
from training.data.images import SourceImage
from training.data.prefetch import Prefetch
from training.ground.progress import progress
from training.ground.whole_file import whole_file

IMAGES_PER_WORKER = 4
"""Least number of images per worker process; for fewer, starting it costs more than it saves."""

FOR_IMAGE = 4
"""Part of the seed of a bank image, which separates its draws from those of batches."""


@dataclass(frozen=True, kw_only=True)
class _ImageMaker:
    """Function that makes and writes one bank image, called with an index into `numbers`.

    Attributes:
        folder: Folder of the bank.
        seed: Seed of the bank.
        crop_side_px: Side of the crops that the amount of added structure refers to.
        numbers: Numbers of the images to make.
        tools: Tool's name and number within the tool, for each image of the bank.
        images: HR images by tool.
        adders: Adders of structure by tool.
    """

    folder: Path
    seed: int
    crop_side_px: int
    numbers: Sequence[int]
    tools: Sequence[tuple[str, int]]
    images: Mapping[str, Sequence[NDArray[np.uint8]]]
    adders: Mapping[str, StructureAdder]

    def __call__(self, place: int) -> int:
        """Make and write the image; return its number."""
        number = self.numbers[place]
        tool, within = self.tools[number]
        sources = self.images[tool]
        rng = np.random.default_rng((self.seed, number, FOR_IMAGE))
        # Every source as often as any other; what is larger than an image shows another window.
        image = _window(sources[within % len(sources)], rng)
        crops = max(1, round(image.size / self.crop_side_px**2))
        planted = self.adders[tool].add(image, rng, crops=crops)
        with whole_file(self.folder / file_name(number), is_durable=True) as part:
            np.save(part, np.stack([planted.pixels, flags_of(planted)]), allow_pickle=False)
        return number


def make_images(
    folder: Path,
    header: BankHeader,
    images: Mapping[str, Sequence[SourceImage]],
    *,
    workers: int,
) -> None:
    """Make the images that are missing in a bank's folder.

    Args:
        folder: Folder of the bank.
        header: Header of the bank.
        images: HR images of each tool by its name.
        workers: Greatest number of processes; 0 for the number of cores.
    """
    content = header.content
    tools = [(tool.name, n) for tool in content.tools or [] for n in range(tool.images)]
    missing = [n for n in range(content.images) if not (folder / file_name(n)).is_file()]
    if not missing:
        return
    pixels = {name: [image.pixels for image in images[name]] for name in images}
    added = AddedStructureConfig.model_validate(content.added)
    with progress("preparing the bank"):
        adders = {
            name: StructureAdder(
                pixels[name],
                added=added,
                degradation=header.degradations[name],
                scale=content.scale,
            )
            for name in images
        }
    maker = _ImageMaker(
        folder=folder,
        seed=content.seed,
        crop_side_px=content.crop_side_px,
        numbers=missing,
        tools=tools,
        images=pixels,
        adders=adders,
    )
    done = content.images - len(missing)
    most = workers or len(os.sched_getaffinity(0))
    workers = min(most, -(-len(missing) // IMAGES_PER_WORKER))
    with progress("making the bank", content.images, unit="image", done=done) as steps:
        for _ in _made(maker, len(missing), workers=workers):
            steps.update()


def _made(maker: _ImageMaker, count: int, *, workers: int) -> Iterator[int]:
    """Yield the numbers of the images as they are made."""
    if workers == 1:
        yield from map(maker, range(count))
        return
    with Prefetch(
        {"image": maker},
        workers=workers,
        first=0,
        last=count,
        label=lambda place: f"bank image {maker.numbers[place]}",
    ) as prefetch:
        yield from (prefetch.take("image", place) for place in range(count))


def _window(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = (min(side, SIDE_PX) for side in image.shape)
    y = int(rng.integers(image.shape[0] - height + 1))
    x = int(rng.integers(image.shape[1] - width + 1))
    return np.ascontiguousarray(image[y : y + height, x : x + width])
