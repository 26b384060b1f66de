"""Pictures of many tiles by internal learning, and their entries in the folder's record."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.data.picture_folder import RECORD, PictureFolder, PicturesError, read_facts
from training.internal_learning.options import Options, make_options
from training.internal_learning.pictures import Tiles, folder_tiles, make_pictures

OPTIONS = make_options("measured", steps=2, crop_px=32, width=2, layers=3, views=1)


def tile(seed: int, sides: tuple[int, int] = (32, 32)) -> NDArray[np.uint8]:
    """Return a tile of noise."""
    return np.random.default_rng(seed).integers(60, 200, sides).astype(np.uint8)


def tiles(*numbers: int) -> Tiles:
    """Return tiles of a split."""
    return {f"test_clean/{number:04d}.png": lambda n=number: tile(n) for number in numbers}


def make(path: Path, wanted: Tiles, options: Options = OPTIONS, *, together: int = 1) -> int:
    """Make pictures as the command does."""
    folder = PictureFolder(path, options.model_dump())
    folder.open()
    return make_pictures(wanted, folder, options, together=together)


def record(path: Path) -> dict[str, Any]:
    """Read the record."""
    return json.loads((path / RECORD).read_text())


def test_pictures_and_their_record_are_written(tmp_path: Path) -> None:
    """The record says with which options and how each picture was made."""
    assert 2 == make(tmp_path, tiles(0, 1))

    with Image.open(tmp_path / "test_clean" / "0001.png") as picture:
        assert ((128, 128), "L") == (picture.size, picture.mode)
    facts = record(tmp_path)
    assert facts["summary"].endswith("short: 0.004 % of the published training, 1 of 4 views")
    assert "it learns at inference time, for minutes a tile" == facts["offline"]
    assert facts["is_short"]
    assert {"steps": 2, "seed": 0, "configuration": "measured"}.items() <= facts["options"].items()
    entry = facts["pictures"]["test_clean/0001.png"]
    assert [2] == entry["steps"]
    assert entry["seconds"] > 0


def test_a_picture_depends_on_no_other(tmp_path: Path) -> None:
    """One folder is made in one go, the other in two: the same pictures, and the same record."""
    make(tmp_path / "a", tiles(0, 1))
    make(tmp_path / "b", tiles(1))
    make(tmp_path / "b", tiles(0, 1))

    for name in ("0000.png", "0001.png"):
        one, same = ((tmp_path / side / "test_clean" / name).read_bytes() for side in "ab")
        assert one == same
    assert list(record(tmp_path / "a")["pictures"]) == list(record(tmp_path / "b")["pictures"])


def test_tiles_of_several_sizes_are_made_together_where_equal(tmp_path: Path) -> None:
    """A folder may mix sizes; each picture has four times its tile's."""
    sizes = [(32, 32), (40, 32), (32, 32)]
    mixed = {f"{n}.png": lambda n=n, size=size: tile(n, size) for n, size in enumerate(sizes)}

    assert 3 == make(tmp_path, mixed, together=8)

    for number, (height, width) in enumerate(sizes):
        with Image.open(tmp_path / f"{number}.png") as picture:
            assert (4 * width, 4 * height) == picture.size


def test_pictures_of_another_tile_are_refused(tmp_path: Path) -> None:
    """A folder of one benchmark is not continued with another of the same names."""
    make(tmp_path, tiles(0))

    with pytest.raises(PicturesError, match=r"0000\.png was made from another source"):
        make(tmp_path, {"test_clean/0000.png": lambda: tile(7)})


def test_tiles_of_a_folder_keep_the_names(tmp_path: Path) -> None:
    """A picture is named as its tile, as PNG; 16-bit files are read through the window."""
    Image.fromarray(tile(0)).save(tmp_path / "a.png")
    Image.fromarray(np.full((32, 32), 2048, np.uint16)).save(tmp_path / "b.tif")

    found = folder_tiles(tmp_path, window=(0, 4096))

    assert ["a.png", "b.png"] == list(found)
    assert np.array_equal(tile(0), found["a.png"]())
    assert 128 == pytest.approx(int(found["b.png"]()[0, 0]), abs=1)
    Image.fromarray(tile(0)).save(tmp_path / "a.bmp")
    with pytest.raises(PicturesError, match=r"would both become the picture a\.png"):
        folder_tiles(tmp_path)


def test_an_unusable_tile_is_named(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    (tmp_path / "a.png").write_bytes(b"no picture")

    with pytest.raises(PicturesError, match=r"the tile .*a\.png cannot be used"):
        folder_tiles(tmp_path)["a.png"]()


def test_a_published_run_is_not_short(tmp_path: Path) -> None:
    """Its record does not mark it."""
    make(tmp_path, {}, make_options("measured", layers=3, width=2))

    facts = read_facts(tmp_path)

    assert facts is not None
    assert not facts.is_short
