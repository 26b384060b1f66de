"""Header of a bank (`training.data.bank`), and the check that a bank fits a recipe.

This module needs neither the images nor torch, so that a command can reject a folder immediately.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from training.config.added_structure import AddedStructureConfig
from training.config.degradation import DegradationConfig, crop_side_px
from training.config.recipe import ConfigError, Recipe
from training.config.terms import PairedConfig
from training.ground.whole_file import write_whole_text

FORMAT_VERSION = 1
SIDE_PX = 960
"""Greatest side of a bank image; of larger HR images, a random window of this size is used."""

HEADER = "bank.json"


class BankError(ValueError):
    """The bank has another format version, does not fit the recipe, or is damaged."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BankTool(_Record):
    """One tool in a bank's content: degradation ranges, and the digest of its HR images."""

    name: str
    images: int
    degradation: DegradationConfig | Literal["estimate"]
    sources: int
    sources_sha256: str


class BankContent(_Record):
    """All parameters that determine a bank's images; a bank fits a recipe if they are equal."""

    images: int
    seed: int
    side_px: int
    scale: int
    crop_side_px: int
    added: dict[str, Any]
    tools: list[BankTool] | None

    def digest(self) -> str:
        """Return the SHA-256 of the content, 64 hexadecimal digits."""
        return digest_of(self.model_dump(mode="json"))


class BankImage(_Record):
    """One image of a bank."""

    file: str
    tool: str
    height: int
    width: int
    crc32: int


class BankHeader(_Record):
    """Content of `bank.json`; `images` is None until all of them are made.

    `degradations` holds each tool's ranges, given or estimated, that determine the visibility of
    added structure. A resumed bank uses the same ranges.
    """

    format_version: int
    digest: str
    content: BankContent
    degradations: dict[str, DegradationConfig]
    images: list[BankImage] | None = None


def added_structure(recipe: Recipe) -> AddedStructureConfig:
    """Return the recipe's settings of the structure added to HR crops.

    Raises:
        ConfigError: The recipe uses no pseudo-pairs with added structure, or uses patched copies.
    """
    method = recipe.method
    paired: PairedConfig | None = getattr(method, "paired", None)
    if paired is None or not round(recipe.optimization.batch_size * paired.share):
        raise ConfigError(
            f"a bank holds planted HR images, and {recipe.name} trains on none (method "
            f"{method.name}, no pseudo-pairs with added structure); train without --bank"
        )
    copies = getattr(method, "patched_copies", None)
    if copies is not None and copies.num_copies:
        raise ConfigError(
            "a bank cannot be combined with method.patched_copies; set its num_copies to 0 or "
            "train without --bank"
        )
    fields = {name: getattr(paired, name) for name in AddedStructureConfig.model_fields}
    return AddedStructureConfig.model_construct(**fields)


def bank_content(recipe: Recipe, *, tools: list[BankTool] | None = None) -> BankContent:
    """Return the content that a recipe's bank must have.

    Args:
        recipe: Resolved recipe.
        tools: Facts that decide each tool's images; None leaves them out.

    Raises:
        ConfigError: The recipe cannot use a bank.
    """
    options = recipe.optimization
    scale = recipe.scale
    return BankContent(
        images=options.bank_images,
        seed=options.bank_seed,
        side_px=SIDE_PX,
        scale=scale,
        crop_side_px=crop_side_px(options.crop_px, scale),
        added=added_structure(recipe).model_dump(mode="json"),
        tools=tools,
    )


def check_bank(folder: Path, content: BankContent) -> None:
    """Reject a folder that cannot be the bank; a missing or empty folder is accepted.

    Args:
        folder: Folder of the bank.
        content: Content that it must hold; `tools` may be left out.

    Raises:
        BankError: The folder holds other files, or a bank of another format version or recipe.
    """
    if folder.exists() and not folder.is_dir():
        raise BankError(f"{folder} is a file, expected a folder for the bank")
    if not (folder / HEADER).is_file():
        others = [path.name for path in folder.glob("*")] if folder.exists() else []
        if any(not name.startswith(".") for name in others):
            raise BankError(
                f"{folder} holds no {HEADER} but other files ({sorted(others)[0]}); expected a "
                "bank or an empty folder"
            )
        return
    check_fit(folder, read_header(folder), content)


def read_header(folder: Path) -> BankHeader:
    """Read the header of a bank.

    Raises:
        BankError: The header is damaged or has another format version.
    """
    path = folder / HEADER
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BankError(f"{path} is not JSON: {error}") from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise BankError(
            f"{folder} is a bank of format version {version!r}; this version of semsr reads "
            f"{FORMAT_VERSION}"
        )
    try:
        header = BankHeader.model_validate(document)
    except ValidationError as error:
        raise BankError(f"{path} is damaged: {error}") from error
    if header.digest != header.content.digest():
        raise BankError(f"{path} is damaged: its content does not have the digest that it names")
    return header


def write_header(folder: Path, header: BankHeader) -> None:
    """Write the header of a bank atomically."""
    write_whole_text(folder / HEADER, header.model_dump_json(indent=1) + "\n")


def check_fit(folder: Path, header: BankHeader, content: BankContent) -> None:
    """Reject a bank whose content differs; `tools` of `None` are not compared."""
    found, wanted = header.content.model_dump(mode="json"), content.model_dump(mode="json")
    if wanted["tools"] is None:
        wanted["tools"] = found["tools"]
    if found != wanted:
        differences = "; ".join(_differences(found, wanted))
        raise BankError(
            f"the bank in {folder} does not fit the recipe: {differences}; name another folder, "
            "or remove this one to have the bank made again"
        )


def _differences(found: Any, wanted: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    """Describe each entry in which two contents differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**found, **wanted}:
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}".strip("."))
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for place, pair in enumerate(zip(found, wanted, strict=True)):
            yield from _differences(*pair, f"{name}[{place}]")
    elif found != wanted:
        yield f"{name} is {found}, the recipe's {wanted}"


def file_name(number: int) -> str:
    """Return the file name of an image of a bank, by its number."""
    return f"{number:06d}.npy"


def digest_of(document: Any) -> str:  # noqa: ANN401 - JSON
    """Return the SHA-256 of a JSON document's canonical form, 64 hexadecimal digits."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
