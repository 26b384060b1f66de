"""Bank: HR images with planted structure, made once and used by many training runs.

`semsr train … --bank DIR` uses a bank. The folder holds one `.npy` file per image, (2, H, W) uint8
with grey levels and flags (`IS_PLANTED`, `IS_FOREIGN`), and the header `bank.json`
(`training.data.bank_format`). Image n depends on the bank's content and n alone, so an interrupted
bank can be completed later. Crops, turns and the degradation are drawn at every use. Reading a bank
unpickles nothing.
"""

import fcntl
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from training.config.degradation import DegradationConfig
from training.config.recipe import ConfigError, Recipe
from training.data.augmentation.added_structure import Planted
from training.data.bank_format import (
    FORMAT_VERSION,
    HEADER,
    BankContent,
    BankError,
    BankHeader,
    BankImage,
    BankTool,
    bank_content,
    check_bank,
    check_fit,
    digest_of,
    file_name,
    read_header,
    write_header,
)
from training.data.bank_maker import make_images
from training.data.crops import IS_FOREIGN, IS_PLANTED, draw_crop, draw_turn, turned
from training.data.datasets import ToolImages
from training.data.images import SourceImage
from training.ground.progress import progress

MAKE_AGAIN = "remove the bank's folder to have it made again"


class BankCrops:
    """`CropSource` that cuts crops out of the bank's images of one tool.

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
    """A complete bank.

    Attributes:
        folder: Folder of the bank.
        header: Header of the bank.
    """

    def __init__(self, folder: Path, header: BankHeader) -> None:
        self.folder = folder
        self.header = header

    def crops(self, tool: str) -> BankCrops:
        """Return the source of one tool's crops; the first tool has the name ''."""
        images = self.header.images or []
        return BankCrops(self.folder, [image.file for image in images if image.tool == tool])

    def describe(self) -> dict[str, Any]:
        """Describe the bank for a checkpoint: number of images, seed, and the header's digest."""
        content = self.header.content
        files = digest_of(self.header.model_dump(mode="json"))
        return {"images": content.images, "seed": content.seed, "sha256": files}


def content_of(recipe: Recipe, tools: Sequence[ToolImages]) -> BankContent:
    """Return the content of a recipe's bank, including the digests of the tools' images.

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
    """Open a bank and check every file; missing images are made first.

    If several runs start with the same folder, one makes the bank and the others wait.

    Args:
        folder: Folder of the bank, made where absent.
        content: Content that the bank must hold.
        images: HR images of each tool by its name.
        degradations: Ranges of each tool by its name.
        workers: Greatest number of processes that make the images; 0 for the number of cores.

    Raises:
        BankError: The folder cannot serve (`check_bank`), or a file is missing or damaged.
        WorkerError: An image could not be made; the message names it.
    """
    check_bank(folder, content)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        header = _begin(folder, content, degradations)
        if header.images is None:
            make_images(folder, header, images, workers=workers)
            header = _complete(folder, header)
    _check_files(folder, header)
    return Bank(folder, header)


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


def _complete(folder: Path, header: BankHeader) -> BankHeader:
    """Write the header with the list of images, after all of them are made."""
    tools = (tool.name for tool in header.content.tools or [] for _ in range(tool.images))
    made = [_facts(folder, number, tool) for number, tool in enumerate(tools)]
    header = header.model_copy(update={"images": made})
    write_header(folder, header)
    return header


def _check_files(folder: Path, header: BankHeader) -> None:
    """Compare every image with its header entry; this also loads the files into the page cache."""
    images = header.images or []
    with progress("checking the bank", len(images), unit="image") as steps:
        for number, image in enumerate(images):
            if _facts(folder, number, image.tool) != image:
                raise BankError(f"{folder / image.file} is damaged; {MAKE_AGAIN}")
            steps.update()


def _facts(folder: Path, number: int, tool: str) -> BankImage:
    path = folder / file_name(number)
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
    """Hold the folder's lock, so that one run at a time makes the bank.

    The kernel releases the lock of a killed run.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress("waiting for the bank that another run makes"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _counts(shares: Sequence[float], images: int) -> list[int]:
    """Return the number of images of each tool, at least 1, by the largest-remainder method."""
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


def _pixels_sha256(images: Sequence[SourceImage]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.name} {image.pixels.shape}\n".encode())
        digest.update(image.pixels.tobytes())
    return digest.hexdigest()
