"""`semsr upscale --bits 16` and `semsr scan --bits 16`: files in the greys of their input."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

import semsr
from semsr.cli import main

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"


@pytest.fixture
def lot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two 12-bit tiles with a pixel size of 4 nm."""
    monkeypatch.setenv("SEMSR_BUNDLE", str(TINY_BUNDLE))
    folder = tmp_path / "lot"
    folder.mkdir()
    rng = np.random.default_rng(6)
    for name in ("a", "b"):
        tile = rng.integers(300, 3800, (24, 24), dtype=np.uint16)
        scale = {"resolution": (1e7 / 4, 1e7 / 4), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(folder / f"{name}.tif", tile, **scale)
    return folder


def expected(file: Path) -> np.ndarray:
    """The answer by Python."""
    with semsr.Upscaler(TINY_BUNDLE, bits=16, window=(0, 4095)) as upscale:
        return upscale(tifffile.imread(file))


@pytest.mark.parametrize("command", ["upscale", "scan"])
def test_files_have_the_greys_and_the_scale_of_their_input(
    lot: Path, tmp_path: Path, command: str
) -> None:
    """More than 256 levels within the window; the pixel size is a quarter."""
    out = tmp_path / "out"
    where = [str(lot), "--out", str(out)] if command == "upscale" else [str(lot), str(out)]

    assert 0 == main([command, *where, "--bits", "16", "--window", "0,4095"])

    for name in ("a", "b"):
        with tifffile.TiffFile(out / f"{name}_x4.tif") as file:
            sr = file.asarray()
            dots, per = file.pages[0].tags["XResolution"].value  # pyright: ignore
        assert np.uint16 == sr.dtype
        assert len(np.unique(sr)) > 1000
        assert np.abs(sr.astype(int) - expected(lot / f"{name}.tif")).max() <= 1
        assert 1e7 == pytest.approx(dots / per)


def test_the_depth_of_a_service_is_not_that_of_a_scan(
    lot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --bits 16 no 16-bit graph is loaded, which `identity` would refuse."""
    monkeypatch.setenv("SEMSR_ANSWER_BITS", "16")
    assert 0 == main(["scan", str(lot), str(tmp_path / "out"), "--engine", "identity"])


def test_a_scan_is_not_resumed_with_other_bits(
    lot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither from 8 to 16 nor back."""
    sixteen, eight = (
        ["scan", str(lot), str(tmp_path / "a")],
        ["scan", str(lot), str(tmp_path / "b")],
    )
    deep = ["--engine", "onnx", "--precision", "fp32", "--answer-dtype", "uint16"]
    assert 0 == main([*sixteen, "--bits", "16"])
    assert 0 == main([*eight, *deep])

    assert 0 != main([*sixteen, *deep])
    assert "answer_bits was 16 and is None" in capsys.readouterr().err
    assert 0 != main([*eight, "--bits", "16"])
    assert "answer_bits was None and is 16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["upscale", "x.tif", "--out", "out", "--engine", "openvino"], "which only onnx computes"),
        (["scan", "in", "out", "--engine", "openvino"], "--engine is openvino with --bits 16"),
        (["scan", "in", "out", "--precision", "int8"], "--precision is int8 with --bits 16"),
    ],
)
def test_another_engine_is_refused(
    command: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is read."""
    monkeypatch.chdir(tmp_path)
    assert 2 == main([*command, "--bits", "16"])
    assert message in capsys.readouterr().err
