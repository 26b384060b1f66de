"""Many tiles through the client: sent and read at once, in order, over one request or several."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h11
import numpy as np
import pytest

from bundle_format.bundle import FLAGS
from semsr.server_process import ServerProcess, running_server
from semsr_client import Client, DeadlineError, ServiceError, SrTile
from service.http.stream.archives import OutEntry, TarArchive
from tests.client_servers import (
    BOTH,
    Answer,
    Run,
    Scripted,
    echo,
    greys,
    run_sync,
    scripted_servers,
    tiles,
)

TINY = {
    "SEMSR_BUNDLE": str(Path(__file__).parent / "data" / "tiny_bundle"),
    "SEMSR_ENGINE": "identity",
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A served tiny bundle."""
    with running_server(TINY) as process:
        yield process


@BOTH
@pytest.mark.parametrize("streams", [1, 3])
def test_tiles_come_back_in_order(server: ServerProcess, run: Run, streams: int) -> None:
    """More than are under way at once, over one request or several that take turns."""
    outcomes = run(server.url, tiles(200), {}, streams=streams)

    assert [number % 256 for number in range(200)] == greys(outcomes)
    first = outcomes[0]
    assert isinstance(first, SrTile)
    assert ((32, 32), np.uint8, "identity", 1) == (
        first.pixels.shape,
        first.pixels.dtype,
        first.engine,
        first.attempts,
    )
    assert {name.replace("_", "-") for name in FLAGS} == first.quality.keys()
    assert first.request_id


@BOTH
def test_sizes_types_and_options_of_tiles_are_kept(server: ServerProcess, run: Run) -> None:
    """One request holds tiles of any shape, 8 and 16 bit, strided and of either byte order."""
    wide = np.random.default_rng(0).integers(0, 4096, (30, 50), dtype=np.uint16)
    source = [wide, wide.astype(">u2")[::2, ::2], np.full((7, 9), 200, np.uint8)]

    outcomes = run(
        server.url, source, {"window": (0, 4095), "answer_dtype": "uint16", "priority": "nightly"}
    )

    shapes = [sr.pixels.shape for sr in outcomes if isinstance(sr, SrTile)]
    assert [(120, 200), (60, 100), (28, 36)] == shapes
    assert all(isinstance(sr, SrTile) and sr.pixels.dtype == np.uint16 for sr in outcomes)
    assert isinstance(outcomes[0], SrTile)
    np.testing.assert_allclose(outcomes[0].pixels[::4, ::4], wide, atol=9)


@BOTH
def test_nothing_to_do_is_done_at_once(run: Run) -> None:
    """No connection is made for no tiles."""
    assert [] == run("http://127.0.0.1:9", [], {})


def test_tiles_are_taken_as_they_are_needed(server: ServerProcess) -> None:
    """A scan of any length never lies in memory."""
    taken: list[int] = []
    with Client(server.url, connections=2) as client:
        results = client.superresolve_many(tiles(50, taken))
        next(results)
        assert len(taken) <= 5
        assert 49 == len(list(results))


@BOTH
def test_a_bad_tile_among_many_is_raised_or_yielded(server: ServerProcess, run: Run) -> None:
    """A scan goes on without it; a pipeline that expects none stops."""
    source = [*tiles(3), np.zeros((1, 60_000), np.uint8), *tiles(2)]

    outcomes = run(server.url, source, {}, errors="yield")

    assert [SrTile, SrTile, SrTile, ServiceError, SrTile, SrTile] == [type(o) for o in outcomes]
    error = outcomes[3]
    assert isinstance(error, ServiceError)
    assert error.status in {413, 422}
    assert error.request_id
    with pytest.raises(ServiceError, match=error.code):
        run(server.url, source, {})


def test_a_loop_that_is_left_early_leaves_nothing_behind(server: ServerProcess) -> None:
    """Neither a thread nor a connection."""
    # Not their number: a thread of an earlier test may end meanwhile.
    before = set(threading.enumerate())
    with Client(server.url) as client:
        for _ in client.superresolve_many(tiles(1000)):
            break
    assert set(threading.enumerate()) <= before


@BOTH
def test_what_is_no_tile_is_refused(server: ServerProcess, run: Run) -> None:
    """The message says what a tile is."""
    with pytest.raises(ValueError, match="a tile is a two-dimensional array of uint8 or uint16"):
        run(server.url, [np.zeros((2, 8, 8), np.uint8)], {})
    with pytest.raises(ValueError, match="streams must be at least 1, got 0"):
        run(server.url, tiles(1), {}, streams=0)


def test_an_error_of_the_source_reaches_the_caller(server: ServerProcess) -> None:
    """A file that cannot be read ends the loop with its own error."""

    def source() -> Iterator[np.ndarray]:
        yield from tiles(3)
        raise OSError("the disk is gone")

    with Client(server.url) as client, pytest.raises(OSError, match="the disk is gone"):
        list(client.superresolve_many(source()))


def unread_bytes(port: int) -> int:
    """What has been sent to the process that listens on a port and it has not read."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        int(row[4].partition(":")[2], 16)
        for row in rows
        if int(row[1].partition(":")[2], 16) == port
    )


def test_a_service_that_is_killed_loses_no_tile() -> None:
    """In the middle of a scan: what was not answered goes to the service that follows."""
    with (
        running_server({**TINY, "SEMSR_DRAIN_S": "0"}) as first,
        ThreadPoolExecutor(1) as pool,
        Client(first.url, timeout_s=120, connections=4) as client,
    ):
        port = first.url.rpartition(":")[2]
        results = client.superresolve_many(tiles(40))
        got = [next(results) for _ in range(10)]
        os.kill(first.pid, signal.SIGSTOP)
        # One more tile goes to a service that cannot answer it any more.
        following = pool.submit(next, results)
        deadline_s = time.monotonic() + 60
        while not unread_bytes(int(port)):
            assert time.monotonic() < deadline_s, "the next tile was not sent"
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)
        os.waitpid(first.pid, 0)
        with running_server({**TINY, "SEMSR_PORT": port}) as second:
            assert second.url == first.url
            got += [following.result(), *results]
    assert list(range(40)) == greys(got)
    assert any(isinstance(sr, SrTile) and sr.attempts > 1 for sr in got)


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Start scripted servers."""
    with scripted_servers() as start:
        yield start


def breaks_off(answer: Answer) -> None:
    """Answers two tiles, and half of a third one, which has come."""
    answer.begin()
    for _ in range(2):
        answer.entry(answer.tile())
    answer.tile()
    answer.send(h11.Data(bytes(TarArchive().entry(OutEntry("a", "b", b"c"))[0])))


@BOTH
def test_what_was_not_answered_is_sent_again(scripted: Callable[..., Scripted], run: Run) -> None:
    """Once only what is missing, and nothing twice to the caller."""
    server = scripted(breaks_off, echo)

    outcomes = run(server.url, tiles(5), {"connections": 3})

    assert [0, 1, 2, 3, 4] == greys(outcomes)
    assert [1, 1, 2] == [sr.attempts for sr in outcomes[:3] if isinstance(sr, SrTile)]
    assert 2 == len(server.heads)


@pytest.mark.parametrize(("status", "code"), [(503, "not-ready"), (408, "request-timeout")])
def test_a_request_that_the_service_ends_goes_on_in_another(
    scripted: Callable[..., Scripted], status: int, code: str
) -> None:
    """A service that stops, and an upload that paused for too long."""

    def stops(answer: Answer) -> None:
        answer.begin()
        answer.entry(answer.tile())
        answer.problem(status, code, scope="batch", tiles_done=1)
        answer.end()

    server = scripted(stops, echo)

    assert [0, 1, 2, 3] == greys(run_sync(server.url, tiles(4), {}))


@BOTH
def test_a_saturated_service_is_asked_again_when_it_says(
    scripted: Callable[..., Scripted], run: Run
) -> None:
    """By the milliseconds in the body, or the header's seconds."""
    body = b'{"type": "urn:semsr:problem:queue-full", "detail": "no", "retry_after_ms": 300}'
    server = scripted(
        lambda answer: answer.whole(503, body),
        lambda answer: answer.whole(429, b"busy", **{"retry-after": "1"}),
        echo,
    )

    outcomes = run(server.url, tiles(2), {})

    assert [0, 1] == greys(outcomes)
    first, second, third = server.times_s
    assert second - first >= 0.3
    assert third - second >= 1.0


@BOTH
@pytest.mark.parametrize("errors", ["raise", "yield"])
def test_a_request_that_is_refused_ends_the_loop(
    scripted: Callable[..., Scripted], run: Run, errors: str
) -> None:
    """It would be refused again; it does not concern one tile only."""
    body = b'{"type": "urn:semsr:problem:unauthorized", "detail": "no key"}'
    server = scripted(lambda answer: answer.whole(401, body))

    with pytest.raises(ServiceError, match=r"unauthorized \(401\): no key") as caught:
        run(server.url, tiles(2), {}, errors=errors)

    assert server.heads[0]["x-request-id"] == caught.value.request_id


def test_the_head_says_what_the_client_was_told(scripted: Callable[..., Scripted]) -> None:
    """Options, key, and headers of one's own."""
    server = scripted(echo)

    run_sync(
        server.url,
        tiles(1),
        {
            "api_key": "secret",
            "headers": {"X-Lot": "7"},
            "window": (1, 2),
            "timeout_s": 2.5,
            "priority": "nightly",
        },
    )

    assert {
        "content-type": "application/x-tar",
        "authorization": "Bearer secret",
        "x-lot": "7",
        "x-window": "1,2",
        "x-request-timeout-ms": "2500.000",
        "x-priority": "nightly",
        "x-answer-dtype": "uint8",
    }.items() <= server.heads[0].items()


def quiet(answer: Answer) -> None:
    """Reads and says nothing, as a proxy that gathers requests does."""
    answer.read_on()


@BOTH
def test_silence_ends_with_the_deadline(
    scripted: Callable[..., Scripted], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the error says what may be in the way."""
    monkeypatch.setattr("semsr_client.stream._SILENCE_S", 0.05)
    server = scripted(quiet)

    # Where the machine stands still there may be no time left for silence: then there is more.
    for timeout_s in (0.2, 20.0):
        with pytest.raises(DeadlineError) as caught:
            run(server.url, tiles(1), {"timeout_s": timeout_s})
        if server.heads:
            break

    assert re.search(r"within [\d.]+ s: .*a proxy that gathers requests", str(caught.value))


@BOTH
def test_tiles_of_a_service_that_is_away_get_deadline_errors(run: Run) -> None:
    """Each in its place; the scan goes through."""
    outcomes = run("http://127.0.0.1:9", tiles(3), {"timeout_s": 0.2}, errors="yield")

    assert [DeadlineError] * 3 == [type(outcome) for outcome in outcomes]
    assert "unreachable" in str(outcomes[0])


def test_a_tile_that_waited_for_too_long_is_a_deadline_error(
    scripted: Callable[..., Scripted],
) -> None:
    """As for a single tile."""

    def late(answer: Answer) -> None:
        answer.begin()
        answer.tile()
        answer.problem(504, "deadline-exceeded")
        answer.end()

    [outcome] = run_sync(scripted(late).url, tiles(1), {}, errors="yield")

    assert isinstance(outcome, DeadlineError)
    assert 504 == outcome.status


def one_too_many(answer: Answer) -> None:
    """Answers a tile twice."""
    answer.begin()
    grey = answer.tile()
    answer.entry(grey)
    answer.entry(grey)
    answer.end()


def one_too_few(answer: Answer) -> None:
    """Ends well without an answer."""
    answer.begin()
    answer.tile()
    answer.end()


@pytest.mark.parametrize(
    ("step", "timeout_s", "words"),
    [
        (one_too_many, 30.0, None),
        (one_too_few, 30.0, "have no answer"),
        (lambda answer: answer.whole(502, b"<html>bad gateway"), 30.0, "http-502"),
        (lambda answer: answer.whole(200, b"hello" * 200), 0.5, "unreachable|deadline"),
    ],
)
def test_answers_that_are_none_are_errors(
    scripted: Callable[..., Scripted],
    step: Callable[[Answer], None],
    timeout_s: float,
    words: str | None,
) -> None:
    """Whatever stands between, the caller gets an error and never another tile's answer."""
    server = scripted(step)
    if words is None:
        assert [0] == greys(run_sync(server.url, tiles(1), {}))
        return
    with pytest.raises(ServiceError, match=words):
        run_sync(server.url, tiles(1), {"timeout_s": timeout_s})
