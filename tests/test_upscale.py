"""`semsr upscale`: whole files or none, nothing overwritten unseen, every bad file named."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from engines.batches import EngineOutput
from semsr import upscale, upscaler
from semsr.cli import main
from semsr.commands.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from tests.fakes import FakeEngine

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"
ENGINE = ["--bundle", str(TINY_BUNDLE), "--engine", "identity"]


def write_tile(path: Path, grey: int = 90, size: int = 24) -> Path:
    """Write a grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), grey, dtype=np.uint8)).save(path)
    return path


def run(*arguments: str | Path) -> int:
    """Run the command with the tiny bundle and the engine that repeats pixels."""
    return main(["upscale", *map(str, arguments), *ENGINE])


def files(folder: Path) -> list[str]:
    """List what lies below a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> npt.NDArray[np.generic]:
    """Read an image."""
    with Image.open(path) as image:
        return np.asarray(image)


def test_non_finite_values_cost_their_own_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files: one whose answer the graph calls broken, and a good one."""
    images = [write_tile(tmp_path / f"{name}.png", grey) for grey, name in enumerate(("bad", "ok"))]
    engine = FakeEngine()

    def spoil(output: EngineOutput) -> EngineOutput:
        broken = np.array([[0.5, *[np.nan] * 5]], dtype=np.float32)
        return output._replace(flags=broken) if output.sr[0, 0, 0, 0] == 0 else output

    engine.spoil = spoil
    monkeypatch.setattr(upscaler, "load_engine", lambda *_: engine)

    rows = upscale.upscale_files(images, tmp_path / "out", bundle=TINY_BUNDLE, engine="identity")

    assert ["bad.png", "ok.png"] == [row.source.name for row in rows]
    assert "50.00%" in (rows[0].error or "")
    assert ["ok_x4.png"] == files(tmp_path / "out")


def test_every_bad_file_is_named_and_the_good_ones_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken, a missing and an unknown file: one line each, which names the path once."""
    good = write_tile(tmp_path / "good.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    notes = tmp_path / "notes.txt"
    notes.write_text("no image")

    code = run(broken, tmp_path / "missing.png", good, notes, "--out", tmp_path / "out")
    captured = capsys.readouterr()

    assert EXIT_FAILED == code
    assert ["good_x4.png"] == files(tmp_path / "out")
    assert f"{tmp_path}/out/good_x4.png  96x96\n" == captured.out
    for line in (
        f"{tmp_path}/missing.png: no such file\n",
        f"{notes}: unknown suffix '.txt'; expected .png",
        f"{broken}: ",
        "3 of 4 images failed",
    ):
        assert 1 == captured.err.count(line)
    assert "Errno" not in captured.err


def test_folders_are_searched_and_mirrored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Subfolders stay apart; hidden files, what macOS adds and results are left out."""
    lot = tmp_path / "lot"
    for name in ("a.png", "deep/a.png", "._a.png", "__MACOSX/a.png", ".cache/a.png"):
        write_tile(lot / name)
    (lot / "notes.txt").write_text("no image")
    for _ in range(2):  # the second run does not take the first one's results for images
        assert 0 == run(lot, "--out", lot / "sr", "--overwrite", "--json")
    captured = capsys.readouterr()
    rows = json.loads(captured.out.split("]\n")[0] + "]")

    assert ["a_x4.png", "deep/a_x4.png"] == files(lot / "sr")
    assert [(96, 96), (96, 96)] == [(row["height"], row["width"]) for row in rows]
    assert [str(lot / "sr/a_x4.png"), str(lot / "sr/deep/a_x4.png")] == [
        row["output"] for row in rows
    ]
    assert "left out: 1 x .txt\n" in captured.err


def test_folders_that_are_not_searched_are_named_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreadable folder is an error with its name, a link to a folder is left out and said."""
    lot = tmp_path / "lot"
    write_tile(lot / "a.png")
    write_tile(lot / "locked" / "b.png")
    write_tile(tmp_path / "other" / "c.png")
    (lot / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "linked").symlink_to(tmp_path / "other")
    scandir = os.scandir

    def refuse(path: str) -> object:  # root may read everything, so permissions do not do
        if str(path) == str(lot / "locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code = run(lot, "--out", tmp_path / "out")
    error = capsys.readouterr().err

    assert EXIT_FAILED == code
    assert f"{lot}/locked: cannot be read: Permission denied\n" in error
    assert "left out: 1 x link to a folder\n" in error
    assert ["a_x4.png"] == files(tmp_path / "out")
    assert EXIT_USAGE == run(tmp_path / "links", "--out", tmp_path / "out")
    assert "1 x link to a folder, which is not followed" in capsys.readouterr().err


def test_a_fifo_is_an_error_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading it would wait for a writer that never comes."""
    write_tile(tmp_path / "lot" / "a.png")
    os.mkfifo(tmp_path / "lot" / "b.png")

    assert EXIT_FAILED == run(tmp_path / "lot", "--out", tmp_path / "out")
    assert f"{tmp_path}/lot/b.png: not a regular file\n" in capsys.readouterr().err
    assert ["a_x4.png"] == files(tmp_path / "out")


def test_the_demo_refuses_a_fifo_before_it_starts_a_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would wait for a writer that never comes, with the service running."""
    os.mkfifo(tmp_path / "b.png")

    assert EXIT_FAILED == main(["demo", "--tiles", str(tmp_path), "--out", str(tmp_path / "out")])
    assert f"semsr demo: {tmp_path}/b.png is not a regular file\n" == capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_beside_their_sources_are_not_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run into the source folder writes the same files, and says what it left out."""
    write_tile(tmp_path / "a.png")
    write_tile(tmp_path / "deep" / "b.png")
    write_tile(tmp_path / "own_x4.png")  # the user's: there is no own.png

    for _ in range(2):
        assert 0 == run(tmp_path, "--out", tmp_path, "--overwrite")
    results = ["a_x4.png", "deep/b_x4.png", "own_x4_x4.png"]
    assert sorted([*results, "a.png", "deep/b.png", "own_x4.png"]) == files(tmp_path)
    assert "left out: 3 x result of an earlier run\n" in capsys.readouterr().err


def test_a_name_that_is_not_utf8_stops_nothing(tmp_path: Path) -> None:
    """Its bytes are written with backslashes on a strict stdout; every image is done."""
    lot, out = tmp_path / "lot", tmp_path / "out"
    write_tile(lot / "a.png")
    write_tile(lot / "z.png")
    (lot / "m.png").write_bytes((lot / "a.png").read_bytes())
    (lot / "m.png").rename(lot / os.fsdecode(b"b\xff.png"))
    done = subprocess.run(
        [sys.executable, "-m", "semsr.cli", "upscale", str(lot), "--out", str(out), *ENGINE],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )

    expected = [f"{out}/{name}_x4.png  96x96" for name in ("a", r"b\xff", "z")]
    assert (0, expected) == (done.returncode, done.stdout.decode().splitlines())
    assert sorted(["a_x4.png", os.fsdecode(b"b\xff_x4.png"), "z_x4.png"]) == files(out)


def test_results_are_replaced_only_when_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An existing result is named before anything is loaded; --overwrite replaces it."""
    tile = write_tile(tmp_path / "a.png", 90)
    target = tmp_path / "out" / "a_x4.png"
    target.parent.mkdir()
    target.write_text("precious")

    assert EXIT_USAGE == run(tile, "--out", target.parent)
    assert f"1 of 1 results exist already: {target}; --overwrite" in capsys.readouterr().err
    assert "precious" == target.read_text()
    assert 0 == run(tile, "--out", target.parent, "--overwrite")
    assert {90} == set(pixels(target).flatten().tolist())


def test_an_interrupted_run_is_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--skip-existing keeps the results that are there, computes the others, and counts both."""
    lot, out = tmp_path / "lot", tmp_path / "out"
    for name in ("a.png", "deep/b.png"):
        write_tile(lot / name)
    (out / "deep").mkdir(parents=True)
    (out / "deep" / "b_x4.png").write_text("kept")

    assert 0 == run(lot, "--out", out, "--skip-existing")
    captured = capsys.readouterr()
    assert f"{out}/a_x4.png  96x96\n" == captured.out
    assert "semsr upscale: 1 written, 1 kept (result exists)\n" in captured.err
    assert "kept" == (out / "deep" / "b_x4.png").read_text()
    assert 0 == run(lot, "--out", out, "--skip-existing", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [True, True] == [row["skipped"] for row in rows]
    assert [f"{out}/a_x4.png", f"{out}/deep/b_x4.png"] == [row["output"] for row in rows]
    with pytest.raises(SystemExit):
        run(lot, "--out", out, "--skip-existing", "--overwrite")


def test_patterns_choose_among_the_images_of_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that match one of them; what is left out is counted, and none at all is an error."""
    lot, out = tmp_path / "lot", tmp_path / "out"
    for name in ("1_se.png", "1_raw.png", "deep/2_se.png", "deep/extra.png"):
        write_tile(lot / name)

    assert 0 == run(lot, "--out", out, "--pattern", "*_se.png", "--pattern", "extra*")
    assert ["1_se_x4.png", "deep/2_se_x4.png", "deep/extra_x4.png"] == files(out)
    assert "left out: 1 x not matched by --pattern\n" in capsys.readouterr().err
    assert EXIT_USAGE == run(lot, "--out", out, "--pattern", "*.tif")
    error = capsys.readouterr().err
    assert f"{lot} holds no image; expected *.tif; 4 x not matched by --pattern" in error


def test_flags_beyond_their_limits_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each, with its meaning; the picture is written; JSON rows have every flag."""
    engine = FakeEngine()
    flags = np.array([[0, 0, 0.9, 0.5, 1.25, 0.5]], dtype=np.float32)
    engine.spoil = lambda output: output._replace(flags=flags)
    monkeypatch.setattr(upscaler, "load_engine", lambda *_: engine)
    tile = write_tile(tmp_path / "a.png")

    assert 0 == run(tile, "--out", tmp_path / "out", "--json")
    captured = capsys.readouterr()
    [row] = json.loads(captured.out)
    assert f"{tile}: residual is 1.25 of its limit: a structure of the image may" in captured.err
    assert "domain-distance is" not in captured.err
    assert 0.5 == row["quality"]["domain-distance"]
    assert row["note"].startswith("residual is 1.25")


def test_sigterm_leaves_whole_files_only(tmp_path: Path) -> None:
    """Exit code 130 as after Ctrl-C, and no temporary file."""
    tiles = [write_tile(tmp_path / "lot" / f"{number}.png") for number in range(200)]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "semsr.cli", "upscale", *map(str, tiles), "--out", out, *ENGINE],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert EXIT_INTERRUPTED == process.returncode
    written = files(out)
    assert 1 <= len(written) < len(tiles)
    assert all(name.endswith("_x4.png") for name in written)
    assert {(96, 96)} == {pixels(out / name).shape for name in written}


def test_a_full_disk_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    """Writing ends in the middle (by a limit on the size of files): no file, and exit code 1."""
    tile = tmp_path / "noise.png"
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tile)
    program = (
        "import resource, sys; from semsr.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["upscale", str(tile), "--out", str(tmp_path / "out"), *ENGINE]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )

    assert EXIT_FAILED == done.returncode
    assert f"{tmp_path}/out/noise_x4.png cannot be written: File too large" in done.stderr
    assert [] == files(tmp_path / "out")


def test_the_window_of_a_12_bit_image_can_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 bits in 16: nearly black without a window, which is said; the whole range with it."""
    ramp = np.tile(np.linspace(0, 4095, 24).astype(np.uint16), (24, 1))
    tile = tmp_path / "12in16.png"
    Image.fromarray(ramp).save(tile)
    target = tmp_path / "out" / "12in16_x4.png"

    assert 0 == run(tile, "--out", target.parent)
    assert 16 == pixels(target).max()
    assert "values end at 4095 of 65535" in capsys.readouterr().err
    assert 0 == run(tile, "--out", target.parent, "--window", "0,4095", "--overwrite")
    expected = np.floor(ramp[0].astype(float) * 255 / 4095 + 0.5)
    assert expected.tolist() == pixels(target)[2, 2::4].tolist()
    assert "greys" not in capsys.readouterr().err


@pytest.mark.parametrize("window", ["4095", "0,70000", "9,9", "a,b", "-1,5", "1,2,3"])
def test_a_malformed_window_is_refused(
    tmp_path: Path, window: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option, its value and what was expected."""
    code = run(write_tile(tmp_path / "a.png"), "--out", tmp_path / "out", f"--window={window}")

    assert EXIT_USAGE == code
    assert f"--window is '{window}'; expected two grey levels LO,HI" in capsys.readouterr().err


def test_an_image_beyond_the_limit_says_how_to_raise_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal names option and variable, and the option works."""
    tile = write_tile(tmp_path / "a.png", size=48)

    assert EXIT_FAILED == run(tile, "--out", tmp_path / "out", "--max-pixels", "2303")
    error = capsys.readouterr().err
    assert "48×48 pixels" in error
    assert "--max-pixels or SEMSR_MAX_PIXELS raises the limit" in error
    assert 0 == run(tile, "--out", tmp_path / "out", "--max-pixels", "2304")


def test_arguments_are_checked_before_the_engine_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that meet, an empty folder, files that are all bad: no engine is loaded for them."""

    def refuse(*_: object) -> None:
        raise AssertionError("the engine was loaded")

    monkeypatch.setattr(upscaler, "load_engine", refuse)
    tile = write_tile(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()

    assert EXIT_USAGE == run(tile, tile, "--out", tmp_path / "out")
    assert "would both become" in capsys.readouterr().err
    assert EXIT_USAGE == run(tmp_path / "empty", "--out", tmp_path / "out")
    assert "holds no image" in capsys.readouterr().err
    assert EXIT_FAILED == run(tmp_path / "missing.png", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert EXIT_USAGE == run(tile, "--out", tile)
    assert f"--out: {tile} is a file, expected a folder" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert EXIT_USAGE == run(tile, "--out", tmp_path / "new" / "out")
    assert f"--out: {tmp_path} cannot be written to: permission" in capsys.readouterr().err
