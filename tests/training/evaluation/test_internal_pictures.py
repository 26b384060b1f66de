"""`semsr internal-sr` end to end: pictures of a benchmark or a folder, and their evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semsr.cli import main
from tests.training.evaluation.scenes import save
from training.comparison.facts import facts_of
from training.comparison.systems import parse_systems
from training.data.picture_folder import RECORD
from training.detector import Detector, save_detector
from training.detector.network import DetectorNetwork


def run(*arguments: str | Path) -> int:
    """Run the command with a few steps."""
    return main(["internal-sr", *map(str, arguments), "--steps", "2", "--crop-px", "32", "--short"])


@pytest.fixture(scope="module")
def pictures(benchmark_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make pictures of one tile of each split."""
    folder = tmp_path_factory.mktemp("pictures") / "zssr"
    assert 0 == run("--data", benchmark_dir, "--out", folder, "--limit", "1")
    return folder


def test_pictures_of_a_benchmark_are_named_as_its_tiles(
    pictures: Path, benchmark_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both splits of `--split test`, at four times the size; a second run makes the rest only."""
    made = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.png"))
    assert ["test_clean/0000.png", "test_defect/0000.png"] == made
    with Image.open(pictures / "test_clean" / "0000.png") as picture:
        assert (256, 256) == picture.size

    assert 0 == run("--data", benchmark_dir, "--out", pictures, "--limit", "1", "--split", "test")

    answer = capsys.readouterr()
    assert f"{pictures}: 0 pictures made, 2 there before\n" == answer.out
    assert "short: " in answer.err


def test_the_evaluation_reads_them_and_calls_them_short(
    pictures: Path,
    benchmark_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`evaluate --images` finds a picture for each tile, and its row is marked."""
    for name in ("SEMSR_DATA", "SEMSR_VGG16", "SEMSR_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
    save_detector(tmp_path / "d.safetensors", Detector(DetectorNetwork(), 0.5))
    arguments = ["evaluate", "--images", f"zssr={pictures}", "--data", str(benchmark_dir)]
    arguments += ["--report", str(tmp_path / "report"), "--cache", str(tmp_path / "cache")]
    arguments += ["--detector", str(tmp_path / "d.safetensors"), "--jobs", "1", "--limit", "1"]

    main([*arguments, "--json"])

    rows = {row["method"] for row in json.loads(capsys.readouterr().out)}
    assert {"bicubic", "bicubic + histogram match", "zssr (short)", "true HR"} == rows


def test_the_comparison_knows_the_facts(pictures: Path) -> None:
    """`semsr compare NAME=FOLDER` shows that ZSSR is offline, and that the run was short."""
    [facts] = facts_of(parse_systems([f"zssr={pictures}"], []), [], left_out={})

    assert ("zssr", "pictures", True) == (facts.name, facts.kind, facts.is_short)
    assert "it learns at inference time" in facts.offline
    assert "each tile itself" == facts.trained_on
    assert facts.summary.startswith("ZSSR x4, measured configuration; short: ")


def test_a_plain_folder_keeps_its_names(tmp_path: Path) -> None:
    """Both scales in turn, both configurations; the pictures are named as the tiles."""
    lr = tmp_path / "lr"
    for name, sides in (("site 7.png", (32, 40)), ("0001.png", (32, 40)), ("big.png", (48, 36))):
        save(lr / name, np.random.default_rng(1).integers(50, 200, sides).astype(np.uint8))

    arguments = ("--lr", lr, "--configuration", "ideal", "--scales", "2,4")
    assert 0 == run(*arguments, "--out", tmp_path / "sr", "--tiles-together", "4")

    sizes = {}
    for path in (tmp_path / "sr").glob("*.png"):
        with Image.open(path) as picture:
            sizes[path.name] = picture.size
    assert {"site 7.png": (160, 128), "0001.png": (160, 128), "big.png": (144, 192)} == sizes
    record = json.loads((tmp_path / "sr" / RECORD).read_text())
    assert [2, 2] == record["pictures"]["big.png"]["steps"]


def test_other_options_in_one_folder_are_wrong_use(
    pictures: Path, benchmark_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and the difference, and the pictures stay."""
    arguments = ("--data", benchmark_dir, "--out", pictures, "--limit", "1")

    assert 2 == run(*arguments, "--configuration", "ideal")

    assert "configuration 'measured', now 'ideal'" in capsys.readouterr().err
    assert 2 == len(list(pictures.rglob("*.png")))


def test_a_scale_that_is_not_the_benchmarks_is_wrong_use(
    benchmark_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The benchmark knows its scale."""
    assert 2 == run("--data", benchmark_dir, "--out", tmp_path / "out", "--scales", "2")

    assert "has scale 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
