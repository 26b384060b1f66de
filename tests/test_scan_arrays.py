"""Scans of npy, HDF5 and Zarr: colour, odd neighbours, data that are not there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.scans.errors import ScanError
from tests.scans import enlarged, manifest, numbered_tile, scan

COUNT = 3


def tiles(count: int = COUNT) -> Any:  # noqa: ANN401 (NumPy's types are of no use here)
    """Numbered tiles (N, 24, 24)."""
    return np.stack([numbered_tile(index) for index in range(count)])


def check_scanned(source: object, sink: Path, count: int = COUNT) -> None:
    """Scan, and find every tile as it must be."""
    report = scan(source, sink)
    assert (count, 0, True) == (report.counts.done, report.counts.failed, report.is_complete)
    rows = manifest(report.manifest)
    for index, row in enumerate(rows):
        found = np.load(sink / row["output"])
        np.testing.assert_array_equal(enlarged(numbered_tile(index)), found)


# --- colour ---


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", ["npy", "h5", "zarr"])
def test_colour_is_refused_and_not_taken_for_rows(tmp_path: Path, kind: str, channels: int) -> None:
    """(H, W, 3) would be H tiles of W x 3 pixels."""
    path = tmp_path / f"lot.{kind}"
    write_array(path, np.zeros((24, 30, channels), np.uint8))

    with pytest.raises(ScanError, match=rf"colour: \(H, W, {channels}\); expected grey"):
        scan(path, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_tiles_three_pixels_wide_can_be_meant(tmp_path: Path) -> None:
    """With an axis of one channel no other reading is possible."""
    np.save(tmp_path / "lot.npy", np.arange(2 * 8 * 3, dtype=np.uint8).reshape(2, 1, 8, 3))

    report = scan(tmp_path / "lot.npy", tmp_path / "out")

    assert (2, True) == (report.counts.done, report.is_complete)


def write_array(path: Path, array: Any) -> None:  # noqa: ANN401
    """Write one array as npy, HDF5 or Zarr."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["tiles"] = array
    else:
        zarr = pytest.importorskip("zarr")
        zarr.create_array(path, data=array)


# --- npy ---


def test_an_npy_of_python_2_is_read(tmp_path: Path) -> None:
    """Its header may have longs, such as 60L."""
    header = (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (3L, 24L, 24L), }".ljust(117) + b"\n"
    )
    body = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + tiles().tobytes()
    (tmp_path / "lot.npy").write_bytes(body)

    check_scanned(tmp_path / "lot.npy", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "done", "words"),
    [
        (lambda body: body + body, COUNT, "goes on after it"),
        (lambda body: body + b"x", COUNT, "goes on after it"),
        (lambda body: body[:-1], COUNT - 1, "has been cut"),
        (lambda body: body[: -24 * 24], COUNT - 1, "has been cut"),
    ],
    ids=["two arrays", "one byte more", "one byte less", "one tile less"],
)
def test_an_npy_of_another_length_than_it_says_is_no_whole_lot(
    tmp_path: Path, change: Callable[[bytes], bytes], done: int, words: str
) -> None:
    """Two arrays in one file, or one that was cut: what is whole is computed, the exit is 1."""
    path = tmp_path / "lot.npy"
    np.save(path, tiles())
    path.write_bytes(change(path.read_bytes()))

    report = scan(path, tmp_path / "out")

    assert (done, False) == (report.counts.done, report.is_complete)
    assert words in str(report.damage)
    assert words in report.text()


# --- HDF5 ---


def odd_neighbours(file: Any, h5py: Any) -> None:  # noqa: ANN401
    """Put beside the tiles what h5py cannot open, or what is not an image."""
    file["null"] = h5py.Empty("f")
    file["words"] = ["a", "b"]
    file["complex"] = np.zeros((3, 24, 24), np.complex64)
    file["compound"] = np.zeros(3, [("x", "u1"), ("y", "f4")])
    file["rgb"] = np.zeros((24, 30, 3), np.uint8)
    file["scalar"] = 7
    file["broken"] = h5py.SoftLink("/nowhere")
    file["elsewhere"] = h5py.ExternalLink("nowhere.h5", "/tiles")
    time = h5py.h5t.UNIX_D32LE
    h5py.h5d.create(file.id, b"time", time, h5py.h5s.create_simple((3, 24, 24)))
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((1, 24, 24))
    plan.set_filter(32_767, h5py.h5z.FLAG_OPTIONAL, (0,))
    space = h5py.h5s.create_simple((3, 24, 24))
    h5py.h5d.create(file.id, b"packed", h5py.h5t.STD_U8LE, space, dcpl=plan)
    group = file.create_group("group")
    group["itself"] = file["group"]


def test_odd_neighbours_in_hdf5_cost_no_tile(tmp_path: Path) -> None:
    """Whatever they are, and whatever h5py raises when it looks at them."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "lot.h5", "w") as file:
        odd_neighbours(file, h5py)
        file["tiles"] = tiles()
        file["tiles"].attrs["empty"] = h5py.Empty("S1")
        file["tiles"].attrs["pixel_size_nm"] = np.nan
        file["tool"] = h5py.Empty("S1")

    check_scanned(tmp_path / "lot.h5", tmp_path / "out")
    check_scanned(f"{tmp_path}/lot.h5::tiles", tmp_path / "named")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("null", "no dataspace"),
        ("complex", "holds complex64"),
        ("rgb", "colour"),
        ("broken", "soft link to /nowhere"),
        ("elsewhere", "external link to /tiles"),
        ("time", "TypeError"),
        ("packed", "filter 32767"),
        ("scalar", "holds int64"),
        ("none", "has no array 'none'"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, name: str, reason: str
) -> None:
    """Where it is asked for by its name."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "lot.h5", "w") as file:
        odd_neighbours(file, h5py)

    with pytest.raises(ScanError, match=rf"lot\.h5.*{reason}"):
        scan(f"{tmp_path}/lot.h5::{name}", tmp_path / "out")


def test_an_array_beside_the_tiles_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    """The tiles have no tool then, and the summary says why."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "lot.h5", "w") as file:
        file["tiles"] = tiles()
        file.create_dataset("tool", data=np.arange(3), chunks=(3,), fletcher32=True)
        at = file["tool"].id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "lot.h5").read_bytes())
    content[at] ^= 0xFF
    (tmp_path / "lot.h5").write_bytes(content)

    report = scan(tmp_path / "lot.h5", tmp_path / "out")

    assert (3, True) == (report.counts.done, report.is_complete)
    assert "the array tool next to the tiles is left out" in report.text()


def test_a_dataset_that_was_not_written_to_its_end_says_so(tmp_path: Path) -> None:
    """The tool stopped after two of three: the third is black, and the summary says so."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "lot.h5", "w") as file:
        file.create_dataset("tiles", (3, 24, 24), "uint8", chunks=(1, 12, 24))[:2] = tiles(2)

    check_not_stored(tmp_path / "lot.h5", tmp_path / "out", chunks=2)


def check_not_stored(source: Path, sink: Path, *, chunks: int) -> None:
    """Scan three tiles of which the last is not stored."""
    report = scan(source, sink)
    assert "1 of 3 tiles have chunks that" in report.text()
    assert report.is_complete
    counts = [
        json.loads(row["metadata"] or "{}").get("chunks_not_stored")
        for row in manifest(report.manifest)
    ]
    assert [None, None, chunks] == counts


@pytest.mark.parametrize("kind", ["chunked h5", "contiguous h5", "zarr"])
def test_an_array_of_which_nothing_is_stored_is_refused(tmp_path: Path, kind: str) -> None:
    """All of its tiles would be black."""
    if kind == "zarr":
        zarr = pytest.importorskip("zarr")
        source = tmp_path / "lot.zarr"
        zarr.create_array(source, shape=(3, 24, 24), chunks=(1, 24, 24), dtype="uint8")
    else:
        h5py = pytest.importorskip("h5py")
        source = tmp_path / "lot.h5"
        chunks = (1, 24, 24) if kind == "chunked h5" else None
        with h5py.File(source, "w") as file:
            file.create_dataset("tiles", (3, 24, 24), "uint8", chunks=chunks)

    with pytest.raises(ScanError, match="stores none of its chunks"):
        scan(source, tmp_path / "out")


# --- Zarr ---


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shards", [False, True])
def test_zarr_chunks_that_are_gone_are_counted(
    tmp_path: Path,
    zarr_format,
    shards,
) -> None:
    """As after a copy that was not whole."""
    zarr = pytest.importorskip("zarr")
    if shards and zarr_format == 2:
        pytest.skip("version 2 has no shards")
    root = zarr.create_group(tmp_path / "lot.zarr", zarr_format=zarr_format)
    options = {"shards": (1, 24, 24)} if shards else {}
    array = root.create_array(
        "a/tiles", shape=(3, 24, 24), chunks=(1, 12, 24), dtype="uint8", **options
    )
    array[:] = tiles() | 1
    keys = sorted(
        path for path in (tmp_path / "lot.zarr" / "a" / "tiles").rglob("*") if path.is_file()
    )
    last = [path for path in keys if path.relative_to(tmp_path).as_posix().count("2")]
    gone = [path for path in last if path.name[0] in "2c0123456789" and path.suffix != ".json"]
    for path in gone:
        path.unlink()

    check_not_stored(tmp_path / "lot.zarr", tmp_path / "out", chunks=1 if shards else 2)


def spoil(folder: Path, how: str) -> None:
    """Make a Zarr array one that zarr cannot open."""
    path = next(path for path in (folder / "zarr.json", folder / ".zarray") if path.exists())
    text = path.read_text()
    if how == "JSON":
        path.write_text(text[: len(text) // 2])
        return
    metadata = json.loads(text)
    change = {
        "codec": {"codecs": [{"name": "no_such_codec"}], "compressor": {"id": "no_such_codec"}},
        "dtype": {"data_type": "uint7", "dtype": "|Q7"},
        "shape": {"shape": "many"},
    }[how]
    path.write_text(json.dumps({**metadata, **{k: v for k, v in change.items() if k in metadata}}))


@pytest.mark.parametrize("how", ["JSON", "codec", "dtype", "shape"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("is_consolidated", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")  # zarr's, of consolidated metadata in version 3
def test_a_bad_neighbour_in_zarr_costs_no_tile(
    tmp_path: Path,
    how: str,
    zarr_format,
    is_consolidated,
) -> None:
    """By name or without; where the neighbour is meant, the error has its path and the reason."""
    zarr = pytest.importorskip("zarr")
    store = tmp_path / "lot.zarr"
    root = zarr.create_group(store, zarr_format=zarr_format)
    for name in ("scan/tiles", "scan/bad"):
        array = root.create_array(name, shape=(3, 24, 24), chunks=(1, 24, 24), dtype="uint8")
        array[:] = tiles()
    spoil(store / "scan" / "bad", how)
    if is_consolidated:
        consolidate(store, zarr_format)

    check_scanned(store, tmp_path / "out")
    check_scanned(f"{store}::scan/tiles", tmp_path / "named")
    with pytest.raises(ScanError, match=r"scan/bad cannot be used: \w+|no array 'scan/bad'"):
        scan(f"{store}::scan/bad", tmp_path / "bad")


def test_an_array_that_is_gone_under_consolidated_metadata_is_refused(tmp_path: Path) -> None:
    """They still name it, and zarr reads it as black."""
    zarr = pytest.importorskip("zarr")
    store = tmp_path / "lot.zarr"
    root = zarr.create_group(store, zarr_format=2)
    root.create_array("tiles", shape=(3, 24, 24), chunks=(1, 24, 24), dtype="uint8")[:] = tiles()
    consolidate(store, 2)
    shutil.rmtree(store / "tiles")

    with pytest.raises(ScanError, match="stores none of its chunks"):
        scan(store, tmp_path / "out")


def consolidate(store: Path, zarr_format: int) -> None:
    """Write consolidated metadata of all members, as they are on the disk."""
    found: dict[str, Any] = {}
    for path in sorted(store.rglob("*")):
        if path.name in {"zarr.json", ".zarray", ".zgroup", ".zattrs"} and path.parent != store:
            name = path.relative_to(store).as_posix()
            try:
                found[name.removesuffix("/zarr.json")] = json.loads(path.read_text())
            except ValueError:
                continue
    if zarr_format == 2:
        root = {".zgroup": json.loads((store / ".zgroup").read_text())}
        content = {"zarr_consolidated_format": 1, "metadata": {**root, **found}}
        (store / ".zmetadata").write_text(json.dumps(content))
        return
    root = json.loads((store / "zarr.json").read_text())
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": found}
    (store / "zarr.json").write_text(json.dumps(root))
