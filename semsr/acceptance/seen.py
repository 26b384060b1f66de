"""Held-out images that start weights were trained on already, known by their names.

Such images cannot test a model: the report says so. A checkpoint names its training images, and
those of the run that it started from, but holds no digests of them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.checkpoint import read_info
from semsr.acceptance.layout import SIDES, Layout, Settings, read_json


def seen_images(path: Path, settings: Settings, layout: Layout) -> list[str]:
    """Return the held-out images whose names are among a checkpoint's training images.

    An image is known by its file in a folder of the same name, or by its source (`--sources`).

    Args:
        path: Checkpoint.
        settings: Options.
        layout: Folder with a split.
    """
    trained = list(_trained_on(read_info(path).training))
    sides = read_json(layout.split)["sides"]
    seen = []
    for side, folder in zip(SIDES, (settings.lr, settings.hr), strict=True):
        for name in sides[side]["held_out"]:
            source = sides[side]["sources"][name]
            # A file name alone would be found in folders of other tools.
            ends = {f"{folder.resolve().name}/{name}", *([source] if "/" in source else [])}
            if any(f"/{image}".endswith(f"/{end}") for image in trained for end in ends):
                seen.append(f"{side.upper()} {name}")
    return seen


def _trained_on(training: Mapping[str, Any]) -> Iterator[str]:
    data, start = training.get("data"), training.get("started_from")
    if isinstance(data, Mapping) and isinstance(data.get("images"), list):
        yield from map(str, data["images"])
    if isinstance(start, Mapping) and isinstance(start.get("training"), Mapping):
        yield from _trained_on(start["training"])
