"""The client: what it sends, when it tries again, and when it gives up."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from types import SimpleNamespace

import httpx2
import numpy as np
import pytest

from semsr.server_process import running_server
from semsr_client import AsyncClient, Client, DeadlineError, ServiceError, SrTile
from semsr_client import client as module
from tests.client_fakes import BOTH, TILE, Script, answer, broken, problem, sync_call


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have slept; nothing sleeps."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    # In this module alone: other threads of the process sleep as well.
    clock = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    return slept


@BOTH
def test_a_tile_comes_back_with_all_that_is_known_of_it(call: Callable[..., SrTile]) -> None:
    """Pixels, quality, what computed it, and how long it took."""
    script = Script(answer)

    began_s = time.monotonic()
    sr = call(script, priority="nightly", window=(0, 4095), timeout_s=5.0)
    elapsed_ms = 1e3 * (time.monotonic() - began_s)

    np.testing.assert_array_equal(sr.pixels, TILE.repeat(4, axis=0).repeat(4, axis=1))
    assert {"non-finite": 0, "saturated": 0.01, "consistency": 0.99, "consistency-worst": 0.9} == (
        sr.quality
    )
    assert ("default", "0123456789ab", "onnx", "fp32") == (
        sr.model,
        sr.model_version,
        sr.engine,
        sr.precision,
    )
    assert {"recv": 0.1, "infer": 12.5, "total": 13.0} == sr.timing_ms
    assert 1 == sr.attempts
    [request] = script.requests
    assert "http://semsr/superresolve" == str(request.url)
    assert TILE.tobytes() == request.content
    headers = request.headers
    assert ("8,8", "uint8", "nightly", "0,4095") == (
        headers["x-tile-shape"],
        headers["x-tile-dtype"],
        headers["x-priority"],
        headers["x-window"],
    )
    assert 5000 - elapsed_ms - 1 <= float(headers["x-request-timeout-ms"]) <= 5000


def test_big_endian_and_strided_tiles_are_sent_as_the_service_reads_them() -> None:
    """Whatever lies in memory, little endian and row by row goes over the wire."""
    script = Script(answer)
    tile = np.arange(128, dtype=">u2").reshape(8, 16)[:, ::2]
    with Client("http://semsr", transport=script.transport, answer_dtype="uint16") as client:
        sr = client.superresolve(tile)

    assert tile.astype("<u2").tobytes() == script.requests[0].content
    np.testing.assert_array_equal(sr.pixels[::4, ::4], tile)


@BOTH
def test_a_saturated_service_is_asked_again_when_it_says(
    call: Callable[..., SrTile], waits: list[float]
) -> None:
    """By the milliseconds in the body, or the header's seconds, and up to a quarter more."""
    header_only = httpx2.Response(503, text="busy", headers={"retry-after": "2"})
    script = Script(
        lambda _: problem(503, "queue-full", retry_after_ms=400), lambda _: header_only, answer
    )

    sr = call(script)

    assert 3 == sr.attempts
    assert 0.4 <= waits[0] <= 0.5
    assert 2.0 <= waits[1] <= 2.5


@BOTH
def test_a_broken_connection_is_tried_again_ever_later(
    call: Callable[..., SrTile], waits: list[float]
) -> None:
    """A service that restarts is away for a moment."""
    sr = call(Script(broken, broken, broken, answer))

    assert 4 == sr.attempts
    assert 0.05 <= waits[0] < 0.1 <= waits[1] < 0.2 <= waits[2] <= 0.25


@BOTH
def test_nothing_is_waited_for_beyond_the_deadline(
    call: Callable[..., SrTile], waits: list[float]
) -> None:
    """A service that asks for ten seconds of a client that has one gets no second request."""
    script = Script(lambda _: problem(503, "queue-full", retry_after_ms=10_000))

    with pytest.raises(DeadlineError, match=r"1 attempts within 1 s: queue-full") as caught:
        call(script, timeout_s=1.0)

    assert 503 == caught.value.status
    assert [] == waits
    assert 1 == len(script.requests)


@BOTH
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "unsuitable-image", ServiceError),
        (500, "engine-failed", ServiceError),
        (504, "deadline-exceeded", DeadlineError),
    ],
)
def test_other_problems_are_not_tried_again(
    call: Callable[..., SrTile], status: int, code: str, kind: type[ServiceError]
) -> None:
    """They would be answered the same; the error carries what the service said."""
    script = Script(lambda _: problem(status, code))

    with pytest.raises(kind, match=f"{code} .{status}.: as it is") as caught:
        call(script)

    assert (status, code, "r1") == (
        caught.value.status,
        caught.value.code,
        caught.value.request_id,
    )
    assert 1 == len(script.requests)


def test_an_answer_of_something_else_is_an_error() -> None:
    """A proxy's page, or another service behind the address."""
    page = Script(lambda _: httpx2.Response(502, text="<html>bad gateway</html>"))
    with pytest.raises(ServiceError, match=r"http-502 \(502\): <html>bad gateway"):
        sync_call(page)
    other = Script(lambda _: httpx2.Response(200, text="hello"))
    with pytest.raises(ServiceError, match="its Content-Type is 'text/plain"):
        sync_call(other)


@pytest.mark.parametrize(
    "tile",
    [
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((8, 8), np.float32),
        np.zeros(8, np.uint8),
        np.zeros((0, 8), np.uint8),
    ],
)
def test_what_is_no_tile_is_refused_before_it_is_sent(tile: np.ndarray) -> None:
    """The message says what a tile is."""
    with (
        Client("http://semsr", transport=Script(answer).transport) as client,
        pytest.raises(ValueError, match="a tile is a two-dimensional array of uint8 or uint16"),
    ):
        client.superresolve(tile)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout_s": 0.0}, "timeout_s must be above 0"),
        ({"timeout_s": float("nan")}, "timeout_s must be above 0"),
        ({"timeout_s": 3601.0}, "at most 3600, got 3601"),
        ({"connections": 0}, "at least 1, got 0"),
        ({"url": "semsr:8000"}, "url is 'semsr:8000'; expected http"),
        ({"url": ""}, "url is ''; expected http"),
        ({"url": "http://semsr:port"}, "url is 'http://semsr:port'"),
        ({"url": "http://semsr?model=fast"}, r"without \? and #; a model is chosen by model=NAME"),
        ({"url": "http://semsr/#fast"}, r"without \? and #"),
        ({"headers": {"x-line": "a\r\nb"}}, "the header x-line has characters"),
        ({"headers": {"X-Request-ID": "7"}}, "give it as request_id of superresolve"),
        ({"priority": "weekly"}, "priority is 'weekly'; expected 'online' or 'nightly'"),
        ({"answer_bits": 12}, "answer_bits is 12; expected 8 or 16"),
        (
            {"answer_bits": 16, "answer_dtype": "uint8"},
            "answer_bits is 16 and answer_dtype 'uint8'; expected 'uint16'",
        ),
        ({"answer_dtype": "float32"}, "answer_dtype is 'float32'; expected 'uint8' or 'uint16'"),
        ({"model": ""}, "model is empty"),
        ({"window": (0, 65536)}, r"window is \(0, 65536\); expected two grey levels"),
        ({"window": (9, 9)}, r"0 <= lo < hi <= 65535"),
        ({"window": (0.5, 9)}, r"window is \(0.5, 9\)"),
        ({"window": (0, float("nan"))}, r"window is \(0, nan\)"),
        ({"window": 4095}, "window is 4095"),
        ({"window": "0,9"}, "window is '0,9'"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_impossible_options_are_refused(
    kind: Callable[..., object], options: dict[str, object], words: str
) -> None:
    """At once, by name and value, and not as a service that cannot be reached."""
    with pytest.raises(ValueError, match=words):
        kind(**{"url": "http://semsr", **options})


@BOTH
def test_a_user_in_the_address_becomes_a_header(call: Callable[..., SrTile]) -> None:
    """For single tiles and many alike; a key of its own counts more."""
    script = Script(answer)

    call(script, url="http://me:p%40ss@semsr")
    call(script, url="http://me:p%40ss@semsr", api_key="key")

    sent = [request.headers["authorization"] for request in script.requests]
    assert [f"Basic {base64.b64encode(b'me:p@ss').decode()}", "Bearer key"] == sent
    assert {"semsr"} == {request.headers["host"] for request in script.requests}


def test_a_key_with_a_line_s_end_is_refused_and_not_told() -> None:
    """As a file's content has it."""
    with pytest.raises(ValueError, match="a trailing newline") as caught:
        Client("http://semsr", api_key="secret\n")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("request_id", ["", "a b", "a\nb", "ü", "a" * 129])
def test_an_id_that_cannot_be_sent_is_refused_at_once(request_id: str) -> None:
    """Without a request, and without trying again."""
    script = Script(answer)
    with (
        Client("http://semsr", transport=script.transport) as client,
        pytest.raises(ValueError, match="request_id is"),
    ):
        client.superresolve(np.zeros((8, 8), np.uint8), request_id=request_id)
    assert script.requests == []


def test_the_real_service_talks_to_both_clients() -> None:
    """Raw tiles of any size, 8 and 16 bit, and an error with its id."""
    wide = np.random.default_rng(0).integers(0, 65536, (300, 250), dtype=np.uint16)
    with running_server({"SEMSR_ENGINE": "identity"}) as server:
        with Client(server.url, answer_dtype="uint16", priority="nightly") as client:
            sr = client.superresolve(wide, request_id="lot7")
            assert ((1200, 1000), np.uint16, "lot7") == (
                sr.pixels.shape,
                sr.pixels.dtype,
                sr.request_id,
            )
            assert "identity" == sr.engine
            with pytest.raises(ServiceError) as caught:
                client.superresolve(np.zeros((1, 60_000), np.uint8))
        assert caught.value.status in {413, 422}

        async def run() -> SrTile:
            async with AsyncClient(server.url, connections=4) as client:
                return await client.superresolve(TILE)

        assert (32, 32) == asyncio.run(run()).pixels.shape
        assert json.loads(httpx2.get(f"{server.url}/model", trust_env=False, timeout=60).text)
