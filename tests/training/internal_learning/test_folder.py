"""The folder of finished pictures: it is resumed by picture, and never mixed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.internal_learning.folder import (
    RECORD,
    FolderError,
    Job,
    PictureFolder,
    folder_jobs,
    is_short,
    make_pictures,
    read_record,
)
from training.internal_learning.options import Options, make_options

OPTIONS = make_options("measured", steps=2, crop_px=32, width=2, layers=3, views=1)

OTHER_TOOL = json.dumps({"kind": "semsr-pictures", "format_version": 1, "is_short": True})


def tile(seed: int, sides: tuple[int, int] = (32, 32)) -> NDArray[np.uint8]:
    """Return a tile of noise."""
    return np.random.default_rng(seed).integers(60, 200, sides).astype(np.uint8)


def jobs(count: int = 2) -> list[Job]:
    """Return pictures of a split."""
    return [
        Job(name=f"test_clean/{number:04d}.png", read=lambda number=number: tile(number))
        for number in range(count)
    ]


def make(
    path: Path,
    wanted: list[Job],
    options: Options = OPTIONS,
    *,
    overwrite: bool = False,
    together: int = 1,
) -> int:
    """Make pictures as the command does."""
    folder = PictureFolder(path, options)
    folder.open(overwrite=overwrite)
    return make_pictures(wanted, folder, options, together=together)


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return a function that changes the section of a folder's record."""

    def edit(path: Path) -> None:
        facts = json.loads((path / RECORD).read_text())
        change(facts["internal_sr"])
        (path / RECORD).write_text(json.dumps(facts))

    return edit


def test_pictures_and_their_record_are_written(tmp_path: Path) -> None:
    """The record says with which options and how each picture was made."""
    assert 2 == make(tmp_path, jobs())

    with Image.open(tmp_path / "test_clean" / "0001.png") as picture:
        assert ((128, 128), "L") == (picture.size, picture.mode)
    facts = json.loads((tmp_path / RECORD).read_text())
    assert facts["summary"].endswith("short: 0.004 % of the published training, 1 of 4 views")
    assert "it learns at inference time, for minutes a tile" == facts["offline"]
    assert is_short(tmp_path)
    record = read_record(tmp_path)
    assert {"steps": 2, "seed": 0, "configuration": "measured"}.items() <= record["options"].items()
    entry = record["pictures"]["test_clean/0001.png"]
    assert [2] == entry["steps"]
    assert entry["seconds"] > 0
    assert {"test_clean", RECORD} == {path.name for path in tmp_path.iterdir()}


def test_finished_pictures_are_skipped(tmp_path: Path) -> None:
    """After a stop only what is missing is made: without a file, without an entry, or new."""
    make(tmp_path, jobs(3))
    old = (tmp_path / "test_clean" / "0000.png").stat().st_mtime_ns
    (tmp_path / "test_clean" / "0001.png").unlink()
    edited(lambda record: record["pictures"].pop("test_clean/0002.png"))(tmp_path)

    assert 3 == make(tmp_path, jobs(4))

    assert old == (tmp_path / "test_clean" / "0000.png").stat().st_mtime_ns
    assert 0 == make(tmp_path, jobs(4))


def test_a_picture_depends_on_no_other(tmp_path: Path) -> None:
    """One folder is made in one go, the other in two: the same pictures, and the same record."""
    make(tmp_path / "a", jobs(2))
    make(tmp_path / "b", jobs(2)[1:])
    make(tmp_path / "b", jobs(2))

    for name in ("0000.png", "0001.png"):
        one, same = ((tmp_path / side / "test_clean" / name).read_bytes() for side in "ab")
        assert one == same
    assert list(read_record(tmp_path / "a")["pictures"]) == list(
        read_record(tmp_path / "b")["pictures"]
    )


def test_tiles_of_several_sizes_are_made_together_where_equal(tmp_path: Path) -> None:
    """A folder may mix sizes; each picture has four times its tile's."""
    sizes = [(32, 32), (40, 32), (32, 32)]
    mixed = [
        Job(name=f"{number}.png", read=lambda number=number, size=size: tile(number, size))
        for number, size in enumerate(sizes)
    ]

    assert 3 == make(tmp_path, mixed, together=8)

    for number, (height, width) in enumerate(sizes):
        with Image.open(tmp_path / f"{number}.png") as picture:
            assert (4 * width, 4 * height) == picture.size


def test_other_options_are_refused_and_can_be_overwritten(tmp_path: Path) -> None:
    """The error names what differs; overwriting deletes the other options' pictures."""
    make(tmp_path, jobs(3))
    other = OPTIONS.model_copy(update={"seed": 5})

    with pytest.raises(FolderError, match="pictures of other options: seed 0, now 5"):
        make(tmp_path, jobs(1), other)
    assert 3 == len(list((tmp_path / "test_clean").iterdir()))

    assert 1 == make(tmp_path, jobs(1), other, overwrite=True)
    assert ["0000.png"] == [path.name for path in (tmp_path / "test_clean").iterdir()]
    assert 5 == read_record(tmp_path)["options"]["seed"]
    assert 1 == make(tmp_path, jobs(1), other, overwrite=True)


def test_pictures_of_another_tile_are_refused(tmp_path: Path) -> None:
    """A folder of one benchmark is not continued with another of the same names."""
    make(tmp_path, jobs(1))
    changed = [Job(name="test_clean/0000.png", read=lambda: tile(7))]

    with pytest.raises(FolderError, match=r"0000\.png was made from another tile"):
        make(tmp_path, changed)
    assert 1 == make(tmp_path, changed, overwrite=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: (path / RECORD).write_text("{"), "is damaged"),
        (lambda path: (path / RECORD).write_text("[]"), "kind and format version None"),
        (lambda path: (path / RECORD).write_text(OTHER_TOOL), "has no section internal_sr"),
        (edited(lambda record: record.pop("pictures")), "is damaged"),
        (edited(lambda record: record.update(format_version=2)), "format version 2"),
        (lambda path: (path / RECORD).rename(path / "other.json"), "is not empty and has no"),
    ],
    ids=["no JSON", "no object", "other tool", "no pictures", "later version", "no record"],
)
def test_a_folder_that_cannot_be_continued_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    """Neither damaged nor foreign folders are written to."""
    make(tmp_path, jobs(1))
    damage(tmp_path)

    with pytest.raises(FolderError, match=words):
        make(tmp_path, jobs(1))


def test_jobs_of_a_folder_keep_the_names(tmp_path: Path) -> None:
    """A picture is named as its tile, as PNG; 16-bit files are read through the window."""
    Image.fromarray(tile(0)).save(tmp_path / "a.png")
    Image.fromarray(np.full((32, 32), 2048, np.uint16)).save(tmp_path / "b.tif")

    first, second = folder_jobs(tmp_path, window=(0, 4096))

    assert ("a.png", "b.png") == (first.name, second.name)
    assert np.array_equal(tile(0), first.read())
    assert 128 == pytest.approx(int(second.read()[0, 0]), abs=1)
    Image.fromarray(tile(0)).save(tmp_path / "a.bmp")
    with pytest.raises(FolderError, match="are named a; expected one picture"):
        folder_jobs(tmp_path)


def test_an_unusable_tile_is_named(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    (tmp_path / "a.png").write_bytes(b"no picture")

    with pytest.raises(FolderError, match=r"the tile .*a\.png cannot be used"):
        folder_jobs(tmp_path)[0].read()


def test_other_folders_are_never_short(tmp_path: Path) -> None:
    """Without a record, pictures are another tool's; a published run is not short either."""
    assert not is_short(tmp_path)
    full = make_options("measured", layers=3, width=2)
    folder = PictureFolder(tmp_path, full)
    folder.open()
    folder.begin()

    assert not is_short(tmp_path)
    (tmp_path / RECORD).write_text(OTHER_TOOL)
    assert is_short(tmp_path)
