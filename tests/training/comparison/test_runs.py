"""Processes of a comparison: one that fails or dies does not stop the others."""

import os
import signal
from pathlib import Path

import pytest

from training.comparison import runs
from training.comparison.plan import Data
from training.comparison.runs import Done, Job, train_all
from training.comparison.systems import System


def work(item: tuple[str, Data]) -> Done[str, int]:
    """Die, be stopped, or answer, by the name of the item; a spawned process imports this."""
    name, _ = item
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "left":
        os._exit(3)
    return Done(given=name, result=len(name), error=None)


def test_process_that_dies_is_a_failure_of_its_own(tmp_path: Path) -> None:
    """Memory runs out in one run: the others still answer."""
    data = Data(root=tmp_path)
    items = [(name, data) for name in ("killed", "a", "left", "bb")]

    found = {done.given: done for done in runs._in_processes(work, items, at_a_time=2)}

    assert {"a": 1, "bb": 2} == {name: of.result for name, of in found.items() if of.result}
    assert found["killed"].error == (
        "its process died (signal 9); the system does this when memory runs out"
    )
    assert "its process died (exit code 3)" == found["left"].error


def test_stopping_ends_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that is not awaited any more does not go on in the background."""
    monkeypatch.setattr(runs, "STOPPING_S", 0.0)
    items = [(name, Data(root=tmp_path)) for name in ("a", "bb")]
    results = runs._in_processes(work, items, at_a_time=1)
    assert "a" == next(results).given
    results.close()
    assert [] == list(results)


def test_run_that_cannot_begin_is_a_failure(recipe: Path, tmp_path: Path) -> None:
    """Its folder is not there yet; the error is written all the same."""
    job = Job(
        system=System(name="small", kind="recipe", path=recipe),
        seed=0,
        steps=2,
        folder=tmp_path / "runs/small-0",
    )
    [done] = train_all([job], Data(root=tmp_path), at_a_time=1)  # no images there

    assert done.result is None
    assert "train_hr" in (done.error or "")
    assert "train_hr" in (job.folder / "error.txt").read_text()
