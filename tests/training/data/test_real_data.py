"""The supervised recipe against the real images, where they are at hand."""

import os
from pathlib import Path

import pytest

from training.config.recipe import find_recipe, load_recipe
from training.data.datasets import load_held_out_tiles, load_training_images

DATA = os.environ.get("SEMSR_DATA", "")
pytestmark = pytest.mark.skipif(
    not (Path(DATA) / "sem" / "starter_x4").is_dir() or not DATA,
    reason="SEMSR_DATA does not name the folder of real images",
)


def test_held_out_and_defect_images_are_not_trained_on() -> None:
    """No pixel of a held-out source or of a file with defects reaches training."""
    data = load_recipe(find_recipe("supervised")).data

    images = load_training_images(data, [data.hr], data_root=Path(DATA))[0]
    tiles = load_held_out_tiles(data, data_root=Path(DATA))

    sources = {image.source for image in images}
    assert sources.isdisjoint(tile.source for tile in tiles)
    assert sources.isdisjoint(data.excluded_sources)
    assert len({tile.source for tile in tiles}) >= 4
    assert all("test_" not in image.name for image in images)
    assert all(image.pixels.shape[0] <= 1370 for image in images)
