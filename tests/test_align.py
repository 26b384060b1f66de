"""`semsr align`: two folders to aligned pairs, from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from semsr.cli import main
from semsr.commands import align
from semsr.commands.options import EXIT_FAILED, EXIT_USAGE
from service.images.window import FULL_RANGE
from tests.training.registration_scenes import shifted_pair, simulated
from training.data.images import read_grey
from training.registration.pair import MAX_SHIFT_PX

SHIFTS = {"sram": (3.4, -6.2), "iso_lines": (-5.0, 2.7), "granular": (8.0, 9.5)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write noisy tiles of inspection mode and their HR, by name and in another order."""
    root = tmp_path_factory.mktemp("pairs")
    for side in ("lr", "hr", "unordered"):
        (root / side).mkdir()
    for number, (scene, shift) in enumerate(SHIFTS.items()):
        lr, hr = shifted_pair(simulated(scene), shift)
        Image.fromarray(lr).save(root / "lr" / f"{scene}_lr.png")
        Image.fromarray(hr).save(root / "hr" / f"{scene}_hr.png")
        Image.fromarray(hr).save(root / "unordered" / f"scan_{9 - number}.png")
    return root


def arguments(folder: Path, hr: str, out: Path) -> list[str]:
    """Return a command line."""
    return ["align", "--lr", str(folder / "lr"), "--hr", str(folder / hr), "--out", str(out)]


@pytest.mark.parametrize(("match", "hr"), [("names", "hr"), ("content", "unordered")])
def test_folders_become_aligned_pairs(
    match: str, hr: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every pair is found at its shift; rows on stdout, progress on stderr."""
    out = tmp_path / "out"

    assert 0 == main([*arguments(folder, hr, out), "--match", match, "--json"])

    printed = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(printed.out)}
    assert set(SHIFTS) == set(rows)
    for scene, shift in SHIFTS.items():
        row = rows[scene]
        assert "aligned" == row["status"]
        found = (row["shift_y_px"], row["shift_x_px"])
        errors = np.abs(np.subtract(found, shift))
        assert np.all(errors < 0.15 + 3 * np.array(row["standard_error_px"])), scene
        lr = read_grey(out / "lr" / f"{scene}.png")
        assert (4 * lr.shape[0], 4 * lr.shape[1]) == read_grey(out / "hr" / f"{scene}.png").shape
    document = json.loads((out / "alignment.json").read_text())
    assert list(rows.values()) == [{"status": "aligned", **pair} for pair in document["pairs"]]
    assert "registering pairs: done, 3 of 3 pairs" in printed.err


def test_refused_pairs_are_reported_and_the_others_are_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair that is none and files without a partner have their reasons in text and file."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for target, given in (("sram", "sram"), ("granular", "iso_lines"), ("extra", "sram")):
        (mixed / f"{target}_hr.png").write_bytes((folder / "hr" / f"{given}_hr.png").read_bytes())
    out = tmp_path / "out"

    assert 0 == main([*arguments(folder, "hr", out)[:3], "--hr", str(mixed), "--out", str(out)])

    text = capsys.readouterr().out
    assert "1 aligned, 3 refused" in text
    assert "refused granular_lr.png and granular_hr.png: " in text
    assert "refused extra_hr.png: no LR file has the name 'extra'" in text
    refused = json.loads((out / "alignment.json").read_text())["refused"]
    assert {"granular_lr.png", "iso_lines_lr.png", None} == {item["lr_file"] for item in refused}


def test_no_pair_left_is_a_failure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reasons are printed, and no folder is written."""
    assert EXIT_FAILED == main(arguments(folder, "unordered", tmp_path / "out"))
    printed = capsys.readouterr()
    assert "no HR file has the name 'sram'" in printed.out
    assert "no pair is left: 6 refused" in printed.err
    assert not (tmp_path / "out").exists()


def test_existing_alignment_needs_overwrite(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is read."""
    (tmp_path / "alignment.json").write_text("{}")
    assert EXIT_USAGE == main(arguments(folder, "hr", tmp_path))
    assert "replace it with --overwrite" in capsys.readouterr().err


def test_sixteen_bits_and_data_bars(tmp_path: Path) -> None:
    """A window maps the greys, and the rows of the bar are left out on both sides."""
    lr, hr = shifted_pair(simulated("sram"), (2.0, -3.0))
    for side, pixels, bar_px in (("lr", lr, 6), ("hr", hr, 24)):
        bar = np.full((bar_px, pixels.shape[1]), 4095, np.uint16)
        bar[:, ::3] = 0
        (tmp_path / side).mkdir()
        greys = np.concatenate([pixels.astype(np.uint16) * 16, bar])
        tifffile.imwrite(tmp_path / side / "t.tif", greys, photometric="minisblack")

    given = ["--max-rows", "120", "--window", "0,4080"]
    assert 0 == main([*arguments(tmp_path, "hr", tmp_path / "out"), *given])

    [pair] = json.loads((tmp_path / "out" / "alignment.json").read_text())["pairs"]
    left, top, right, bottom = pair["hr_box_px"]
    assert np.array_equal(hr[top:bottom, left:right], read_grey(tmp_path / "out" / "hr" / "t.png"))
    assert pair["shift_y_px"] == pytest.approx(2, abs=0.15)


def test_defaults_are_those_of_the_functions() -> None:
    """They are copied, so that a wrong argument is answered at once."""
    assert (MAX_SHIFT_PX, FULL_RANGE) == (align.MAX_SHIFT_PX, align.FULL_WINDOW)
