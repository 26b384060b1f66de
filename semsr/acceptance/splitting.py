"""Stage `split`: training and held-out images, parted by source and never by tile.

Images of one file, images that share pixels, and images of one source by `--sources` stay together.
The images are written as 8-bit PNG, so that the training reads what was checked, even if the
folders change meanwhile.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from semsr.acceptance.checking import read_side
from semsr.acceptance.duplicates import groups, pixel_digest
from semsr.acceptance.findings import Finding, ImagesRefusedError
from semsr.acceptance.layout import PARTS, SIDES, Layout, Settings, read_json, write_json
from semsr.acceptance.own_images import OwnImage, names, png_name, read_own
from semsr.progress import tracked
from training.ground.whole_file import whole_file

MIN_HELD_OUT = 2
MIN_TRAINING = 4


class SourcesError(ValueError):
    """The file of `--sources` cannot be used."""


def split(settings: Settings, layout: Layout) -> list[Path]:
    """Part the images, and write them to `data/` and the split to `split.json`.

    Returns:
        The written files.

    Raises:
        ImagesRefusedError: There are too few sources to hold some out.
        SourcesError: The file of `--sources` cannot be read, or names unknown files.
    """
    checked = read_json(layout.check)
    of_pairs = _pair_digests(settings)
    written: list[Path] = []
    sides = {}
    for number, side in enumerate(SIDES):
        images, _ = read_side(settings, side)
        gone = set(checked["left_out"][side])
        in_pairs = [image.name for image in images if pixel_digest(image.pixels) in of_pairs]
        kept = [image for image in images if image.name not in {*gone, *in_pairs}]
        sources = _sources(settings, kept, checked["one_capture"][side], side)
        held_out = draw_held_out(
            sources, share=settings.held_out, seed=settings.seed + number, side=side.upper()
        )
        _check_names(kept, side.upper())
        parts = {
            part: [image for image in kept if (image.name in held_out) == (part == "held_out")]
            for part in PARTS
        }
        for part, several in parts.items():
            what = f"writing {part.replace('_', '-')} {side.upper()}"
            for image in tracked(several, what, unit="image"):
                path = layout.data / part / side / png_name(image)
                with whole_file(path) as temporary:
                    Image.fromarray(image.pixels).save(temporary, compress_level=1)
                written.append(path)
        sides[side] = {
            **{part: names(several) for part, several in parts.items()},
            "files": {image.name: png_name(image) for image in kept},
            "sources": sources,
            "left_out": sorted(gone),
            "in_pairs": in_pairs,
        }
    _drop_others(layout, written)
    write_json(layout.split, "split", {"sides": sides})
    return [layout.split, *written]


def draw_held_out(
    sources: Mapping[str, str], *, share: float, seed: int, side: str = "LR"
) -> set[str]:
    """Draw the sources that are held out, and return their images.

    Args:
        sources: Image to its source.
        share: Share of the images to hold out; at least `MIN_HELD_OUT` images are.
        seed: Seed of the draw.
        side: Name of the folder, for the error.

    Raises:
        ImagesRefusedError: Fewer than `MIN_TRAINING` images would be left to train on.
    """
    members: dict[str, list[str]] = {}
    for image, source in sources.items():
        members.setdefault(source, []).append(image)
    wanted = max(MIN_HELD_OUT, round(share * len(sources)))
    held_out: set[str] = set()
    order = sorted(members)
    for index in np.random.default_rng(seed).permutation(len(order)):
        several = members[order[int(index)]]
        if len(held_out) >= wanted:
            break
        # A source larger than what is wanted stays in training, where another one will do.
        if len(held_out) + len(several) > max(2 * wanted, MIN_HELD_OUT):
            continue
        held_out |= set(several)
    if len(held_out) < MIN_HELD_OUT or len(sources) - len(held_out) < MIN_TRAINING:
        raise ImagesRefusedError(
            f"{side} has {len(sources)} images of {len(members)} sources, of which "
            f"{len(held_out)} can be held out; expected at least {MIN_HELD_OUT} images held out "
            f"and {MIN_TRAINING} left for training"
        )
    return held_out


def read_sources(path: Path) -> dict[str, str]:
    """Read a CSV with the columns `file` and `src`: file name to its source.

    Raises:
        SourcesError: It is not such a CSV.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourcesError(f"--sources: {path} is not CSV: {error}") from error
    if not rows or not {"file", "src"} <= rows[0].keys():
        raise SourcesError(f"--sources: {path} must have the columns file and src")
    return {Path(row["file"]).name: row["src"] for row in rows if row["file"] and row["src"]}


def _sources(
    settings: Settings, images: Sequence[OwnImage], pairs: Sequence[Sequence[str]], side: str
) -> dict[str, str]:
    """Return the source of each image."""
    given = {} if settings.sources is None else read_sources(settings.sources)
    sources = {image.name: given.get(image.file, image.file) for image in images}
    by_name = {image.name: image for image in images}
    if given and not any(image.file in given for image in images):
        raise SourcesError(
            f"--sources: {settings.sources} names no file of the folder {side.upper()}"
        )
    linked = [
        (by_name[first], by_name[second])
        for first, second in pairs
        if first in by_name and second in by_name
    ]
    firsts = {source: name for name, source in reversed(sources.items())}
    linked += [(by_name[firsts[source]], by_name[name]) for name, source in sources.items()]
    for several in groups(linked, images):
        source = sources[several[0].name]
        sources |= {image.name: source for image in several}
    return sources


def _pair_digests(settings: Settings) -> set[str]:
    """Return the digests of the pictures of given pairs, which must not be trained on."""
    if settings.pairs is None:
        return set()
    found = set()
    for folder in dict.fromkeys(settings.pairs):
        images, _ = read_own(folder, "pairs", window=settings.window, max_rows=None)
        found |= {pixel_digest(image.pixels) for image in images}
    return found


def split_findings(layout: Layout) -> list[Finding]:
    """Return what the split says about the images."""
    found = []
    for side, facts in read_json(layout.split)["sides"].items():
        if facts["in_pairs"]:
            found.append(
                Finding(
                    level="warning",
                    text=f"{side.upper()} has images that are in --pairs too; they are left out "
                    "of training",
                    files=tuple(facts["in_pairs"]),
                )
            )
    return found


def _check_names(images: Sequence[OwnImage], side: str) -> None:
    """Refuse two images whose copies would have one name, such as `a.tif` and `a.tif.png`."""
    seen: dict[str, str] = {}
    for image in images:
        if (first := seen.setdefault(png_name(image), image.name)) != image.name:
            raise ImagesRefusedError(
                f"{side}: {first} and {image.name} would both become {png_name(image)}; rename one"
            )


def _drop_others(layout: Layout, written: Sequence[Path]) -> None:
    """Remove what a killed start left in `data/`: the training takes whole folders."""
    known = set(written)
    for path in layout.data.rglob("*"):
        if path.is_file() and path not in known:
            path.unlink()
