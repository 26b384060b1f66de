"""The places of a pool's processes, with processes of the test."""

import asyncio
import signal
import socket
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from service.pool.arena import Arena, Geometry
from service.pool.children import Child, LoadError
from service.pool.front_end_processes import kill_hanging, make_front_ends

pytestmark = pytest.mark.anyio


def place(command: list[str], ended: list[int], failed: list[str]) -> Child:
    """A place; `ended` and `failed` hear what it tells, and it goes on until `failed` has two."""

    def on_failed(reason: str) -> bool:
        failed.append(reason)
        return len(failed) < 2

    return Child(
        name="child-0",
        command=lambda: command,
        fds=(),
        on_end=lambda: ended.append(1),
        on_failed=on_failed,
        ready=asyncio.get_running_loop().create_future(),
    )


async def test_a_process_that_cannot_be_started_now_is_started_later() -> None:
    """The system may be short of memory, processes or file descriptors for a moment."""
    ended: list[int] = []
    failed: list[str] = []
    command = ["/nowhere/python"]
    child = place(command, ended, failed)
    child.ready.set_result(None)
    restarts: list[int] = []

    def on_restart() -> None:
        restarts.append(1)
        command[:] = [sys.executable, "-c", "import time; time.sleep(600)"]

    run = asyncio.create_task(child.run(is_stopping=lambda: False, on_restart=on_restart))
    async with asyncio.timeout(60):
        while child.process is None:  # noqa: ASYNC110 (a process tells nobody)
            await asyncio.sleep(0.01)
    child.is_wanted = False
    child.signal(signal.SIGKILL)
    await run
    assert (len(ended), len(restarts), failed) == (2, 1, [])


async def test_a_process_that_cannot_be_kept_running_is_reported_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the fifth failure in a row on, until there is no reason to go on."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("service.pool.children.asyncio.sleep", pause)
    ended: list[int] = []
    failed: list[str] = []
    child = place(["/nowhere/python"], ended, failed)
    child.ready.set_result(None)
    await child.run(is_stopping=lambda: False, on_restart=lambda: None)
    assert (len(ended), len(failed)) == (6, 2)
    assert "No such file" in failed[0]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert child.has_failed


async def test_a_process_that_becomes_ready_ends_a_row_of_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its card has returned; and the longest pause is bounded however long it was gone."""
    pauses: list[float] = []
    child = place(["/nowhere/python"], [], ["earlier"])
    child.ready.set_result(None)
    child.failures = 3000

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        child.is_wanted = False

    monkeypatch.setattr("service.pool.children.asyncio.sleep", pause)
    child.on_failed = lambda _: True
    await child.run(is_stopping=lambda: False, on_restart=lambda: None)
    assert pauses == [8.0]

    child.is_wanted = True
    child.command = lambda: [sys.executable, "-c", ""]
    child.on_end = child.set_ready  # as if it had been ready
    await child.run(is_stopping=lambda: not child.failures, on_restart=lambda: None)
    assert not child.has_failed


async def test_a_first_process_that_cannot_be_started_is_told() -> None:
    """With the system's reason."""
    child = place(["/nowhere/python"], [], [])
    await child.run(is_stopping=lambda: False, on_restart=lambda: None)
    with pytest.raises(LoadError, match=r"child-0 could not be started: .*No such file"):
        child.ready.result()


@pytest.mark.parametrize(
    ("started_before_s", "is_ready", "expected"),
    [(59.0, False, []), (61.0, False, [signal.SIGKILL]), (61.0, True, [])],
)
async def test_a_process_that_hangs_while_it_starts_is_killed(
    started_before_s: float, is_ready: bool, expected: list[signal.Signals]
) -> None:
    """It can give no sign of life yet, and its connections would wait for ever."""
    sent: list[int] = []
    process: Any = SimpleNamespace(returncode=None, send_signal=sent.append)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arena = Arena.create(Geometry(3, slots=1, lr_bytes=1, sr_bytes=16, snapshots=2))
        [front] = make_front_ends(
            arena,
            [listener],
            supervisor="none",
            first_snapshot=1,
            frees_memory=True,
            on_failed=lambda _: False,
        )
        front.process = process
        front.is_ready = is_ready
        front.started_s = time.monotonic() - started_before_s
        front.heard_s = time.monotonic()
        kill_hanging([front], timeout_s=1.0)
    assert sent == expected
