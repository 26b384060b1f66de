"""The training: it learns, resumes exactly, and writes a detector that works."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from semsr.cli import main
from training.detector import load_detector
from training.detector.tiles import LabelledTile, TilePlan
from training.detector.train import DetectorOptions, DetectorTrainer, DetectorTrainingError
from training.run.folder import RunDir

Draw = Callable[..., LabelledTile]
OPTIONS = DetectorOptions(
    seed=1, tiles=4, steps=3, batch_size=2, crop_px=64, channels=(8, 8), hr_px=192
)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _trainer(draw: Draw, folder: Path, options: DetectorOptions = OPTIONS) -> DetectorTrainer:
    tiles = [draw(seed=n, defects=3 * (n % 2)) for n in range(options.tiles)]
    return DetectorTrainer(options, tiles, RunDir(folder))


def test_resumed_run_ends_like_an_uninterrupted_one(drawn_tile: Draw, tmp_path: Path) -> None:
    """Stopped after two of three steps and resumed, all weights are the same bit for bit."""
    whole = _trainer(drawn_tile, tmp_path / "whole")
    whole.run()
    _trainer(drawn_tile, tmp_path / "parts").run(until=2)

    resumed = _trainer(drawn_tile, tmp_path / "parts")
    resumed.restore()
    assert 2 == resumed.step
    resumed.run()

    for expected, actual in ((whole.network, resumed.network), (whole.average, resumed.average)):
        for name, tensor in expected.state_dict().items():
            assert torch.equal(tensor, actual.state_dict()[name])


def test_resuming_nothing_or_another_run_is_refused(drawn_tile: Draw, tmp_path: Path) -> None:
    """There must be a state, and it must be of the same options."""
    with pytest.raises(DetectorTrainingError, match="holds no run to resume"):
        _trainer(drawn_tile, tmp_path / "run").restore()
    _trainer(drawn_tile, tmp_path / "run").run(until=1)

    other = DetectorOptions(**{**vars(OPTIONS), "steps": 4})
    with pytest.raises(DetectorTrainingError, match="was started with"):
        _trainer(drawn_tile, tmp_path / "run", other).restore()


def test_training_finds_bright_squares_from_the_command_line(
    drawn_tile: Draw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A short run on drawn tiles lowers the loss, finds nearly all, and its file says so."""

    def drawn(plan: TilePlan, cache: Path, *, workers: int) -> list[LabelledTile]:
        del cache, workers
        first = 1000 * (1 + plan.simulator_seed % 3)
        return [
            drawn_tile(seed=first + n, defects=0 if plan.is_clean(n) else 3)
            for n in range(plan.count)
        ]

    monkeypatch.setattr("training.detector.train.labelled_tiles", drawn)
    arguments = ["--seed=1", "--tiles=8", "--steps=100", "--batch-size=2", "--crop-px=96"]
    counts = ["--clean-tiles=10", "--defect-tiles=4"]

    assert 0 == main(["train-detector", f"--out={tmp_path}", *arguments, *counts])

    assert 2 == main(["train-detector", f"--out={tmp_path}", *arguments, *counts])
    shown = capsys.readouterr().err
    assert "already holds a run" in shown
    assert "training the detector: done, 100 of 100 steps" in shown
    stats = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [50, 100] == [record["step"] for record in stats]
    assert stats[1]["loss"] < 0.5 * stats[0]["loss"]
    detector = load_detector(tmp_path / "detector.safetensors")
    assert detector.description["test"]["threshold"] == detector.threshold
    assert detector.description["test"]["recall"] > 0.9
    assert detector.description["test"]["alarms_per_tile"] <= 0.1
    assert 8 == detector.description["training"]["tiles"]
    tile = drawn_tile(seed=77, defects=3)
    # The surest three; how many fainter ones pass a threshold from ten tiles is the processor's.
    surest = detector.find(tile.hr)[:3]
    assert 3 == len({tile.cells[int(found.y_px / 4), int(found.x_px / 4)] for found in surest})
    for found in surest:
        assert found.score >= detector.threshold
        assert tile.cells[int(found.y_px / 4), int(found.x_px / 4)] > 0


def test_diverged_training_stops(drawn_tile: Draw, tmp_path: Path) -> None:
    """A loss that is not finite ends the run with the step's number."""
    trainer = _trainer(drawn_tile, tmp_path)
    torch.nn.init.constant_(trainer.network.head.weight, float("nan"))

    with pytest.raises(DetectorTrainingError, match="step 1: loss nan"):
        trainer.run()


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_impossible_options_are_refused(
    drawn_tile: Draw, tmp_path: Path, change: dict[str, float]
) -> None:
    """Counts and the rate are positive."""
    options = DetectorOptions(**{**vars(OPTIONS), **change})

    with pytest.raises(DetectorTrainingError, match="must be positive"):
        _trainer(drawn_tile, tmp_path, options)
