"""Progress of training's loops: shown by the command that runs them, silent otherwise."""

from pathlib import Path

from tests.training.recording import Recorder
from training.ground.progress import progress, shown_by, tracked
from training.trainer import train


def test_work_is_shown_where_the_caller_says_and_nowhere_else() -> None:
    """The display counts for its context alone; without one the same loop is silent."""
    recorder = Recorder()
    with shown_by(recorder):
        assert ["a", "b"] == list(tracked(["a", "b"], "reading", unit="file"))
        with progress("fitting", 3, done=1) as steps:
            steps.update(2)
    assert ["c"] == list(tracked(iter("c"), "reading"))

    assert ["reading: 2 of 2 file", "fitting: 3 of 3 step"] == recorder.lines


def test_every_long_part_of_a_run_is_shown(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """Reading, preparing and training: nothing works in silence, and all is counted."""
    recorder = Recorder()
    with shown_by(recorder):
        train(
            tiny_recipe,
            data_root=data_root,
            run_dir=tmp_path / "run",
            overrides=["optimization.steps=2"],
        )

    assert [
        "reading images: 0 of None step",
        "preparing the method: 0 of None step",
        "training: 2 of 2 step",
    ] == recorder.lines
