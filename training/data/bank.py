"""A bank: planted HR images, made once by worker processes and drawn from during training.

`semsr train … --bank DIR`. A folder of one `.npy` file an image, (2, H, W) uint8 (grey levels;
flags `IS_PLANTED`, `IS_FOREIGN`), and `bank.json`: format version, all that decides the content,
its digest, and for each image its file, tool, size and CRC-32 (`training.data.bank_format`). Image
number n is a function of the seed and n, so the making can be interrupted and resumed. Crops, turns
and the degradation with its noise are drawn at every use. Nothing is unpickled.
"""

import fcntl
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.degradation import DegradationConfig
from training.config.method import AddedStructureConfig
from training.config.recipe import ConfigError, Recipe
from training.data.augmentation.added_structure import Planted, StructureAdder
from training.data.bank_format import (
    FORMAT_VERSION,
    HEADER,
    SIDE_PX,
    BankContent,
    BankError,
    BankHeader,
    BankImage,
    BankTool,
    bank_content,
    check_bank,
    check_fit,
    digest_of,
    read_header,
    write_header,
)
from training.data.datasets import ToolImages
from training.data.images import SourceImage
from training.data.prefetch import Prefetch
from training.data.samplers import (
    IS_FOREIGN,
    IS_PLANTED,
    draw_crop,
    draw_turn,
    flags_of,
    turned,
)
from training.ground.progress import progress
from training.ground.whole_file import whole_file

MAKE_AGAIN = "remove the bank's folder to have it made again"
IMAGES_PER_WORKER = 4
"""Images below which another worker process would start more slowly than it helps."""

FOR_IMAGE = 4
"""Purpose of the draws of an image, apart from those of batches."""


class BankCrops:
    """Crops of the bank's images of one tool; a `CropSource`. Files are opened at each draw.

    Args:
        folder: Folder of the bank.
        files: Names of the tool's images in it.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.folder = folder
        self.files = list(files)

    def crop(self, rng: np.random.Generator, *, side_px: int, candidates: int) -> Planted:
        """See `CropSource`."""
        path = self.folder / self.files[int(rng.integers(len(self.files)))]
        image = np.load(path, mmap_mode="r", allow_pickle=False)
        drawn = [np.asarray(draw_crop(image, side_px, rng)) for _ in range(candidates)]
        crop = max(drawn, key=lambda crop: crop[0].std()) if len(drawn) > 1 else drawn[0]
        pixels, flags = np.ascontiguousarray(turned(crop, draw_turn(rng)))
        return Planted(
            pixels=pixels, mask=(flags & IS_PLANTED) > 0, foreign=(flags & IS_FOREIGN) > 0
        )


class Bank:
    """A whole bank.

    Attributes:
        folder: Its folder.
        header: Its header.
    """

    def __init__(self, folder: Path, header: BankHeader) -> None:
        self.folder = folder
        self.header = header

    def crops(self, tool: str) -> BankCrops:
        """Return the source of one tool's crops; the first tool has the name ''."""
        images = self.header.images or []
        return BankCrops(self.folder, [image.file for image in images if image.tool == tool])

    def describe(self) -> dict[str, Any]:
        """Describe the bank for a checkpoint: number of images, seed, digests of plan and files."""
        content = self.header.content
        files = digest_of(self.header.model_dump(mode="json"))
        return {"images": content.images, "seed": content.seed, "sha256": files}


def content_of(recipe: Recipe, tools: Sequence[ToolImages]) -> BankContent:
    """Return what a recipe's bank must hold, with the images of its tools.

    Raises:
        ConfigError: The recipe cannot use a bank, or has more tools than bank images.
    """
    counts = _counts([tool.share for tool in tools], recipe.optimization.bank_images)
    entries = [
        BankTool(
            name=tool.name,
            images=count,
            degradation=tool.degradation,
            sources=len(tool.hr),
            sources_sha256=_pixels_sha256(tool.hr),
        )
        for tool, count in zip(tools, counts, strict=True)
    ]
    return bank_content(recipe, tools=entries)


def open_bank(
    folder: Path,
    content: BankContent,
    *,
    images: Mapping[str, Sequence[SourceImage]],
    degradations: Mapping[str, DegradationConfig],
    workers: int = 0,
) -> Bank:
    """Open a bank and check every file; make it first, or finish it, where it is not whole.

    Of several runs that begin with the same folder, one makes the bank and the others wait.

    Args:
        folder: Folder of the bank, made where absent.
        content: What it must hold.
        images: HR images of each tool by its name.
        degradations: Ranges of each tool by its name.
        workers: Greatest number of processes that make the images; 0 for the number of cores.

    Raises:
        BankError: See `check_bank`; or a file is missing or damaged.
        WorkerError: An image could not be made; the message names it.
    """
    check_bank(folder, content)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        header = _begin(folder, content, degradations)
        if header.images is None:
            header = _make(folder, header, images, workers=workers)
    _check_files(folder, header)
    return Bank(folder, header)


@dataclass(frozen=True, kw_only=True)
class _ImageMaker:
    """Makes and writes one image of a bank in a worker process; called with a place in `numbers`.

    Attributes:
        folder: Folder of the bank.
        seed: Seed of the bank.
        crop_side_px: Side of the crops that the amount of added structure refers to.
        numbers: Numbers of the images to make.
        tools: For each image of the bank its tool's name and its number within the tool.
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
        """Write the image; returns its number."""
        number = self.numbers[place]
        tool, within = self.tools[number]
        sources = self.images[tool]
        rng = np.random.default_rng((self.seed, number, FOR_IMAGE))
        # Every source as often as any other; what is larger than an image shows another window.
        image = _window(sources[within % len(sources)], rng)
        crops = max(1, round(image.size / self.crop_side_px**2))
        planted = self.adders[tool].add(image, rng, crops=crops)
        with whole_file(self.folder / _file_name(number), is_durable=True) as part:
            np.save(part, np.stack([planted.pixels, flags_of(planted)]), allow_pickle=False)
        return number


def _make(
    folder: Path,
    header: BankHeader,
    images: Mapping[str, Sequence[SourceImage]],
    *,
    workers: int,
) -> BankHeader:
    """Make the images that are not there yet, then write the whole header."""
    content = header.content
    tools = [(tool.name, n) for tool in content.tools or [] for n in range(tool.images)]
    missing = [n for n in range(content.images) if not (folder / _file_name(n)).is_file()]
    if missing:
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
    made = [_facts(folder, number, tool) for number, (tool, _) in enumerate(tools)]
    header = header.model_copy(update={"images": made})
    write_header(folder, header)
    return header


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


def _begin(
    folder: Path, content: BankContent, degradations: Mapping[str, DegradationConfig]
) -> BankHeader:
    """Read the header, or write the first one of a new bank."""
    if (folder / HEADER).is_file():
        header = read_header(folder)
        check_fit(folder, header, content)  # another run may have begun it since the last check
        return header
    header = BankHeader(
        format_version=FORMAT_VERSION,
        digest=content.digest(),
        content=content,
        degradations=dict(degradations),
    )
    write_header(folder, header)
    return header


def _check_files(folder: Path, header: BankHeader) -> None:
    """Read every image once: damage is found here, and training finds the files in memory."""
    images = header.images or []
    with progress("checking the bank", len(images), unit="image") as steps:
        for number, image in enumerate(images):
            if _facts(folder, number, image.tool) != image:
                raise BankError(f"{folder / image.file} is damaged; {MAKE_AGAIN}")
            steps.update()


def _facts(folder: Path, number: int, tool: str) -> BankImage:
    path = folder / _file_name(number)
    try:
        image = np.load(path, mmap_mode="r", allow_pickle=False)
        content = path.read_bytes()
    except FileNotFoundError:
        raise BankError(f"{path} is missing; {MAKE_AGAIN}") from None
    except (ValueError, EOFError) as error:
        raise BankError(f"{path} is damaged ({error}); {MAKE_AGAIN}") from error
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != 2:
        raise BankError(
            f"{path} holds {image.shape} {image.dtype}, expected (2, H, W) uint8; {MAKE_AGAIN}"
        )
    return BankImage(
        file=path.name,
        tool=tool,
        height=image.shape[1],
        width=image.shape[2],
        crc32=zlib.crc32(content),
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs from making the same bank meanwhile; a killed run gives way."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress("waiting for the bank that another run makes"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _counts(shares: Sequence[float], images: int) -> list[int]:
    """Share images out by tool, at least one each; the largest remainders are rounded up."""
    if images < len(shares):
        raise ConfigError(
            f"optimization.bank_images is {images}, expected at least one for each of the "
            f"{len(shares)} tools"
        )
    exact = [share * (images - len(shares)) for share in shares]
    counts = [1 + int(part) for part in exact]
    by_remainder = sorted(range(len(shares)), key=lambda n: int(exact[n]) - exact[n])
    for place in by_remainder[: images - sum(counts)]:
        counts[place] += 1
    return counts


def _window(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = (min(side, SIDE_PX) for side in image.shape)
    y = int(rng.integers(image.shape[0] - height + 1))
    x = int(rng.integers(image.shape[1] - width + 1))
    return np.ascontiguousarray(image[y : y + height, x : x + width])


def _file_name(number: int) -> str:
    return f"{number:06d}.npy"


def _pixels_sha256(images: Sequence[SourceImage]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.name} {image.pixels.shape}\n".encode())
        digest.update(image.pixels.tobytes())
    return digest.hexdigest()
