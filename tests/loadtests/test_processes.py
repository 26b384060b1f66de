"""The service's processes from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtests.outcomes import Outcome
from loadtests.processes import (
    ENGINE_MODULE,
    MemoryWatch,
    engine_pids,
    family_mib,
    mean_mib,
)
from loadtests.scenarios import engine_kill

# Children say when they are there: until then their memory grows.
TREE = """
import subprocess, sys
code = "import sys; print(flush=True); sys.stdin.read()"
children = [
    subprocess.Popen([sys.executable, "-c", code, word], stdout=subprocess.PIPE)
    for word in sys.argv[1:]
]
for child in children:
    child.stdout.readline()
print(*[child.pid for child in children], flush=True)
sys.stdin.read()
for child in children:
    child.kill()
"""


@contextmanager
def process_tree(*words: str) -> Iterator[tuple[int, list[int]]]:
    """A process with a child for each word on their command lines; yields their ids."""
    with subprocess.Popen(
        [sys.executable, "-c", TREE, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        yield parent.pid, [int(pid) for pid in parent.stdout.readline().split()]
        assert parent.stdin is not None
        parent.stdin.close()


def test_engine_processes_are_the_children_that_run_the_engine() -> None:
    """The parent that names it on its own command line is none, nor is a front end."""
    with process_tree("service.pool.front", ENGINE_MODULE) as (parent, [_, engine]):
        assert engine_pids(parent) == {engine}


def test_memory_is_that_of_the_whole_family() -> None:
    """Children count; readings cover the time of the block."""
    with process_tree("a", "b") as (parent, children):
        assert family_mib(parent) > sum(family_mib(pid) for pid in children)
        with MemoryWatch(parent, period_s=0.01) as memory:
            while len(memory.samples) < 3:
                pass
    times = [time_s for time_s, _ in memory.samples]
    assert mean_mib(memory.samples, from_s=times[0], to_s=times[-1]) > 1
    with pytest.raises(ValueError, match="no memory was read"):
        mean_mib(memory.samples, from_s=times[-1] + 1, to_s=times[-1] + 2)
    assert family_mib(os.getpid()) > 1


def outcome(sent_s: float, status: int, failure: str = "") -> Outcome:
    """An outcome a tenth of a second after it was sent."""
    return Outcome("online", 0, sent_s, sent_s, sent_s + 0.1, status, failure, None)


def test_kills_are_judged_by_answers() -> None:
    """Served again is the first picture of a request that left after the kill."""
    outcomes = [
        outcome(0.0, 200),
        outcome(0.95, 200),  # left before the kill: says nothing
        outcome(1.1, 503),
        outcome(1.2, 500),
        outcome(1.3, 0, "broken"),
        outcome(2.0, 200),
    ]
    assert engine_kill._served_after(outcomes, 1.0) == pytest.approx(1.1)
    assert engine_kill._served_after(outcomes, 3.0) == float("inf")
    assert engine_kill._count(outcomes) == {
        "sent": 6,
        "good": 3,
        "refused": 1,
        "other": "500: 1",
        "unanswered": 1,
    }
