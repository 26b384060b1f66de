"""Scans of archives and stacks, and scans into stacks."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from engines.identity_engine import IdentityEngine
from service.scans.errors import ScanError
from service.scans.local_store import LocalStore
from service.scans.stack_sink import SHARD_TILES
from tests.scans import SCALE, TILE_PX, enlarged, manifest, numbered_tile, outputs, scan, write_lot

COUNT = 2 * SHARD_TILES + 5
SHAPE = (SCALE * TILE_PX, SCALE * TILE_PX)


class StoppingEngine(IdentityEngine):
    """The identity engine until it has done so many tiles; then it fails."""

    def __init__(self, tiles: int) -> None:
        super().__init__(scale=SCALE)
        self._left = tiles

    def run(self, lr: Any, sr: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401
        """Enlarge, or fail."""
        self._left -= sum(bool(tile.any()) for tile in lr)
        if self._left < 0:
            raise RuntimeError("enough")
        return super().run(lr, sr)


def stack(count: int = COUNT) -> npt.NDArray[np.uint8]:
    """Numbered tiles (N, H, W)."""
    return np.stack([numbered_tile(index) for index in range(count)])


def write_source(folder: Path, kind: str) -> str:
    """Write the numbered tiles as one container; returns what a scan is given."""
    tiles = stack()
    path = folder / f"lot.{kind}"
    if kind == "npy":
        np.save(path, tiles)
    elif kind == "tif":
        tifffile.imwrite(path, tiles, photometric="minisblack", compression="zlib")
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            for index, tile in enumerate(tiles):
                buffer = io.BytesIO()
                np.save(buffer, tile)
                member = tarfile.TarInfo(f"die/t{index:05d}.npy")
                member.size = buffer.tell()
                buffer.seek(0)
                archive.addfile(member, buffer)
    elif kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["scan/tiles"] = tiles[:, None]
            file["scan/tiles"].attrs["pixel_size_nm"] = [4.0, 8.0]
            file["scan/tiles"].attrs["lot"] = "L7"
            file["scan/stage_x"] = np.arange(COUNT) / 2
            file["scan/noise"] = np.zeros((3, 4))
    else:
        zarr = pytest.importorskip("zarr")
        group = zarr.create_group(path)
        array = group.create_array(
            "tiles", shape=tiles.shape, dtype="uint8", chunks=(1, TILE_PX, TILE_PX)
        )
        array[:] = tiles
        array.attrs["pixel_size_nm"] = [4.0, 8.0]
        array.attrs["lot"] = "L7"
        group.create_array("stage_x", data=np.arange(COUNT) / 2)
    return str(path)


def read_stack(path: Path) -> npt.NDArray[np.uint8]:
    """Read (N, H, W) from a stack."""
    if path.suffix == ".zarr":
        return np.asarray(pytest.importorskip("zarr").open_array(path / "0", mode="r")[:])
    if path.suffix == ".h5":
        with pytest.importorskip("h5py").File(path) as file:
            return file["sr"][:]
    return tifffile.imread(path)


def sink_path(folder: Path, kind: str) -> Path:
    """Name a stack; the test skips where what writes it is missing."""
    pytest.importorskip({"zarr": "zarr", "h5": "h5py", "tif": "tifffile"}[kind])
    return folder / f"out.{kind}"


@pytest.mark.parametrize("kind", ["npy", "tif", "tar", "h5", "zarr"])
def test_every_tile_of_a_container_becomes_a_file(tmp_path: Path, kind: str) -> None:
    """By index or by member name, with the pixels of that tile."""
    report = scan(write_source(tmp_path, kind), tmp_path / "out")

    assert report.is_complete
    rows = manifest(report.manifest)
    assert COUNT == len(rows)
    for index, row in enumerate(rows):
        stem = f"die/t{index:05d}" if kind == "tar" else f"lot/{index:08d}"
        suffix = ".tif" if kind == "tif" else ".npy"
        name = f"die/t{index:05d}.npy" if kind == "tar" else f"lot.{kind}[{index:08d}]"
        assert (name, f"{stem}_x4{suffix}") == (row["source"], row["output"])
        path = tmp_path / "out" / row["output"]
        pixels = tifffile.imread(path) if kind == "tif" else np.load(path)
        np.testing.assert_array_equal(enlarged(numbered_tile(index)), pixels)


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_attributes_and_arrays_beside_are_facts(tmp_path: Path, kind: str) -> None:
    """They reach manifest and file, the pixel size scaled along each axis."""
    report = scan(write_source(tmp_path, kind), tmp_path / "out")

    row = manifest(report.manifest)[3]
    assert ("1.0", "2.0", "1.5", "L7") == tuple(
        row[name] for name in ("pixel_size_x_nm", "pixel_size_y_nm", "stage_x", "lot")
    )
    sidecar = json.loads((tmp_path / "out" / "lot" / "00000003_x4.json").read_text())
    assert {"pixel_size_nm": [1.0, 2.0], "lot": "L7", "stage_x": 1.5} == sidecar


def test_pages_keep_the_pixel_size_of_their_stack(tmp_path: Path) -> None:
    """OME states it in the first page only; the stack's description is not repeated."""
    path = tmp_path / "lot.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 4.0, "PhysicalSizeXUnit": "nm"}
    metadata |= {"PhysicalSizeY": 4.0, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(path, stack(3), photometric="minisblack", metadata=metadata, ome=True)

    report = scan(path, tmp_path / "out")

    assert 3 * ["1.0"] == [row["pixel_size_x_nm"] for row in manifest(report.manifest)]
    with tifffile.TiffFile(tmp_path / "out" / "lot.ome" / "00000000_x4.tif") as picture:
        [page] = picture.pages
        assert "ImageDescription" not in page.tags  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("kind", ["zarr", "h5", "tif"])
def test_a_stack_holds_every_tile_at_its_place(tmp_path: Path, kind: str) -> None:
    """With what all have in common as attributes; its shards are gone."""
    tiles = write_lot(tmp_path / "lot", COUNT)
    sink = sink_path(tmp_path, kind)

    report = scan(tmp_path / "lot", sink, pixel_size=None)

    assert report.is_complete
    np.testing.assert_array_equal(enlarged(np.stack(tiles)), read_stack(sink))
    assert str(sink) + ".manifest.csv" == report.manifest
    shards = tmp_path / f"out.{kind}.scan" / "shards"
    assert not shards.exists() or not list(shards.iterdir())
    again = scan(tmp_path / "lot", sink)
    assert (0, True) == (again.computed, again.is_complete)


@pytest.mark.parametrize("source", ["h5", "zarr"])
@pytest.mark.parametrize("kind", ["zarr", "h5", "tif"])
def test_a_stack_says_what_its_tiles_have_in_common(tmp_path: Path, source: str, kind: str) -> None:
    """Pixel size and model; the stage position differs from tile to tile and is in the manifest."""
    sink = sink_path(tmp_path, kind)

    scan(write_source(tmp_path, source), sink)

    if kind == "tif":
        with tifffile.TiffFile(sink) as file:
            attributes: dict[str, Any] = json.loads(str(file.pages[0].tags[270].value))  # pyright: ignore
    elif kind == "h5":
        with pytest.importorskip("h5py").File(sink) as file:
            attributes = dict(file["sr"].attrs)
    else:
        attributes = dict(pytest.importorskip("zarr").open_array(sink / "0", mode="r").attrs)
    assert [1.0, 2.0] == list(attributes["pixel_size_nm"])
    assert ("identity", 4, COUNT, 0) == tuple(
        attributes[name] for name in ("model", "scale", "tiles", "missing")
    )
    assert "stage_x" not in attributes


@pytest.mark.parametrize("kind", ["zarr", "h5", "tif"])
def test_odd_facts_of_all_tiles_do_not_spoil_a_stack(tmp_path: Path, kind: str) -> None:
    """What a format has no type or no room for is in the manifest, and the stack is finished."""
    write_lot(tmp_path / "lot", 3)
    facts = {
        "recipe": None, "mixed": [1, "b"], "deep": [{"a": 1}], "big": 1 << 70, "nul": "a\0b",
        "": 1, "long": "y" * 60_000, "tool": "T1",
    }  # fmt: skip
    for index in range(3):
        (tmp_path / "lot" / f"t{index:05d}.json").write_text(json.dumps(facts))
    sink = sink_path(tmp_path, kind)

    report = scan(tmp_path / "lot", sink)

    assert report.is_complete
    assert 3 == len(read_stack(sink))
    assert facts == json.loads(manifest(report.manifest)[0]["metadata"])


@pytest.mark.parametrize("kind", ["npy", "tar"])
def test_a_container_that_is_gone_is_not_its_tiles_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The scan ends, and goes on once the container is there again."""
    source = Path(write_source(tmp_path, kind))
    read, seen = LocalStore.read, 0

    def read_then_lose(self: LocalStore, name: str, **part: Any) -> bytes:
        nonlocal seen
        seen += name == source.name
        if seen == 8:
            source.rename(tmp_path / "away")
        return read(self, name, **part)

    monkeypatch.setattr(LocalStore, "read", read_then_lose)
    report = scan(source, tmp_path / "out")

    assert (True, 0) == ("is gone" in str(report.ended_by), report.counts.failed)
    (tmp_path / "away").rename(source)
    assert scan(source, tmp_path / "out").is_complete


def test_members_whose_names_are_no_text_are_read(tmp_path: Path) -> None:
    """They are found by their place; their outputs show the bytes as escapes."""
    content = io.BytesIO()
    np.save(content, numbered_tile(3))
    with tarfile.open(tmp_path / "lot.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("die/\udcff.npy")
        member.size = content.tell()
        content.seek(0)
        archive.addfile(member, content)

    report = scan(tmp_path / "lot.tar", tmp_path / "out")

    assert report.is_complete
    assert ["die/\\xff_x4.npy"] == list(outputs(tmp_path / "out"))


@pytest.mark.parametrize("kind", ["zarr", "h5", "tif"])
def test_a_stack_is_black_where_a_tile_failed_until_it_is_repaired(
    tmp_path: Path, kind: str
) -> None:
    """The repair fills the gap and leaves every other tile as it was."""
    tiles = write_lot(tmp_path / "lot", COUNT)
    bad = tmp_path / "lot" / "t00020.npy"
    bad.write_bytes(b"x")
    np.save(tmp_path / "lot" / "t00021.npy", np.zeros((10, 10), np.uint8))
    sink = sink_path(tmp_path, kind)

    report = scan(tmp_path / "lot", sink)

    expected = enlarged(np.stack(tiles))
    expected[20:22] = 0
    np.testing.assert_array_equal(expected, read_stack(sink))
    assert 2 == report.counts.failed
    assert "(40, 40) pixels; the stack holds tiles of (96, 96)" in report.failures[1][1]

    for number in (20, 21):
        np.save(tmp_path / "lot" / f"t{number:05d}.npy", tiles[number])
    report = scan(tmp_path / "lot", sink, verify=True)
    assert (2, True) == (report.computed, report.is_complete)
    np.testing.assert_array_equal(enlarged(np.stack(tiles)), read_stack(sink))


@pytest.mark.parametrize("kind", ["zarr", "h5", "tif"])
def test_a_stack_that_is_gone_is_made_anew(tmp_path: Path, kind: str) -> None:
    """The journal does not count for more than what is there."""
    write_lot(tmp_path / "lot", 5)
    sink = sink_path(tmp_path, kind)
    scan(tmp_path / "lot", sink)
    (sink / "zarr.json" if kind == "zarr" else sink).unlink()

    report = scan(tmp_path / "lot", sink)

    assert report.is_complete
    assert (0 if kind == "zarr" else 5) == report.computed
    assert 5 == len(read_stack(sink))


def test_a_shard_that_is_gone_is_computed_anew(tmp_path: Path) -> None:
    """That one alone."""
    tiles = write_lot(tmp_path / "lot", COUNT)
    sink = sink_path(tmp_path, "zarr")
    scan(tmp_path / "lot", sink)
    (sink / "0" / "c" / "1" / "0" / "0").unlink()

    report = scan(tmp_path / "lot", sink)

    assert (SHARD_TILES, SHARD_TILES) == (report.computed, report.lost)
    np.testing.assert_array_equal(enlarged(np.stack(tiles)), read_stack(sink))


def test_a_finished_stack_does_not_grow(tmp_path: Path) -> None:
    """Its shards are gone; the refusal says what to do."""
    write_lot(tmp_path / "lot", 5)
    sink = sink_path(tmp_path, "h5")
    scan(tmp_path / "lot", sink)
    np.save(tmp_path / "lot" / "t00005.npy", numbered_tile(5))

    with pytest.raises(ScanError, match="scan into another sink"):
        scan(tmp_path / "lot", sink)


def test_nothing_of_a_stack_is_under_its_name_before_it_is_finished(tmp_path: Path) -> None:
    """A scan whose engine breaks down leaves shards; the next run uses them."""
    tiles = write_lot(tmp_path / "lot", COUNT)
    sink = sink_path(tmp_path, "h5")
    (tmp_path / "out.h5.scan").mkdir()

    first = scan(tmp_path / "lot", sink, engine_loader=lambda *_: StoppingEngine(SHARD_TILES))
    assert 0 < first.counts.failed

    report = scan(tmp_path / "lot", sink)
    assert COUNT - first.counts.done == report.computed
    np.testing.assert_array_equal(enlarged(np.stack(tiles)), read_stack(sink))


def test_16_bit_stacks(tmp_path: Path) -> None:
    """Raw 16-bit tiles of either byte order through a window, and a 16-bit answer."""
    tiles = (stack(6).astype(np.uint16) * 16 + 5).astype(">u2")
    np.save(tmp_path / "lot.npy", tiles)
    sink = sink_path(tmp_path, "zarr")

    report = scan(tmp_path / "lot.npy", sink, window=(0, 4095), answer_dtype="uint16")

    assert report.is_complete
    found = read_stack(sink)
    assert np.uint16 == found.dtype
    assert np.abs(found.astype(int) - enlarged(tiles.astype(int))).max() <= 8


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lot.npy", b"no array", "begins|version"),
        ("lot.tif", b"II*\0 is all that there is", "cannot be read as TIFF"),
        ("lot.h5", b"no HDF5", "cannot be opened as HDF5"),
        ("lot.tar", b"no tar" * 200, "not an uncompressed tar"),
        ("lot.png", b"", "is one image"),
        ("lot.txt", b"", "neither a folder nor a known container"),
    ],
)
def test_a_container_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Before anything is written."""
    if name == "lot.h5":
        pytest.importorskip("h5py")
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ScanError, match=message):
        scan(tmp_path / name, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_an_array_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    """The refusal lists them; a name chooses."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "lot.h5", "w") as file:
        file["a"], file["b"] = stack(2), stack(4)

    with pytest.raises(ScanError, match=r"2 arrays that can be tiles \(a, b\)"):
        scan(tmp_path / "lot.h5", tmp_path / "out")

    assert 4 == scan(f"{tmp_path}/lot.h5::b", tmp_path / "out2").counts.done


def test_an_archive_cannot_write_outside_its_sink(tmp_path: Path) -> None:
    """A member's name that leads upwards is refused."""
    with tarfile.open(tmp_path / "lot.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../evil.npy"), io.BytesIO())

    with pytest.raises(ScanError, match="leads out of its folder"):
        scan(tmp_path / "lot.tar", tmp_path / "deep" / "out", work=tmp_path / "work")


def test_members_of_an_archive_have_sidecars(tmp_path: Path) -> None:
    """As files of a folder do, whatever their order."""
    facts = json.dumps({"die": "3,4"}).encode()
    picture = io.BytesIO()
    Image.fromarray(numbered_tile(3)).save(picture, "PNG")
    with tarfile.open(tmp_path / "lot.tar", "w") as archive:
        for name, content in (("a.json", facts), ("a.png", picture.getvalue())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    report = scan(tmp_path / "lot.tar", tmp_path / "out")

    assert ["3,4"] == [row["die"] for row in manifest(report.manifest)]
    assert {"a_x4.json", "a_x4.png"} == set(outputs(tmp_path / "out"))


def test_a_damaged_shard_is_computed_anew_once_it_is_found(tmp_path: Path) -> None:
    """`--verify` finds it; a part of it alone cannot be done anew, and the reason says so."""
    pytest.importorskip("zarr")
    tiles = write_lot(tmp_path / "lot", 40)
    sink = tmp_path / "out.zarr"
    scan(tmp_path / "lot", sink)
    shard = sink / "0/c/1/0/0"
    intact = shard.read_bytes()
    shard.write_bytes(bytes(len(intact)))

    (tmp_path / "lot" / "t00020.npy").touch()
    report = scan(tmp_path / "lot", sink)
    assert (39, 1) == (report.counts.done, report.counts.failed)
    assert "0/c/1/0/0" in report.failures[0][1]

    report = scan(tmp_path / "lot", sink, verify=True)
    assert (16, True) == (report.computed, report.is_complete)
    assert intact == shard.read_bytes()
    np.testing.assert_array_equal([enlarged(tile) for tile in tiles], read_stack(sink))
