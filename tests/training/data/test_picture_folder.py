"""The folder of finished pictures: it is continued by picture, and never mixed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.data.picture_folder import (
    RECORD,
    PictureFacts,
    PictureFolder,
    PicturesError,
    picture_names,
    read_facts,
    source_digest,
)

OPTIONS = {"made_by": "this test", "seed": 0, "scales": (2, 4)}
FACTS = PictureFacts(summary="noise", is_short=True, trained_on="none", offline="it is noise")
NAMES = tuple(f"test_clean/{number:04d}.png" for number in range(3))


def picture(seed: int) -> NDArray[np.uint8]:
    """Return a picture of noise."""
    return np.random.default_rng(seed).integers(0, 256, (6, 9), dtype=np.uint8)


def make(
    path: Path, names: tuple[str, ...] = NAMES, *, overwrite: bool = False, **options: Any
) -> list[str]:
    """Make pictures as a command does; returns the names of the new ones."""
    folder = PictureFolder(path, {**OPTIONS, **options})
    folder.open(overwrite=overwrite)
    missing = folder.begin(FACTS, {name: f"a {name}" for name in names})
    for name in missing:
        folder.save(name, picture(int(name[-8:-4])), pixel_nm=500.0, seconds=1.5)
    return missing


def record(path: Path) -> dict[str, Any]:
    """Read the record."""
    return json.loads((path / RECORD).read_text())


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return a function that changes a folder's record."""

    def edit(path: Path) -> None:
        document = record(path)
        change(document)
        (path / RECORD).write_text(json.dumps(document))

    return edit


def test_the_record_holds_facts_options_and_pictures(tmp_path: Path) -> None:
    """Readers of the facts need no other key; nothing else lies in the folder."""
    assert list(NAMES) == make(tmp_path)

    assert record(tmp_path) == {
        "format_version": 1,
        "kind": "semsr-pictures",
        "summary": "noise",
        "is_short": True,
        "trained_on": "none",
        "offline": "it is noise",
        "options": {"made_by": "this test", "seed": 0, "scales": [2, 4]},
        "pictures": {name: {"source": f"a {name}", "seconds": 1.5} for name in NAMES},
    }
    assert read_facts(tmp_path) == FACTS
    with Image.open(tmp_path / NAMES[1]) as image:
        assert np.array_equal(picture(1), np.asarray(image))
        assert pytest.approx(50_800, rel=1e-4) == image.info["dpi"][0]
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert [RECORD, *NAMES] == files


def test_finished_pictures_are_skipped(tmp_path: Path) -> None:
    """After a stop only what is missing is made: without a file, without an entry, or new."""
    make(tmp_path)
    old = (tmp_path / NAMES[0]).stat().st_mtime_ns
    (tmp_path / NAMES[1]).unlink()
    changed(lambda document: document["pictures"].pop(NAMES[2]))(tmp_path)

    assert list(NAMES[1:]) == make(tmp_path)
    assert old == (tmp_path / NAMES[0]).stat().st_mtime_ns
    assert [] == make(tmp_path, NAMES[:1])
    assert set(NAMES) == set(record(tmp_path)["pictures"])


def test_other_options_are_refused_and_can_be_overwritten(tmp_path: Path) -> None:
    """The error names what differs; overwriting deletes the other options' pictures."""
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(PicturesError, match="other options: seed 0, now 5, x None, now 1; replace"):
        make(tmp_path, seed=5, x=1)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    assert [NAMES[0]] == make(tmp_path, NAMES[:1], overwrite=True, seed=5)
    assert ["0000.png"] == [path.name for path in (tmp_path / "test_clean").iterdir()]
    assert 5 == record(tmp_path)["options"]["seed"]
    assert [NAMES[0]] == make(tmp_path, NAMES[:1], overwrite=True, seed=5)


def test_pictures_of_another_source_are_refused(tmp_path: Path) -> None:
    """A folder of one benchmark is not continued with another of the same names."""
    make(tmp_path, NAMES[:1])
    folder = PictureFolder(tmp_path, OPTIONS)
    folder.open()

    with pytest.raises(PicturesError, match=r"0000\.png was made from another source.*--overwrite"):
        folder.begin(FACTS, {NAMES[0]: "b"})
    folder.open(overwrite=True)
    assert [NAMES[0]] == folder.begin(FACTS, {NAMES[0]: "b"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: (path / RECORD).write_text("{"), "is damaged: Expecting"),
        (lambda path: (path / RECORD).write_bytes(b"\xff"), "is damaged: 'utf-8'"),
        (lambda path: (path / RECORD).write_text("[]"), "kind None; expected 'semsr-pictures'"),
        (changed(lambda document: document.update(kind="x")), "has kind 'x'; expected"),
        (changed(lambda document: document.update(format_version=2)), "format_version 2; expected"),
        (changed(lambda document: document.pop("summary")), "is damaged: summary: Field required"),
        (changed(lambda document: document.update(pictures=[])), "is damaged: pictures: "),
        (changed(lambda document: document["pictures"].update({"../a.png": {}})), r"\.\./a\.png"),
        (changed(lambda document: document["pictures"].update({"/a.png": {}})), r"\./a\.png"),
        (changed(lambda document: document.pop("options")), "another tool made the pictures"),
        (lambda path: (path / RECORD).rename(path / "other.json"), "is not empty and has no"),
    ],
)
def test_a_folder_that_cannot_be_continued_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    """Neither damaged nor foreign folders are written to, nor files outside deleted."""
    make(tmp_path)
    damage(tmp_path)

    for overwrite in (False, True):
        with pytest.raises(PicturesError, match=words):
            make(tmp_path, overwrite=overwrite)
    assert 3 == len(list(tmp_path.rglob("*.png")))


def test_facts_of_other_tools(tmp_path: Path) -> None:
    """Two facts are enough; a folder without a record has none."""
    assert read_facts(tmp_path) is None
    facts = {"kind": "semsr-pictures", "format_version": 1, "summary": "x", "is_short": True}
    (tmp_path / RECORD).write_text(json.dumps({**facts, "tool_version": 7}))

    assert read_facts(tmp_path) == PictureFacts(summary="x", is_short=True)


def test_names_keep_the_tree_and_are_unique(tmp_path: Path) -> None:
    """Two files must not become one picture."""
    files = [tmp_path / "a" / "0.tif", tmp_path / "b" / "0.png"]

    assert {"a/0.png": files[0], "b/0.png": files[1]} == picture_names(files, tmp_path)
    with pytest.raises(PicturesError, match=r"0\.tif and .*0\.bmp would both become .* a/0\.png"):
        picture_names([*files, tmp_path / "a" / "0.bmp"], tmp_path)


def test_a_digest_depends_on_sizes_and_pixels() -> None:
    """The same pixels in another shape, or in another image, are another source."""
    flat = np.zeros((2, 6), np.uint8)
    sources = [(flat,), (flat.reshape(3, 4),), (flat[:1], flat[1:]), (flat + 1,)]

    assert 4 == len({source_digest(*images) for images in sources})
