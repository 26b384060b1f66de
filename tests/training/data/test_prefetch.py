"""Results of worker processes: the same in the same order, and every end is noticed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.makers import Gated, Noise, UnpicklableError
from training.data.prefetch import Maker, Prefetch, WorkerError

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 60.0


def _prefetch(workers: int = 2, last: int = 8, first: int = 0, **makers: Maker) -> Prefetch:
    return Prefetch(
        makers,
        workers=workers,
        first=first,
        last=last,
        label=lambda number: f"the noise of step {number}",
    )


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def _is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_results_are_those_of_the_makers_in_order() -> None:
    """Two makers of different seeds, one of which holds a large array, in three processes."""
    base = np.arange(100_000, dtype=np.float64)
    makers = {"one": Noise(seed=1, base=base), "other": Noise(seed=2)}

    with _prefetch(workers=3, first=5, last=25, **makers) as prefetch:
        found = {n: [prefetch.take(name, n) for name in makers] for n in range(5, 25)}

    for number, results in found.items():
        for maker, result in zip(makers.values(), results, strict=True):
            assert np.array_equal(maker(number), result)


def test_a_maker_may_be_asked_late_and_with_gaps() -> None:
    """Terms of a loss that begin at a later step find their batches all the same."""
    always, late = Noise(seed=1), Noise(seed=2)

    with _prefetch(workers=1, last=30, always=always, late=late) as prefetch:
        for number in range(30):
            assert np.array_equal(always(number), prefetch.take("always", number))
            if number >= 20 and number % 3 == 0:
                assert np.array_equal(late(number), prefetch.take("late", number))


@pytest.mark.parametrize("raised", [ValueError, UnpicklableError])
def test_a_fault_is_raised_at_its_own_number_and_names_it(raised: type[Exception]) -> None:
    """What was made before it is still good; what comes after it does not matter."""
    maker = Noise(fails_at=3, raised=raised)

    with _prefetch(workers=2, noise=maker) as prefetch:
        for number in range(3):
            assert np.array_equal(maker(number), prefetch.take("noise", number))
        with pytest.raises(
            WorkerError, match=rf"the noise of step 3 failed .*: {raised.__name__}: no noise at 3"
        ) as caught:
            prefetch.take("noise", 3)

    cause = caught.value.__cause__
    assert (raised is ValueError) == isinstance(cause, ValueError)
    if cause is not None:
        assert "makers.py" in cause.__notes__[0]


def test_a_killed_worker_is_named_with_what_it_was_doing() -> None:
    """The trainer must not wait for a result that nobody makes any more."""
    said = r"worker process 0 \(process id \d+\) was killed by SIGKILL .*of step 2$"

    with (
        _prefetch(workers=1, noise=Noise(dies_at=2)) as prefetch,
        pytest.raises(WorkerError, match=said),
    ):
        prefetch.take("noise", 2)


def test_close_ends_the_workers_in_the_middle_of_their_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that do not finish in time are killed; none is left."""
    monkeypatch.setattr("training.data.prefetch.CLOSE_S", 0.1)
    prefetch = _prefetch(workers=1, gated=Gated(folder=tmp_path))
    process_id = prefetch._workers[0].process.pid or 0
    _until((tmp_path / "began-0").exists, "the worker did not begin")

    prefetch.close()

    assert not _is_alive(process_id)


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, state: str) -> None:
    """SIGKILL of the trainer leaves nothing behind, whether a worker waits or works."""
    script = f"""
import time
from pathlib import Path
from tests.training.makers import Gated, Noise
from training.data.prefetch import Prefetch
maker = Gated(folder=Path({str(tmp_path)!r})) if {state == "busy"} else Noise()
prefetch = Prefetch({{"it": maker}}, workers=1, first=0, last=4, label=str)
if {state == "idle"}:
    [prefetch.take("it", number) for number in range(4)]
print(*(worker.process.pid for worker in prefetch._workers), flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    if state == "busy":
        _until((tmp_path / "began-0").exists, "the worker did not begin")
    parent.kill()
    parent.wait()
    parent.stdout.close()

    (tmp_path / "go").touch()

    _until(lambda: not _is_alive(worker), "the worker outlives its parent")


def test_ctrl_c_ends_the_parent_and_the_workers_without_a_word(tmp_path: Path) -> None:
    """A terminal sends SIGINT to all of them: the workers leave the answer to their parent."""
    script = """
import signal
from tests.training.makers import Noise
from training.data.prefetch import Prefetch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignore"
with Prefetch({"it": Noise()}, workers=2, first=0, last=4, label=str) as prefetch:
    print(*(worker.process.pid for worker in prefetch._workers), flush=True)
    try:
        prefetch.take("it", 0)
        import time
        print("ready", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""
    group = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert group.stdout is not None
    workers = [int(word) for word in group.stdout.readline().split()]
    assert "ready\n" == group.stdout.readline()

    os.killpg(group.pid, signal.SIGINT)

    _, said = group.communicate(timeout=PATIENCE_S)
    assert ("", 0) == (said, group.returncode)
    assert [False, False] == [_is_alive(worker) for worker in workers]
