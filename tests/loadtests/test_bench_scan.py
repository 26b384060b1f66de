"""`semsr bench scan`: a small scan beside its yardsticks."""

import json
from pathlib import Path

import numpy as np
import pytest

from loadtests.alone.scan import bench_scan
from semsr.cli import main
from tests.scans import TINY_BUNDLE


@pytest.fixture(autouse=True)
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk is known by few files where only the rows matter."""
    monkeypatch.setattr("loadtests.alone.scan._DISK_FILES", 128)


def write_tiles(folder: Path, count: int) -> Path:
    """A lot of npy tiles."""
    folder.mkdir()
    for index in range(count):
        np.save(folder / f"t{index:03d}.npy", np.full((64, 64), index, np.uint8))
    return folder


def test_scan_is_measured_beside_the_lower_of_cores_and_disk(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Rows of cores, disk and scan; ratios are to the yardstick that they name."""
    options = ["--bundle", str(TINY_BUNDLE), "--tiles", "40", "--scratch", str(tmp_path), "--json"]

    assert main(["bench", "scan", *options]) == 0

    cores, _, disk, scan, hashed, _ = json.loads(capsys.readouterr().out)
    limits = {"cores": cores["tiles_per_s"], "disk": disk["tiles_per_s"]}
    assert set(cores["core_ms"]) == {"decode", "engine", "encode"}
    assert min(cores["core_ms"].values()) > 0
    assert scan["name"] == "scan, 40 tiles"
    assert scan["yardstick"] == min(limits, key=lambda name: limits[name])
    assert scan["ratio"] == pytest.approx(scan["tiles_per_s"] / min(limits.values()))
    assert hashed["tiles_per_s"] == scan["tiles_per_s"]
    assert hashed["ratio"] >= scan["ratio"]
    assert list(tmp_path.iterdir()) == []


def test_scan_takes_a_lot_that_is_given_and_leaves_it(tmp_path: Path) -> None:
    """It is read where it lies; outputs go to the scratch folder and away."""
    lot = write_tiles(tmp_path / "lot", 20)

    rows = bench_scan(TINY_BUNDLE, engine="identity", lot=lot, tiles=0, scratch=tmp_path)

    assert "scan, 20 tiles" in {row["name"] for row in rows}
    assert [path.name for path in tmp_path.iterdir()] == ["lot"]
    assert len(list(lot.iterdir())) == 20


def test_scan_that_lacks_tiles_is_no_measurement(tmp_path: Path) -> None:
    """An error in place of a rate of tiles that were not computed."""
    lot = write_tiles(tmp_path / "lot", 64)
    (lot / "z.npy").write_bytes(b"no picture")

    with pytest.raises(RuntimeError, match=r"the scan did not complete.*'failed': 1"):
        bench_scan(TINY_BUNDLE, engine="identity", lot=lot, tiles=0, scratch=tmp_path)
