"""The subcommand `semsr evaluate`: names of bundles, a whole run, clear refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from semsr.cli import main
from semsr.evaluate_arguments import NamedBundle, parse_bundles, parse_seeds
from tests.training.evaluation.scenes import film, grey, save, shrunk
from training.detector import Detector, save_detector
from training.detector.network import DetectorNetwork

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"


def test_bundles_are_named_by_folder_or_by_hand(tmp_path: Path) -> None:
    """A folder alone names its row; several after one name are seeds of one method."""
    a, b = tmp_path / "a", tmp_path / "b"

    assert [NamedBundle(name="a", path=a)] == parse_bundles([str(a)])
    assert [NamedBundle(name="mine", path=b)] == parse_bundles([f"mine={b}"])
    assert parse_bundles([f"mine={a},{b}"]) == [
        NamedBundle(name="mine #1", path=a, group="mine"),
        NamedBundle(name="mine #2", path=b, group="mine"),
    ]
    assert ["a", "a"] == [item.group for item in parse_seeds([a, b])]
    for wrong in ("", "mine=", "=x"):
        with pytest.raises(ValueError, match="names no bundle"):
            parse_bundles([wrong])
    with pytest.raises(ValueError, match="at least two"):
        parse_seeds([a])


def test_a_checkpoint_is_named_by_its_run(tmp_path: Path) -> None:
    """`runs/x/checkpoint.safetensors` is x: every run's file has the same name."""
    path = tmp_path / "x" / "checkpoint.safetensors"
    path.parent.mkdir()
    path.touch()

    assert ["x"] == [item.name for item in parse_bundles([str(path)])]


def test_a_bundle_is_judged_and_the_exit_code_tells(
    benchmark_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With an untrained detector targets are missed; the report is written all the same."""
    for name in ("SEMSR_DATA", "SEMSR_VGG16", "SEMSR_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
    save_detector(tmp_path / "d.safetensors", Detector(DetectorNetwork(), 0.5))
    arguments = ["evaluate", "--bundle", f"tiny={TINY_BUNDLE}", "--data", str(benchmark_dir)]
    arguments += ["--report", str(tmp_path / "report"), "--cache", str(tmp_path / "cache")]
    arguments += ["--detector", str(tmp_path / "d.safetensors"), "--jobs", "1", "--limit", "2"]

    code = main([*arguments, "--json"])
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}

    assert 1 == code
    assert {"bicubic", "bicubic + histogram match", "tiny", "true HR"} == set(rows)
    assert rows["tiny"]["ms"] > 0
    assert 0 < rows["tiny"]["gmac"] < 1
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert 2 == document["benchmark"]["limit"]
    assert any("quick look" in note for note in document["notes"])
    assert 1 == main(arguments)
    lines = capsys.readouterr().out.splitlines()
    # One line a target, then a table of recall by kind: its head and every method.
    assert len(document["targets"]) + 1 + len(rows) == len(lines)
    assert any(line.startswith("missed") for line in lines)
    assert lines[len(document["targets"])].startswith("recall by kind  ")


def test_nothing_to_evaluate_on_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a benchmark nor real tiles: exit code 2 and what to give."""
    monkeypatch.delenv("SEMSR_DATA", raising=False)

    assert 2 == main(["evaluate"])
    assert "give --lr FOLDER" in capsys.readouterr().err
    assert 2 == main(["evaluate", "--data", str(tmp_path)])
    assert "is not a benchmark" in capsys.readouterr().err


def test_own_tiles_of_any_size_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders of a fab's own files: 16 bit through the window, a data bar cut off, exit code 0."""
    monkeypatch.delenv("SEMSR_VGG16", raising=False)
    for name, sides, count in (("lr", (70, 64), 2), ("hr", (250, 240), 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 4096, sides).astype(np.uint16)
            tifffile.imwrite(tmp_path / name / f"wafer {number}.tif", pixels)

    arguments = ["evaluate", "--bundle", f"tiny={TINY_BUNDLE}", "--lr", str(tmp_path / "lr")]
    arguments += ["--hr", str(tmp_path / "hr"), "--window", "0,4095", "--max-rows", "60"]
    arguments += ["--report", str(tmp_path / "report"), "--json"]
    assert 0 == main(arguments)

    answer = capsys.readouterr()
    own = {row["method"]: row.get("own") for row in json.loads(answer.out)}
    assert {"bicubic", "bicubic + histogram match", "tiny"} == set(own)
    assert 2 == own["tiny"]["tiles"]
    assert own["tiny"]["domain_share"] is not None
    # The window makes 0 to 4095 grey of 0 to 255: without it all would be nearly black.
    with Image.open(tmp_path / "report" / "pictures" / "own_hr.png") as picture:
        assert np.asarray(picture.convert("L"))[120:200, 60:200].mean() > 100
    assert "reading images" in answer.err
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert ["wafer 0.tif", "wafer 1.tif"] == [
        tile["name"] for tile in document["own"]["tiles"] if tile["method"] == "tiny"
    ]


def test_pairs_real_tiles_and_sheets_go_through_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One folder of pairs, a folder in the layout of real tiles, sheets at full size; no truth."""
    monkeypatch.delenv("SEMSR_VGG16", raising=False)
    scene = film(blobs=[(128, 128, 80.0)])
    for folder, ends in (("pairs", ("_lr", "_hr")), ("real/test_real_pairs", ("_lr", "_hr"))):
        save(tmp_path / folder / f"a{ends[0]}.png", shrunk(scene, seed=1))
        save(tmp_path / folder / f"a{ends[1]}.png", grey(scene, noise=2.0))
    save(tmp_path / "lr" / "a.png", shrunk(scene, seed=2))
    pairs = str(tmp_path / "pairs")

    arguments = ["evaluate", "--bundle", f"tiny={TINY_BUNDLE}", "--lr", str(tmp_path / "lr")]
    arguments += ["--pairs", pairs, pairs, "--real", f"given={tmp_path / 'real'}"]
    arguments += ["--report", str(tmp_path / "report"), "--pictures", str(tmp_path / "sheets")]
    code = main(arguments)

    out = capsys.readouterr().out
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert int("missed" in {target["status"] for target in document["targets"]}) == code
    assert {"given: real_pairs"} == {row["set"] for row in document["real"]["outlines"]}
    assert 1 == document["own"]["pairs"][0]["pairs"]
    assert "given: real_pairs" in out
    assert {"given_real_pairs_a.png", "own_0000.png", "own_pair_0000.png"} == {
        path.name for path in (tmp_path / "sheets").iterdir()
    }
    with Image.open(tmp_path / "sheets" / "given_real_pairs_a.png") as sheet:
        assert sheet.width > 3 * 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "a", "b"], "--pairs needs --lr"),
        (["--real", "="], "names no folder; expected DIR or NAME=DIR"),
        (["--real", "."], "holds no folder of real tiles"),
        (["--detector-threshold", "1.5"], "expected a score between 0 and 1"),
        (["--max-gmac", "0"], "expected more than 0"),
    ],
)
def test_what_cannot_be_judged_is_a_usage_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """Exit code 2, with the option, its value and what was expected."""
    monkeypatch.delenv("SEMSR_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    assert 2 == main(["evaluate", *arguments])
    assert message in capsys.readouterr().err
