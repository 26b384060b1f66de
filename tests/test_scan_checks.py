"""What `semsr scan` says before anything is loaded, its defaults, and what it shows in a pipe."""

import json
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from semsr.cli import main
from service.scans.errors import ScanError
from tests.scans import TINY_BUNDLE, manifest, outputs, scan, write_lot


def engine_loaded(*_: object, **__: object) -> NoReturn:
    """Stand for the loading of an engine that must not begin."""
    pytest.fail("the engine was loaded before the arguments were looked at")


@pytest.mark.parametrize(
    ("source", "sink", "words"),
    [
        ("nope", "out", "nope does not exist"),
        ("nope.h5", "out", r"nope\.h5 does not exist"),
        ("nope.zarr", "out", r"nope\.zarr does not exist"),
        ("nope", "also/nope.h5", "nope does not exist"),
        ("lot.tar.gz", "out", "is compressed; unpack it"),
        ("lot", "lot/out", "lies within the source"),
        ("lot", "lot.tar.gz", "is not a folder; expected a folder"),
        ("lot", "lot.tar.gz/out", "is not a folder"),
        ("lot", "folder.h5", "is a folder; expected a file"),
        ("colour.npy", "out", "colour"),
        ("lot", "what://out", "Protocol not known"),
    ],
)
@pytest.mark.parametrize("is_cluster", [False, True], ids=["here", "cluster"])
def test_wrong_arguments_are_answered_before_an_engine_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    sink: str,
    words: str,
    is_cluster,
) -> None:
    """The source first, and each by its own name."""
    monkeypatch.chdir(tmp_path)
    write_lot(tmp_path / "lot", 1)
    (tmp_path / "lot.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "folder.h5").mkdir()
    np.save(tmp_path / "colour.npy", np.zeros((8, 8, 3), np.uint8))
    if sink.endswith(".h5") and is_cluster:
        pytest.skip("a cluster writes no HDF5, which is said first")
    monkeypatch.setattr("semsr.scan.load_model", engine_loaded)
    monkeypatch.setattr("semsr.cluster.scan.connected", engine_loaded)
    cluster = {"cluster": "local"} if is_cluster else {}

    with pytest.raises(ScanError, match=words):
        scan(source, sink, work=tmp_path / "work", manifest="parquet", **cluster)


@pytest.fixture
def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra `scan`."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)


def run(*arguments: object) -> int:
    """Run `semsr scan` with the identity engine; returns the exit code."""
    own = ("--bundle", TINY_BUNDLE, "--engine", "identity")
    return main(["scan", *map(str, (*arguments, *own))])


@pytest.mark.usefixtures("without_pyarrow")
def test_the_manifest_is_csv_where_pyarrow_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The nightly scan of the README works after `make install`, and says what it did."""
    write_lot(tmp_path / "lot", 2)

    code = run(tmp_path / "lot", tmp_path / "out")

    assert 0 == code
    assert 2 == len(manifest(tmp_path / "out" / "manifest.csv"))
    assert "the manifest is CSV; Parquet needs pyarrow" in capsys.readouterr().err


@pytest.mark.usefixtures("without_pyarrow")
def test_a_wrong_source_is_said_before_a_missing_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where Parquet is asked for and cannot be written."""
    assert 1 == run(tmp_path / "nope", tmp_path / "out", "--manifest", "parquet")
    assert "nope does not exist" in capsys.readouterr().err

    write_lot(tmp_path / "lot", 1)
    assert 1 == run(tmp_path / "lot", tmp_path / "out", "--manifest", "parquet")
    assert "a manifest in Parquet" in capsys.readouterr().err


def test_a_pipe_sees_what_a_scan_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part says itself when it begins; the answer alone is on stdout."""
    write_lot(tmp_path / "lot", 2)

    assert 0 == run(tmp_path / "lot", tmp_path / "out", "--json", "--manifest", "csv")

    said = capsys.readouterr()
    lines = said.err.splitlines()
    begun = [line for line in lines if not line.startswith("20")]
    assert "loading the engine identity" == begun[0]
    assert f"listing {tmp_path / 'lot'}" in lines
    assert "scan: 2 tiles" in lines
    assert 2 == json.loads(said.out)[0]["done"]


def test_a_dry_run_finds_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its exit code too says that a scan would be incomplete."""
    np.save(tmp_path / "lot.npy", np.zeros((2, 24, 24), np.uint8))
    content = (tmp_path / "lot.npy").read_bytes()
    (tmp_path / "lot.npy").write_bytes(content + content)

    code = run(tmp_path / "lot.npy", tmp_path / "out", "--dry-run", "--json")

    [row] = json.loads(capsys.readouterr().out)
    assert (1, 2) == (code, row["tiles"])
    assert "goes on after it" in row["damage"]


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_large_json_beside_a_tile_costs_no_tile(tmp_path: Path, kind: str) -> None:
    """LabelMe writes one with the picture in it; the manifest gives its real size."""
    write_lot(tmp_path / "lot", 2)
    marks = json.dumps({"shapes": [], "imageData": "A" * 200_000})
    (tmp_path / "lot" / "t00000.json").write_text(marks)
    source = tmp_path / "lot"
    if kind == "tar":
        import tarfile

        source = tmp_path / "lot.tar"
        with tarfile.open(source, "w") as archive:
            archive.add(tmp_path / "lot", arcname=".")

    report = scan(source, tmp_path / "out")

    assert (2, True) == (report.counts.done, report.is_complete)
    assert {".json above 65536 bytes": 1} == dict(report.skipped)
    said = manifest(report.manifest)[0]["metadata"]
    assert f"t00000.json has {len(marks)} bytes; at most 65536" in said
    assert 3 == len(outputs(tmp_path / "out"))
