"""Reading of given pairs: LR and HR images of the same places, paired by file name.

`semsr align` writes such folders (`training.registration`), and `alignment.json` with the fraction
of a pixel that it leaves between the two images: HR images are never interpolated, so that their
grain stays as it is.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config.pairs import PairsConfig
from training.config.recipe import ConfigError, DataConfig
from training.data.images import MAX_NAMED_FILES, SourceImage, load_images

ALIGNMENT_KIND = "semsr-alignment"
ALIGNMENT_VERSION = 1
_SUFFIX = re.compile(r"\.[^.\[\]]+(?=$|\[)")


@dataclass(frozen=True, kw_only=True)
class SourcePair:
    """One LR image and the HR image of the same place.

    Attributes:
        name: File name without its suffix.
        lr: LR image, (H, W).
        hr: HR image, (s*H, s*W).
        dy: Distance by which the scene in the HR image lies further down than in the LR image
            enlarged by bicubic, HR px.
        dx: The same, further right.
        residual_px: Root mean square of the local shifts that remain, HR px.
    """

    name: str
    lr: SourceImage
    hr: SourceImage
    dy: float = 0.0
    dx: float = 0.0
    residual_px: float = 0.0


def load_pairs(
    configs: Sequence[PairsConfig], data: DataConfig, *, data_root: Path, scale: int
) -> list[SourcePair]:
    """Load given pairs.

    Args:
        configs: Folders of the pairs.
        data: Data section of the recipe, for the window and the rows used of LR images.
        data_root: Folder that the paths are relative to.
        scale: s.

    Raises:
        ImageFileError: A pattern matches nothing, or files are not usable images: all of them.
        ConfigError: Images without a partner, of a wrong size, or an alignment that does not fit.
    """
    return [
        pair
        for config in configs
        for pair in _load_folder(config, data, data_root=data_root, scale=scale)
    ]


def check_disjoint(pairs: Sequence[SourcePair], held_out: Sequence[SourcePair]) -> None:
    """Reject held-out pairs that are trained on.

    Raises:
        ConfigError: An image is in both; the message names all such images.
    """
    used = {image.name for pair in pairs for image in (pair.lr, pair.hr)}
    both = sorted(
        {image.name for pair in held_out for image in (pair.lr, pair.hr) if image.name in used}
    )
    if both:
        raise ConfigError(f"images both in data.pairs and in data.held_out_pairs: {both}")


def _load_folder(
    config: PairsConfig, data: DataConfig, *, data_root: Path, scale: int
) -> list[SourcePair]:
    lr = _by_stem(
        load_images(config.input, root=data_root, max_rows_px=data.max_rows_px, window=data.window)
    )
    hr = _by_stem(load_images(config.target, root=data_root, window=data.window))
    problems = [
        *(f"{lr[name].name} has no HR image of its name" for name in lr if name not in hr),
        *(f"{hr[name].name} has no LR image of its name" for name in hr if name not in lr),
        *(
            f"{image.name} is {_size(image)}; expected {scale} times {_size(lr[name])}, the size "
            f"of {lr[name].name}"
            for name, image in hr.items()
            if name in lr and image.pixels.shape != tuple(scale * n for n in lr[name].pixels.shape)
        ),
    ]
    if problems:
        more = len(problems) - MAX_NAMED_FILES
        lines = [*problems[:MAX_NAMED_FILES], *([f"and {more} more"] if more > 0 else [])]
        head = f"pairs of {config.input} and {config.target}:"
        raise ConfigError("\n  ".join([head, *lines]))
    shifts = _read_alignment(config, data_root, scale=scale)
    unknown = sorted(lr.keys() - shifts.keys()) if shifts is not None else []
    if unknown:
        raise ConfigError(f"{config.alignment} says nothing about the pairs {unknown}")
    return [
        SourcePair(name=name, lr=image, hr=hr[name], **(shifts or {}).get(name, {}))
        for name, image in lr.items()
    ]


def _by_stem(images: Sequence[SourceImage]) -> dict[str, SourceImage]:
    found: dict[str, SourceImage] = {}
    for image in images:
        stem = _SUFFIX.sub("", Path(image.name).name)
        if stem in found:
            raise ConfigError(
                f"{found[stem].name} and {image.name} have one name; expected one image of a name "
                "in each folder of pairs"
            )
        found[stem] = image
    return found


def _size(image: SourceImage) -> str:
    height, width = image.pixels.shape
    return f"{width}x{height} px"


def _read_alignment(
    config: PairsConfig, data_root: Path, *, scale: int
) -> dict[str, dict[str, float]] | None:
    """Return the shifts of each pair by name; None without an alignment file."""
    if config.alignment is None:
        return None
    path = data_root / config.alignment
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the alignment {path} cannot be read: {error}") from error
    known = {"kind": ALIGNMENT_KIND, "format_version": ALIGNMENT_VERSION, "scale": scale}
    found: Mapping[str, Any] = document if isinstance(document, dict) else {}
    for key, expected in known.items():
        if found.get(key) != expected:
            raise ConfigError(f"{path} has {key} {found.get(key)!r}; expected {expected!r}")
    try:
        shifts = {
            str(entry["name"]): {key: float(entry[key]) for key in ("dy", "dx", "residual_px")}
            for entry in found["pairs"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} lacks or misstates {error} of a pair") from error
    if not all(math.isfinite(value) for entry in shifts.values() for value in entry.values()):
        raise ConfigError(f"{path} holds a shift that is not a finite number")
    return shifts
