"""Training on a GPU, tried on a CPU: rows of runs, the first loss, failures."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loadtests.gpu import rows, training
from loadtests.gpu.report import ChildError
from loadtests.gpu.training_job import STEPS, TrainingJob
from loadtests.gpu.training_run import measure_training
from loadtests.results import Row
from training import trainer
from training.config.method import FLSeSimConfig
from training.config.recipe import find_recipe, load_recipe


def job(recipe: str, data: Path | str = "data", *, seconds: float = 0.05) -> TrainingJob:
    """A job on the CPU without workers."""
    return TrainingJob(
        recipe=recipe,
        data=str(data),
        vgg16="",
        device="cpu",
        precision="fp32",
        workers=0,
        degrade_on_device=True,
        seconds=seconds,
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A data folder for the recipe `tiny`."""
    folder = tmp_path / "data" / "hr"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(2):
        grey = rng.integers(0, 256, (96, 96), dtype=np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
    return folder.parent


def test_run_is_timed_and_its_work_counted(pictures: Path) -> None:
    """The trainer is itself again afterwards."""
    own = trainer.Trainer
    row = measure_training(TrainingJob.from_json(job("tiny", pictures).as_json()))

    assert trainer.Trainer is own
    assert row["steps"] >= 4
    assert row["samples_per_s"] == pytest.approx(2 * row["steps_per_s"])
    assert 0 <= row["data_percent"] <= 100
    assert row["precision"] == "fp32"
    assert row["operations"] > 1e6
    assert row["read_and_written"] > 1e5
    assert row["upload"] == 0
    assert row["first_loss"] > 0


def test_first_step_is_the_same_in_a_run_of_one(pictures: Path) -> None:
    """The same seed, crops and weights give the same loss."""
    whole = measure_training(job("tiny", pictures))

    assert measure_training(job("tiny", pictures, seconds=0.0)) == {
        "first_loss": whole["first_loss"]
    }


@pytest.mark.parametrize("recipe", training.RECIPES)
def test_overrides_fit_the_shipped_recipes(recipe: str) -> None:
    """Every term from the first step on, no validation, images of one folder."""
    loaded = load_recipe(find_recipe(recipe), overrides=job(recipe).all_overrides())

    assert loaded.optimization.steps == STEPS
    assert loaded.optimization.degrade_on_device
    assert loaded.run.validate_every_steps == STEPS
    assert loaded.data.hr == ["train_hr"]
    if isinstance(loaded.method, FLSeSimConfig):
        assert loaded.method.adversarial.start_share == 0.0
        assert loaded.method.statistics.start_share == 0.0


def test_rows_relate_runs_to_floor_and_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs in the order of their value; a failing one costs its own row."""

    def lines(module: str, arguments: list[str], **_: object) -> Iterator[Row]:
        if module.endswith("rates"):
            yield {"name": "operations", "kind": "bf16", "per_s": 1e12}
            return
        asked = TrainingJob.from_json(arguments[0])
        if asked.seconds == 0:
            assert asked.precision == "fp32"
            yield {"first_loss": 2.0}
            return
        if asked.recipe == "f_lsesim":
            raise ChildError("no file of VGG16's weights is named")
        yield {
            "first_loss": 2.02,
            "precision": "bf16",
            "steps_per_s": 5.0,
            "operations": 1e11,
            "read_and_written": 0.0,
            "upload": 0.0,
        }

    monkeypatch.setattr(rows, "json_lines", lines)
    monkeypatch.setattr(training, "json_lines", lines)
    code = training.main(
        [
            *("--device", "cpu", "--out", str(tmp_path), "--data", str(tmp_path)),
            *("--recipe", "f_lsesim", "supervised", "--workers", "3", "1"),
        ]
    )

    found = json.loads((tmp_path / "gpu-training.json").read_text())["rows"][1:]
    assert code == 0
    on, by = "where the network runs", "by the workers"
    assert [(r["recipe"], r.get("workers"), r.get("degraded")) for r in found] == [
        ("f_lsesim", 3, on),
        ("supervised", 3, on),
        ("supervised, first step on the CPU", None, None),
        ("f_lsesim", 3, by),
        ("f_lsesim", 1, on),
        ("supervised", 3, by),
        ("supervised", 1, on),
    ]
    assert found[0]["problem"] == "no file of VGG16's weights is named"
    assert (found[1]["limit_per_s"], found[1]["percent_of_limit"]) == (10.0, 50.0)
    assert found[2]["loss_percent"] == pytest.approx(1.0)


def test_data_are_simulated_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """LR and HR images, in the folders that the recipes name."""
    seen: list[int] = []

    def lines(module: str, arguments: list[str], **_: object) -> Iterator[Row]:
        if not module.endswith("rates"):
            folder = Path(TrainingJob.from_json(arguments[0]).data)
            seen.extend(len(list((folder / name).iterdir())) for name in ("train_lr", "train_hr"))
        yield from ()

    monkeypatch.setattr(rows, "json_lines", lines)
    monkeypatch.setattr(training, "json_lines", lines)
    training.main(
        [
            *("--device", "cpu", "--out", str(tmp_path), "--tiles", "1"),
            *("--workers", "0", "--recipe", "supervised"),
        ]
    )

    assert seen == [1, 1] * 2
