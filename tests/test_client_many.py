"""Bad tiles and bad sources among many: an error in its place, and no other answer is lost."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Literal

import h11
import numpy as np
import pytest

from semsr_client import AsyncClient, Client, DeadlineError, ServiceError, SrTile, Tile, TileError
from service.http.stream.archives import TarArchive
from tests.client_servers import (
    BOTH,
    Answer,
    Outcome,
    Run,
    Scripted,
    echo,
    greys,
    run_sync,
    scripted_servers,
    tiles,
)

STREAMS = pytest.mark.parametrize("streams", [1, 3])
GOOD = np.full((8, 8), 7, np.uint8)

BAD: list[tuple[Any, str]] = [
    (None, "got None, which is what cv2.imread gives for a file that it cannot read"),
    (np.zeros((8, 8), np.float32), r"got float32 of shape \(8, 8\)"),
    (np.zeros((8, 8), np.int16), r"got int16 of shape \(8, 8\)"),
    (np.zeros((8, 8), np.uint32), r"got uint32 of shape \(8, 8\)"),
    (np.zeros((8, 8), bool), r"got bool of shape \(8, 8\)"),
    (np.zeros((8, 8, 3), np.uint8), r"got uint8 of shape \(8, 8, 3\)"),
    (np.zeros(8, np.uint8), r"got uint8 of shape \(8,\)"),
    (np.zeros((), np.uint8), r"got uint8 of shape \(\)"),
    (np.zeros((0, 8), np.uint8), r"got uint8 of shape \(0, 8\)"),
    (np.full((2, 2), None, object), r"got object of shape \(2, 2\)"),
    (np.ma.masked_equal(GOOD, 7), "got a masked array"),
    ([[1, 2], [3, 4]], "got a list"),
    ("tile.png", r"got 'tile.png' \(str\)"),
    (0, r"got 0 \(int\)"),
    (StopIteration(), "got a StopIteration"),
]


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Start scripted servers."""
    with scripted_servers() as start:
        yield start


@pytest.fixture
def url(scripted: Callable[..., Scripted]) -> str:
    """Address of a server that answers every tile."""
    return scripted(echo).url


def mixed() -> list[Any]:
    """Every bad tile between good ones, which are numbered by their grey."""
    source: list[Any] = []
    for number, (bad, _) in enumerate(BAD):
        source += [np.full((8, 8), number, np.uint8), bad]
    return source


@BOTH
def test_each_bad_tile_is_an_error_in_its_place(url: str, run: Run) -> None:
    """The message has its index, what it is, and what was expected; every good one is answered."""
    outcomes = run(url, mixed(), {"connections": 2}, errors="yield")

    assert list(range(len(BAD))) == greys(outcomes[::2])
    errors = outcomes[1::2]
    assert [TileError] * len(BAD) == [type(error) for error in errors]
    for number, (error, (_, words)) in enumerate(zip(errors, BAD, strict=True)):
        assert isinstance(error, ServiceError)
        assert error.detail.startswith(f"tile {2 * number + 1}: a tile is a two-dimensional array")
        with pytest.raises(ValueError, match=words):
            raise error


@STREAMS
@BOTH
def test_bad_tiles_cost_nothing_over_any_number_of_streams(
    scripted: Callable[..., Scripted], run: Run, streams: int
) -> None:
    """Nor does their place in the turns matter."""
    server = scripted(echo, connections=streams)
    source = [None, *tiles(5), None, None, *tiles(3), None]

    outcomes = run(server.url, source, {}, errors="yield", streams=streams)

    kinds = [TileError if tile is None else SrTile for tile in source]
    assert kinds == [type(outcome) for outcome in outcomes]
    assert [*range(5), *range(3)] == greys(outcomes)


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("bad", [None, np.zeros((2, 8, 8), np.uint8)])
def test_without_yield_it_is_raised_in_its_place(
    scripted: Callable[..., Scripted], streams: int, bad: Tile
) -> None:
    """The answers before it have come; nothing ends as if it were complete."""
    server = scripted(echo, connections=streams)
    got: list[Outcome] = []
    source: list[Any] = [*tiles(3), bad, *tiles(2)]

    with Client(server.url) as client, pytest.raises(TileError, match="tile 3: a tile") as caught:
        got.extend(client.superresolve_many(source, streams=streams))

    assert isinstance(caught.value, ValueError)
    assert [0, 1, 2] == greys(got)


def test_the_asyncio_client_raises_it_in_its_place(url: str) -> None:
    """Likewise."""
    got: list[Outcome] = []
    source: Any = (*tiles(3), None)

    async def run() -> None:
        async with AsyncClient(url) as client:
            async for outcome in client.superresolve_many(source):
                got.append(outcome)  # noqa: PERF401 (a comprehension would lose them)

    with pytest.raises(TileError, match=r"tile 3: a tile is .*got None"):
        asyncio.run(run())
    assert [0, 1, 2] == greys(got)


def failing(error: Exception) -> Iterator[np.ndarray]:
    """Three tiles, then an error of the source's own."""
    yield from tiles(3)
    raise error


@pytest.mark.parametrize("errors", ["raise", "yield"])
@pytest.mark.parametrize("error", [OSError("the disk is gone"), ValueError("no such slice")])
def test_an_error_of_the_source_comes_after_the_answers_before_it(
    url: str, errors: Literal["raise", "yield"], error: Exception
) -> None:
    """It is raised as it is."""
    got: list[Outcome] = []

    with Client(url) as client, pytest.raises(type(error)) as caught:
        got.extend(client.superresolve_many(failing(error), errors=errors))

    assert error is caught.value
    assert [0, 1, 2] == greys(got)


def test_an_interrupt_of_the_source_comes_at_once(url: str) -> None:
    """Nothing is waited for when somebody presses Ctrl-C."""

    def source() -> Iterator[np.ndarray]:
        yield GOOD
        raise KeyboardInterrupt

    with Client(url) as client, pytest.raises(KeyboardInterrupt):
        next(iter(client.superresolve_many(source())))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"tiles": None}, TypeError, "tiles is a NoneType; expected an iterable"),
        ({"errors": "ignore"}, ValueError, "errors is 'ignore'; expected 'raise' or 'yield'"),
        ({"streams": 0}, ValueError, "streams must be at least 1, got 0"),
    ],
)
def test_impossible_arguments_are_refused_at_once(
    kind: Callable[..., Any], arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    """And not when the first result is asked for."""
    with pytest.raises(error, match=words):
        kind("http://semsr").superresolve_many(**{"tiles": [GOOD], **arguments})


@BOTH
def test_no_tiles_have_no_answers(run: Run) -> None:
    """And need no service."""
    assert [] == run("http://127.0.0.1:9", [], {})


def lost_engine(answer: Answer) -> None:
    """Answers one tile; the engine of the second one is away."""
    answer.begin()
    answer.entry(answer.tile())
    answer.tile()
    answer.problem(503, "not-ready", retry_after_ms=60, index=1)
    answer.end()


@BOTH
def test_a_tile_that_the_service_could_not_take_is_sent_again(
    scripted: Callable[..., Scripted], run: Run
) -> None:
    """As a single one is: an engine that starts again costs no tile of a night's scan."""
    server = scripted(lost_engine, echo)

    outcomes = run(server.url, tiles(3), {})

    assert [0, 1, 2] == greys(outcomes)
    assert server.times_s[1] - server.times_s[0] >= 0.06


def test_absurd_waits_end_in_deadline_errors(scripted: Callable[..., Scripted]) -> None:
    """Each tile in its place, as for a single one."""
    content = b'{"type": "x", "detail": "busy", "retry_after_ms": 1e300}'
    server = scripted(lambda answer: answer.whole(503, content))

    outcomes = run_sync(server.url, tiles(2), {}, errors="yield")

    assert [DeadlineError] * 2 == [type(outcome) for outcome in outcomes]


def test_waits_that_mean_nothing_are_passed_over(scripted: Callable[..., Scripted]) -> None:
    """A negative one, and one that is not a number."""
    server = scripted(
        lambda answer: answer.whole(503, b'{"retry_after_ms": NaN}', **{"retry-after": "-5"}), echo
    )

    assert [0, 1] == greys(run_sync(server.url, tiles(2), {}))


def trickles(answer: Answer) -> None:
    """Sends an entry bit by bit, each in time, and never all of it."""
    answer.begin()
    grey = answer.tile()
    for piece in TarArchive().entry(answer.next_entry(grey)):
        for start in range(len(piece) - 1):
            answer.send(h11.Data(bytes(piece[start : start + 1])))
            answer.pause(0.02)


@BOTH
def test_an_answer_that_trickles_ends_with_the_deadline(
    scripted: Callable[..., Scripted], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes alone are not an answer."""
    monkeypatch.setattr("semsr_client.stream._SILENCE_S", 0.05)

    [outcome] = run(scripted(trickles).url, tiles(1), {"timeout_s": 0.5}, errors="yield")

    assert isinstance(outcome, DeadlineError)
    assert "no answer for 0.55 s" in outcome.detail


@BOTH
def test_a_redirect_names_its_address(scripted: Callable[..., Scripted], run: Run) -> None:
    """As a proxy in front of a https service answers."""
    server = scripted(lambda answer: answer.whole(301, b"", location="https://semsr/"))

    with pytest.raises(ServiceError, match=r"http-301 .*redirected to 'https://semsr/'"):
        run(server.url, tiles(1), {})
