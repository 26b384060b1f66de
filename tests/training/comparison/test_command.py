"""The subcommand `semsr compare`: plan, trainings, one report, and going on after a stop."""

import json
import shutil
from pathlib import Path

import pytest

from models import build_network, save_network
from semsr.cli import main
from semsr.commands.options import EXIT_FAILED, EXIT_USAGE
from training.comparison.facts import facts_of
from training.comparison.systems import System
from training.config.recipe import ConfigError, load_recipe
from training.data.picture_folder import RECORD
from training.evaluation.folders.benchmark import load_benchmark


@pytest.fixture
def pictures(benchmark_dir: Path, tmp_path: Path) -> Path:
    """Finished pictures of a method that answers with the true HR, and its facts."""
    folder = tmp_path / "finished"
    for split in ("test_defect", "test_clean"):
        for tile in load_benchmark(benchmark_dir).tiles(split):
            (folder / split).mkdir(parents=True, exist_ok=True)
            shutil.copy(tile.hr_path, folder / split / f"{tile.name}.png")
    facts = {
        "format_version": 1,
        "kind": "semsr-pictures",
        "summary": "the true HR",
        "is_short": False,
        "offline": "it knows the truth",
    }
    (folder / RECORD).write_text(json.dumps(facts))
    return folder


def run(benchmark: Path, tmp_path: Path, *arguments: str) -> int:
    """Compare on the tiny benchmark."""
    return main(
        [
            *("compare", *arguments, "--data", str(benchmark), "--out", str(tmp_path / "out")),
            *("--cache", str(tmp_path / "cache"), "--jobs", "1", "--limit", "2"),
        ]
    )


def test_systems_are_trained_judged_and_reported(
    benchmark_dir: Path,
    recipe: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A second start repeats nothing and writes the same report; one more system is added."""
    monkeypatch.delenv("SEMSR_VGG16", raising=False)
    arguments = [f"perfect={pictures}", str(recipe), "--set", "small:optimization.steps=6"]

    assert 0 == run(benchmark_dir, tmp_path, *arguments)

    out = tmp_path / "out"
    shown = capsys.readouterr().out
    text = (out / "comparison.md").read_text()
    document = json.loads((out / "comparison.json").read_text())
    checkpoint = out / "runs/small-0/checkpoint.safetensors"
    trained = checkpoint.stat().st_mtime_ns
    plan = document["systems"][1]["plan"]
    assert (6, 40, 0.15) == (plan["steps"], plan["whole_steps"], plan["share"])
    assert ["perfect", "small"] == document["rows_judged"]
    assert ["bicubic", "bicubic + histogram match", "perfect", "small", "true HR"] == [
        row["name"] for row in document["rows"]
    ]
    assert "small (short)" in shown
    assert "| small (short) | HR images | 15.0 % | 6 of 40 |" in text
    assert "no: it knows the truth" in text
    assert {"better"}.isdisjoint(verdict["outcome"] for verdict in document["verdicts"])
    for row in document["rows"]:
        line = next(line for line in shown.splitlines() if line.startswith(f"| {row['name']}"))
        assert f"{row['figures']['recall_unseen'][0]:.3f}" in line
    assert (out / "index.html").is_file()
    assert any((out / "pictures").glob("gradients_*.png"))

    assert 0 == run(benchmark_dir, tmp_path, *arguments)
    again = json.loads((out / "comparison.json").read_text())
    assert trained == checkpoint.stat().st_mtime_ns
    assert [row["figures"] for row in document["rows"]] == [row["figures"] for row in again["rows"]]


def test_overwriting_removes_the_trainings(
    benchmark_dir: Path, pictures: Path, tmp_path: Path
) -> None:
    """They were planned otherwise, and a new one must not go on with them; other folders stay."""
    for folder in ("runs/perfect-0", "runs/other-0", "mine"):
        (tmp_path / "out" / folder).mkdir(parents=True)

    assert 0 == run(benchmark_dir, tmp_path, f"perfect={pictures}", "--overwrite", "--plan")

    assert ["compare.json", "mine"] == sorted(path.name for path in (tmp_path / "out").iterdir())


def test_finished_systems_are_checked_before_any_training(
    benchmark_dir: Path,
    recipe: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missing picture, and a network that needs a reference image."""
    network = build_network("lir_style", {"width": 2, "num_blocks": 1})
    save_network(tmp_path / "style.safetensors", network, training={})
    (pictures / "test_clean/0001.png").unlink()
    for given, message in (
        (f"p={pictures}", "p: 1 of 4 pictures are missing, the first is"),
        (f"s={tmp_path / 'style.safetensors'}", "s: lir_style needs a reference image"),
    ):
        assert EXIT_USAGE == run(benchmark_dir, tmp_path, str(recipe), given)
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_plan_trains_nothing(
    benchmark_dir: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It times the steps of each recipe on this machine; what cannot be trained is said."""
    bad = tmp_path / "bad.toml"
    bad.write_text(recipe.read_text().replace("crop_px = 16", "crop_px = 400"))

    code = run(benchmark_dir, tmp_path, str(recipe), str(bad), "--plan", "--json")

    output = capsys.readouterr()
    [row] = json.loads(output.out)
    assert ("small", 40, 1.0) == (row["system"], row["steps"], row["share"])
    assert row["step_s"] > 0
    assert EXIT_FAILED == code
    assert "bad failed: ConfigError: images smaller than a crop" in output.err
    assert not (tmp_path / "out/runs").exists()


def test_wrong_arguments_are_refused(
    benchmark_dir: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is trained, with the name, the value and what was expected."""
    for arguments, message in (
        ((str(recipe), "--minutes", "0"), "--minutes is 0.0; expected more than 0"),
        ((str(recipe), "--seeds", "0"), "--seeds"),
        (("nothing",), "no recipe 'nothing'"),
        ((f"b={tmp_path / 'no.safetensors'}",), "no checkpoint at"),
        ((str(recipe), "--set", 'data.hr=["other"]'), "data.hr: no image file matches 'other'"),
    ):
        assert EXIT_USAGE == run(benchmark_dir, tmp_path, *arguments)
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_facts_of_pictures_of_an_unknown_version_are_refused(
    benchmark_dir: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Formats are checked, never guessed, and before any training."""
    path = pictures / RECORD
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 7'))

    assert EXIT_USAGE == run(benchmark_dir, tmp_path, f"p={pictures}")
    assert "format_version 7; expected 1" in capsys.readouterr().err


def test_checkpoint_tells_what_it_was_trained_on(recipe: Path, tmp_path: Path) -> None:
    """One of fewer steps than its recipe is short; other files are refused."""
    network = build_network("rep_sr", {"channels": 4, "num_blocks": 1, "scale": 4})
    whole = load_recipe(recipe).model_dump(mode="json")
    path = tmp_path / "c.safetensors"
    system = System(name="c", kind="checkpoint", path=path)

    for steps, is_short in ((40, False), (39, True)):
        save_network(path, network, training={"name": "n", "recipe": whole, "steps_done": steps})
        [facts] = facts_of([system], [], left_out={})
        assert ("HR images", "n", is_short) == (facts.trained_on, facts.summary, facts.is_short)

    path.write_bytes(b"no checkpoint")
    with pytest.raises(ConfigError, match=r"c: .* is not a safetensors file"):
        facts_of([system], [], left_out={})
