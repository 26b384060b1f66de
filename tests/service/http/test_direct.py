"""Tiles that the HTTP protocol serves itself: the same answers as through the app, on any way."""

import asyncio
import contextlib
import functools
import gc
import hashlib
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
import uvicorn
from structlog.testing import capture_logs

from engines.batches import EngineOutput
from service.hosting.local_models import LocalModels
from service.hosting.serving import Serving
from service.http.access import hash_key
from service.http.app import Application, create_app
from service.http.audit import Audit
from service.http.connection import JoinedWrites
from service.http.direct import DirectTile
from service.http.direct_plan import read_head
from service.http.direct_protocol import DirectHttp, http_protocol
from service.settings import Settings
from tests.fakes import FakeEngine

ROOT = Path(__file__).parents[3]
TINY_BUNDLE = ROOT / "tests" / "data" / "tiny_bundle"
DEFAULT_BUNDLE = ROOT / "bundles" / "default"
SIDE = 24
TILE = np.random.default_rng(7).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
ANSWER = TILE.repeat(4, axis=0).repeat(4, axis=1).tobytes()
RAW = {"content-type": "application/octet-stream", "x-tile-shape": f"{SIDE},{SIDE}"}
# Different with each answer.
VOLATILE = {"date", "server-timing", "x-request-id"}


class Served:
    """One app behind a real socket, with the protocol that serves tiles itself.

    Attributes:
        direct: Tiles that were answered without the app.
    """

    def __init__(self, app: Application, engine: FakeEngine, address: tuple[str, int]) -> None:
        self.app = app
        self.engine = engine
        self.address = address
        self.direct = 0
        self.client = httpx2.Client(
            base_url=f"http://{address[0]}:{address[1]}", trust_env=False, timeout=30
        )

    def post(
        self, content: bytes | Iterator[bytes] | None = None, /, **headers: str
    ) -> httpx2.Response:
        """Send a tile; underscores of names stand for hyphens."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            "/superresolve",
            content=TILE.tobytes() if content is None else content,
            headers={**RAW, **given},
        )

    def metric(self, name: str, **labels: str) -> float:
        """Read one sample."""
        return self.app.lifecycle.metrics.registry.get_sample_value(name, labels) or 0.0

    def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something that the service does in the background."""
        deadline_s = time.monotonic() + 30
        while not is_true():
            assert time.monotonic() < deadline_s, "it never came true"
            time.sleep(0.01)

    @contextlib.contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """Open a plain connection."""
        with socket.create_connection(self.address, timeout=30) as connection:
            yield connection


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    """Start apps with given settings; they stop when the test ends."""
    with contextlib.ExitStack() as stack:

        def start(*, keep_alive_s: int = 5, **given: object) -> Served:
            engine = FakeEngine()
            engine.name = "identity"  # exempt from the golden tile: it enlarges by repetition
            settings = Settings(
                **{
                    **({} if "bundles" in given else {"bundle": TINY_BUNDLE}),
                    "engine": "identity",
                    "cache_dir": tmp_path,
                    "log_level": "error",
                    **given,
                }
            )
            app = create_app(
                settings,
                make_host=functools.partial(LocalModels, engine_loader=lambda *_: engine),
            )
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            config = uvicorn.Config(
                app,
                loop="uvloop",
                http=http_protocol(
                    head_timeout_s=settings.head_timeout_s,
                    send_timeout_s=settings.send_timeout_s,
                    direct=app.direct,
                ),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
                timeout_keep_alive=keep_alive_s,
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            served = Served(app, engine, listener.getsockname()[:2])
            sent = DirectTile.sent

            def count(tile: DirectTile) -> None:
                served.direct += 1
                sent(tile)

            monkeypatch.setattr(DirectTile, "sent", count)

            def stop() -> None:
                served.client.close()
                engine.open_gate()
                server.should_exit = True
                thread.join(30)
                assert not thread.is_alive()

            stack.callback(stop)
            served.until(lambda: served.client.get("/readyz").status_code == 200)
            while engine.started.acquire(blocking=False):
                pass  # the batches of the warm-up
            return served

        yield start


def named(response: httpx2.Response) -> dict[str, str]:
    """The headers that are the same for every answer."""
    return {name: value for name, value in response.headers.items() if name not in VOLATILE}


def chunks() -> Iterator[bytes]:
    """A body without a length, which always goes through the app."""
    yield TILE.tobytes()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_request_id": "lot42"},
        {"x_pixel_size_nm": "4,2"},
        {"x_priority": "nightly"},
        {"x_request_timeout_ms": "20000"},
        {"accept": "application/octet-stream, */*;q=0.1"},
        {"x_tile_dtype": "uint8"},
        {"x_window": "10,20"},
        {"x_tool": "CDSEM-07"},
    ],
    ids=lambda headers: next(iter(headers), "plain"),
)
def test_an_answer_is_that_of_the_app(serve: Callable[..., Served], headers: dict[str, str]):
    """Pixels, status, and the names and values of all headers that do not change by themselves."""
    served = serve()
    direct = served.post(**headers)
    assert served.direct == 1
    through_app = served.post(chunks(), **headers)
    assert served.direct == 1
    assert direct.status_code == through_app.status_code == 200
    assert direct.content == through_app.content == ANSWER
    assert named(direct) == named(through_app)
    stages = [
        [entry.split(";")[0].strip() for entry in answer.headers["server-timing"].split(",")]
        for answer in (direct, through_app)
    ]
    assert stages[0] == stages[1]
    if "x_request_id" in headers:
        assert direct.headers["x-request-id"] == "lot42"
    else:
        assert direct.headers["x-request-id"] != through_app.headers["x-request-id"]


def test_both_ways_count_and_time_alike(serve: Callable[..., Served]):
    """A dashboard must not see by which way a tile went."""
    served = serve()
    labels = {"route": "/superresolve", "code": "200", "priority": "online"}
    names = {
        "semsr_requests_total": labels,
        "semsr_request_duration_seconds_count": {"route": "/superresolve", "priority": "online"},
        "semsr_consistency_count": {"model": "identity", "tool": "CDSEM-07"},
        **{
            f"semsr_stage_duration_seconds_count {stage}": {"stage": stage}
            for stage in ("recv", "decode", "queue", "infer", "encode")
        },
    }

    def counts(requests: int) -> list[float]:
        # They are counted when the answer has left, which its client may see earlier.
        served.until(lambda: served.metric("semsr_requests_total", **labels) == requests)
        return [served.metric(name.split()[0], **of) for name, of in names.items()]

    before = counts(0)
    served.post(x_tool="CDSEM-07")
    after_direct = counts(1)
    served.post(chunks(), x_tool="CDSEM-07")
    after_app = counts(2)
    assert served.direct == 1
    assert [b - a for a, b in zip(before, after_direct, strict=True)] == [1] * len(names)
    assert [b - a for a, b in zip(after_direct, after_app, strict=True)] == [1] * len(names)


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"x_tile_shape": "20,30"}, bytes(600), 200),
        ({"x_tile_shape": "24,25"}, None, 422),
        ({"accept": "image/png"}, None, 200),
        ({"accept": "text/html"}, None, 406),
        ({"x_answer_dtype": "uint16"}, None, 200),
        ({"x_tile_dtype": "uint16"}, bytes(2 * SIDE**2), 200),
        ({"x_tile_shape": "0,24"}, None, 422),
        ({"x_tile_shape": "none"}, None, 400),
        ({"x_priority": "soon"}, None, 400),
        ({"content_encoding": "gzip"}, None, 415),
        ({"x_padding": "p" * 2000}, None, 200),
    ],
    ids=str,
)
def test_any_other_request_goes_through_the_app(
    serve: Callable[..., Served], headers: dict[str, str], content: bytes | None, status: int
):
    """Other sizes, types and errors; the tile after it is served directly again."""
    served = serve()
    response = served.post(content, **headers)
    assert response.status_code == status, response.text
    assert served.direct == 0
    assert served.post().content == ANSWER
    assert served.direct == 1


def test_models_are_named_in_the_query(serve: Callable[..., Served]):
    """An unknown one is refused by the app, in its words."""
    served = serve()
    good = served.client.post("/superresolve?model=identity", content=TILE.tobytes(), headers=RAW)
    bad = served.client.post("/superresolve?model=no", content=TILE.tobytes(), headers=RAW)
    worse = served.client.post("/superresolve?mode=no", content=TILE.tobytes(), headers=RAW)
    assert (good.status_code, bad.status_code, worse.status_code) == (200, 404, 400)
    assert "the model no is not served" in bad.json()["detail"]
    assert served.direct == 1


def test_keys_and_quotas_hold(serve: Callable[..., Served], tmp_path: Path):
    """No tile passes without its key, and none beyond its quota."""
    keys = tmp_path / "keys"
    keys.write_text(f"fab {hash_key('secret')}\n")
    served = serve(api_keys=keys, rate_limit_per_s=0.001, rate_limit_burst=3)
    # A tile that the app serves is counted once, and strangers do not learn what is served.
    assert served.post(x_tile_shape="20,30").status_code == 401
    stranger = served.client.post("/superresolve?model=no", content=TILE.tobytes(), headers=RAW)
    assert (stranger.status_code, "served" in stranger.text) == (401, False)
    other = served.post(bytes(600), x_tile_shape="20,30", authorization="Bearer secret")
    assert other.status_code == 200
    assert served.post().status_code == 401
    assert served.post(authorization="Bearer wrong").status_code == 401
    answers = [served.post(authorization="Bearer secret").status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    assert served.direct == 2


class TestAudit:
    """Hashes for the log, computed before the answer leaves."""

    def test_both_ways_log_the_same_fields(self, serve: Callable[..., Served], tmp_path: Path):
        """An auditor must not see by which way a tile went."""
        keys = tmp_path / "keys"
        keys.write_text(f"line-3 {hash_key('k')}\n")
        served = serve(audit=True, api_keys=keys)
        with capture_logs() as lines:
            for body in (None, chunks()):
                answer = served.post(body, authorization="Bearer k", x_tool="CDSEM-07")
                assert (200, ANSWER) == (answer.status_code, answer.content)
            named = {"event": "request_finished", "path": "/superresolve"}
            served.until(lambda: 2 == sum(named.items() <= line.items() for line in lines))
        assert 1 == served.direct
        first, second = (line for line in lines if named.items() <= line.items())
        assert first.keys() == second.keys()
        fields = ("client", "address", "model", "model_version", "tool", "input_sha256")
        assert [first[name] for name in fields] == [second[name] for name in fields]
        assert hashlib.sha256(TILE.tobytes()).hexdigest() == first["input_sha256"]
        assert hashlib.sha256(ANSWER).hexdigest() == first["output_sha256"]
        assert hashlib.sha256(ANSWER).hexdigest() == second["output_sha256"]

    def test_a_client_that_leaves_while_its_answer_is_hashed(
        self, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
    ):
        """Its place is free at once, and nothing is sent when the hashes are there."""
        served = serve(audit=True)
        began: list[asyncio.Future[dict[str, str]]] = []

        def begin(*_: object) -> asyncio.Future[dict[str, str]]:
            began.append(asyncio.get_running_loop().create_future())
            return began[-1]

        monkeypatch.setattr(Audit, "begin", begin)
        with served.connect() as connection:
            connection.sendall(head() + TILE.tobytes())
            served.until(lambda: bool(began))
        labels = {"route": "/superresolve", "code": "499", "priority": "online"}
        served.until(lambda: served.metric("semsr_requests_total", **labels) == 1)
        assert 0 == served.metric("semsr_admitted_tiles")
        [future] = began
        future.get_loop().call_soon_threadsafe(future.set_result, {})
        monkeypatch.undo()
        assert 200 == served.post().status_code
        assert 0 == served.metric("semsr_requests_total", **{**labels, "code": "500"})

    def test_hashes_that_fail_are_an_error(
        self, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
    ):
        """An answer that the log cannot prove is not sent, and its client does not hang."""
        served = serve(audit=True)

        def begin(*_: object) -> asyncio.Future[dict[str, str]]:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(MemoryError())
            return future

        monkeypatch.setattr(Audit, "begin", begin)
        assert 500 == served.post().status_code


class TestCopies:
    """From the engine to the socket, the pixels stay where the engine has put them."""

    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Addresses of what the connections were given to send, beyond heads."""
        addresses: list[int] = []
        send = JoinedWrites.send

        def note(joined: JoinedWrites, *pieces: bytes | memoryview) -> None:
            addresses.extend(
                np.frombuffer(piece, np.uint8).ctypes.data for piece in pieces if len(piece) > 4096
            )
            send(joined, *pieces)

        monkeypatch.setattr(JoinedWrites, "send", note)
        return addresses

    def test_what_is_sent_is_what_the_engine_wrote(
        self, serve: Callable[..., Served], sent: list[int]
    ):
        """Without a copy: the socket gets the engine's memory, and nothing of that size is made."""
        served = serve(bundle=DEFAULT_BUNDLE)
        tile = np.zeros((240, 240), dtype=np.uint8)
        request = head(shape=b"240,240", size=tile.size) + tile.tobytes()
        answer_bytes = 16 * tile.size
        content = memoryview(bytearray(answer_bytes))
        with served.connect() as connection:
            for number in range(3):
                if number == 1:
                    # The first one has made the memory that the others reuse.
                    tracemalloc.start()
                served.engine.written.clear()
                sent.clear()
                connection.sendall(request)
                assert read_head_of(connection)[0] == 200
                left = content
                while left:
                    left = left[connection.recv_into(left) :]
                assert sent == served.engine.written
                assert len(sent) == 1
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < answer_bytes


def test_an_answer_frees_its_memory_when_it_has_left(serve: Callable[..., Served]):
    """Not at the next request of its connection, which may never come."""
    served = serve()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(served.connect())
            connection.sendall(head() + TILE.tobytes())
            assert read_answer(connection) == (200, ANSWER)
            served.until(lambda: served.metric("semsr_admitted_tiles") == 0)
        # The memory that was freed last is used first.
        assert len(set(served.engine.written[-4:])) == 1


def test_an_idle_connection_keeps_nothing_of_its_last_tile(serve: Callable[..., Served]):
    """Neither its pixels nor its model, which may have been replaced."""
    served = serve()
    with served.connect() as connection:
        connection.sendall(head() + TILE.tobytes())
        assert read_answer(connection) == (200, ANSWER)
        served.until(lambda: served.metric("semsr_admitted_tiles") == 0)
        [tile] = [
            cycle
            for protocol in gc.get_objects()
            if isinstance(protocol, DirectHttp) and protocol.direct is served.app.direct
            for cycle in (protocol.cycle,)
            if isinstance(cycle, DirectTile)
        ]

        def is_empty() -> bool:
            kept = gc.get_referents(tile) + list(gc.get_referents(tile.__dict__))
            return tile.body == b"" and not any(isinstance(value, Serving) for value in kept)

        served.until(is_empty)


def test_a_tile_leaves_no_garbage(serve: Callable[..., Served]):
    """Reference cycles would keep its pixels until the garbage collector looks for them."""
    served = serve()
    with served.connect() as connection:
        for number in range(120):
            if number == 20:
                gc.collect()
                gc.disable()
            connection.sendall(head() + TILE.tobytes())
            assert read_answer(connection) == (200, ANSWER)
    try:
        # One for each tile would be 100; a connection that ends meanwhile leaves 25.
        assert gc.collect() < 100
    finally:
        gc.enable()


def test_a_limit_below_the_models_tile_holds(serve: Callable[..., Served]):
    """As through the app, which names the limit."""
    served = serve(max_pixels=500)
    response = served.post()
    assert response.status_code == 413, response.text
    assert response.json()["detail"] == served.post(chunks()).json()["detail"]


class TestErrors:
    """What goes wrong with a tile is answered and counted by the app, once."""

    def test_an_engine_that_fails(self, serve: Callable[..., Served]):
        """The tile is not run a second time."""
        served = serve()
        served.engine.failures = [MemoryError("secret")]
        batches = len(served.engine.batches)
        response = served.post(x_request_id="lot7")
        assert response.status_code == 500
        assert response.json()["type"] == "urn:semsr:problem:engine-failed"
        assert response.json()["request_id"] == "lot7"
        assert len(served.engine.batches) == batches + 1
        labels = {"route": "/superresolve", "code": "500", "priority": "online"}
        served.until(lambda: served.metric("semsr_requests_total", **labels) == 1)
        assert served.metric("semsr_admitted_tiles") == 0
        assert served.post().status_code == 200

    @pytest.mark.parametrize("is_direct", [True, False])
    def test_an_error_names_the_model_that_was_asked(
        self, serve: Callable[..., Served], is_direct: bool
    ):
        """Not the default one, whichever way the tile went; and it counts as that model's."""
        served = serve(bundles={"first": TINY_BUNDLE, "second": TINY_BUNDLE})
        served.engine.failures = [RuntimeError("boom")]
        response = served.client.post(
            "/superresolve?model=second",
            content=TILE.tobytes() if is_direct else chunks(),
            headers=RAW,
        )
        assert (response.status_code, response.headers["x-model"]) == (500, "second")
        labels = {"model": "second", "outcome": "failure"}
        served.until(lambda: served.metric("semsr_model_requests_total", **labels) == 1)

    def test_an_answer_that_is_no_picture(self, serve: Callable[..., Served]):
        """NaN from the network."""
        served = serve()

        def spoil(output: EngineOutput) -> EngineOutput:
            flags = output.flags.copy()
            flags[0] = (0.25, *[np.nan] * 5)
            return output._replace(flags=flags)

        served.engine.spoil = spoil
        response = served.post()
        assert response.status_code == 500
        assert "non-finite values" in response.json()["detail"]
        assert served.metric("semsr_non_finite_total", model="identity") == 1

    def test_a_deadline_that_passes_in_the_queue(self, serve: Callable[..., Served]):
        """504, as through the app."""
        served = serve()
        served.engine.gate.clear()
        with served.connect() as first:
            first.sendall(head() + TILE.tobytes())
            assert served.engine.started.acquire(timeout=30)
            response = served.post(x_request_timeout_ms="150")
            served.engine.open_gate()
            assert response.status_code == 504, response.text
            assert read_answer(first)[1] == ANSWER

    def test_a_full_queue(self, serve: Callable[..., Served]):
        """503 with the time of the next try, and a counted rejection."""
        served = serve(max_queue=2)
        served.engine.gate.clear()
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(served.connect()) for _ in range(2)]
            for connection in waiting:
                connection.sendall(head() + TILE.tobytes())
            served.until(lambda: served.metric("semsr_admitted_tiles") == 2)
            response = served.post()
            assert response.status_code == 503
            assert "retry-after" in response.headers
            assert served.metric("semsr_rejected_total", reason="queue_full") == 1
            labels = {"model": "identity", "outcome": "failure"}
            served.until(lambda: served.metric("semsr_model_requests_total", **labels) == 1)
            served.engine.open_gate()
            for connection in waiting:
                assert read_answer(connection)[1] == ANSWER

    def test_a_body_that_does_not_end(self, serve: Callable[..., Served]):
        """408 after the limit; the tile has held its place, and frees it."""
        served = serve(body_timeout_s=0.3)
        with served.connect() as connection:
            connection.sendall(head() + TILE.tobytes()[:100])
            served.until(lambda: served.metric("semsr_admitted_tiles") == 1)
            status, body = read_answer(connection)
            assert status == 408
            assert "100 bytes of the body arrived within 0.3 s" in json.loads(body)["detail"]
        served.until(lambda: served.metric("semsr_admitted_tiles") == 0)


class TestConnections:
    """Pieces, pipelines, and clients that leave."""

    @pytest.mark.parametrize("size", [1, 100, 575])
    def test_a_request_in_pieces(self, serve: Callable[..., Served], size: int):
        """However the network cuts it."""
        served = serve()
        content = head() + TILE.tobytes()
        with served.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(content), size):
                connection.sendall(content[start : start + size])
                time.sleep(0.0005)
            assert read_answer(connection) == (200, ANSWER)
        assert served.direct == 1

    def test_several_requests_at_once_are_answered_in_order(self, serve: Callable[..., Served]):
        """Pipelined: tiles and other requests mixed."""
        served = serve()
        other = TILE.T.copy()
        with served.connect() as connection:
            connection.sendall(
                (head() + TILE.tobytes())
                + b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
                + (head() + other.tobytes())
                + (head() + TILE.tobytes())
            )
            answers = [read_answer(connection) for _ in range(4)]
        assert [status for status, _ in answers] == [200] * 4
        assert answers[0][1] == answers[3][1] == ANSWER
        assert answers[2][1] == other.repeat(4, axis=0).repeat(4, axis=1).tobytes()

    @pytest.mark.parametrize(
        "bad",
        # The parser refuses the first; the second is a request whose target cannot be read.
        [b"NONSENSE\r\n\r\n", b"GET http://a:99999/ HTTP/1.1\r\nhost: a\r\n\r\n"],
        ids=["line", "target"],
    )
    def test_a_bad_request_after_a_tile_does_not_cost_its_answer(
        self, serve: Callable[..., Served], bad: bytes
    ):
        """The answer comes, then the connection ends."""
        served = serve()
        served.engine.gate.clear()
        with served.connect() as connection:
            connection.sendall(head() + TILE.tobytes())
            assert served.engine.started.acquire(timeout=30)
            connection.sendall(bad)
            time.sleep(0.1)
            served.engine.open_gate()
            assert read_answer(connection) == (200, ANSWER)
            assert connection.recv(1) == b""

    def test_a_client_that_asks_to_close(self, serve: Callable[..., Served]):
        """The answer says so, and the connection ends."""
        served = serve()
        with served.connect() as connection:
            connection.sendall(head(b"connection: close\r\n") + TILE.tobytes())
            assert read_answer(connection) == (200, ANSWER)
            assert connection.recv(1) == b""
        assert served.direct == 1

    def test_an_idle_connection_ends(self, serve: Callable[..., Served]):
        """A limit after its last answer, not after an earlier one."""
        served = serve(keep_alive_s=1)
        answered_s = 0.0
        with served.connect() as connection:
            for _ in range(2):
                connection.sendall(head() + TILE.tobytes())
                assert read_answer(connection) == (200, ANSWER)
                answered_s = time.monotonic()
                time.sleep(0.6)
            assert connection.recv(1) == b""
            assert 0.9 < time.monotonic() - answered_s < 3

    @pytest.mark.parametrize("is_in_head", [True, False])
    def test_a_connection_in_use_does_not_end(self, serve: Callable[..., Served], is_in_head: bool):
        """While a head arrives or a tile waits; and it is limited again after that."""
        served = serve(keep_alive_s=1)
        content = head() + TILE.tobytes()
        with served.connect() as connection:
            connection.sendall(content)
            assert read_answer(connection) == (200, ANSWER)
            served.engine.gate.clear()
            first = content[:20] if is_in_head else content
            connection.sendall(first)
            time.sleep(1.5)
            connection.sendall(content[len(first) :])
            served.engine.open_gate()
            assert read_answer(connection) == (200, ANSWER)
            answered_s = time.monotonic()
            assert connection.recv(1) == b""
            assert 0.9 < time.monotonic() - answered_s < 3

    def test_a_client_that_leaves_takes_its_tile_out_of_the_queue(
        self, serve: Callable[..., Served]
    ):
        """The place is free, the tile never runs, and the request is counted as 499."""
        served = serve()
        served.engine.gate.clear()
        with served.connect() as first:
            first.sendall(head() + TILE.tobytes())
            assert served.engine.started.acquire(timeout=30)
            with served.connect() as second:
                second.sendall(head() + TILE.tobytes())
                served.until(lambda: served.metric("semsr_admitted_tiles") == 2)
            labels = {"route": "/superresolve", "code": "499", "priority": "online"}
            served.until(lambda: served.metric("semsr_requests_total", **labels) == 1)
            assert served.metric("semsr_admitted_tiles") == 1
            served.engine.open_gate()
            assert read_answer(first) == (200, ANSWER)
        assert served.metric("semsr_cancelled_total") == 1

    def test_a_client_that_reads_late_holds_its_place(self, serve: Callable[..., Served]):
        """Until its answer has left the service's memory."""
        served = serve(bundle=DEFAULT_BUNDLE)  # 0.9 MB, more than a socket holds
        tile = np.zeros((240, 240), dtype=np.uint8)
        request = head(shape=b"240,240", size=tile.size) + tile.tobytes()
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(served.connect()) for _ in range(3)]
            for connection in slow:
                for _ in range(8):
                    connection.sendall(request)
            served.until(lambda: served.metric("semsr_tiles_in_flight") == 0)
            time.sleep(0.2)
            assert served.metric("semsr_admitted_tiles") == 3
            for connection in slow:
                for _ in range(8):
                    assert read_answer(connection)[0] == 200
        served.until(lambda: served.metric("semsr_admitted_tiles") == 0)

    def test_answers_of_a_draining_service_end_their_connections(
        self, serve: Callable[..., Served]
    ):
        """So that the client goes elsewhere."""
        served = serve()
        assert "connection" not in served.post().headers
        served.app.lifecycle.begin_drain(30.0)
        response = served.post()
        assert (response.status_code, response.headers["connection"]) == (200, "close")


def head(more: bytes = b"", *, shape: bytes = b"24,24", size: int = SIDE**2) -> bytes:
    """The head of a request for one tile."""
    return (
        b"POST /superresolve HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\n"
        b"x-tile-shape: %b\r\ncontent-length: %d\r\n%b\r\n" % (shape, size, more)
    )


def read_head_of(connection: socket.socket) -> tuple[int, int]:
    """Read the head of an answer, and no further; return its status and the length of the body."""
    content = b""
    while not content.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, f"the connection ended in a head: {content!r}"
        content += piece
    lines = content.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:-2])
    return int(lines[0].split()[1]), int(headers["content-length"])


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Read one answer to its end, and no further."""
    status, size = read_head_of(connection)
    body = b""
    while len(body) < size:
        piece = connection.recv(size - len(body))
        assert piece, "the connection ended in a body"
        body += piece
    return status, body


HEADERS = [
    (b"host", b"a"),
    (b"content-type", b"application/octet-stream"),
    (b"x-tile-shape", b"24,24"),
    (b"content-length", b"576"),
]


@pytest.mark.parametrize(
    "more",
    [
        [(b"host", b"b")],
        [(b"transfer-encoding", b"chunked")],
        [(b"content-length", b"576")],
        [(b"expect", b"100-continue")],
        [(b"x-tile-shape", b"24,25")],
        [(b"content-encoding", b"gzip")],
    ],
    ids=str,
)
def test_ambiguous_heads_are_not_read_here(more: list[tuple[bytes, bytes]]):
    """The app refuses them, or reads them with care."""
    assert read_head(b"/superresolve", HEADERS) is not None
    assert read_head(b"/superresolve", [*HEADERS, *more]) is None


def test_heads_that_take_much_memory_are_not_kept():
    """Hundreds are kept, and anyone may send them: thousands of empty headers count too."""
    browser = [(b"sec-fetch-%d" % number, b"v" * 40) for number in range(12)]
    assert read_head(b"/superresolve", [*HEADERS, *browser]) is not None
    empty = [(b"a%d" % number, b"") for number in range(1000)]
    assert read_head(b"/superresolve", [*HEADERS, *empty]) is None
    assert read_head(b"/superresolve", [*HEADERS, (b"n" * 3000, b"")]) is None


def test_a_kept_head_allows_the_time_that_it_states():
    """Exactly, however long the first reading took: later tiles of the same head get it too."""
    plan = read_head(b"/superresolve", [*HEADERS, (b"x-request-timeout-ms", b"100")])
    assert plan is not None
    assert (plan.timeout_s, plan.request.deadline_s) == (0.1, None)


@pytest.mark.parametrize(
    "url",
    [
        b"/superresolve?model=identity#part",
        b"/superresolve/",
        b"/superresolve/batch",
        b"/superresolved",
        b"/%73uperresolve",
    ],
)
def test_other_targets_are_not_read_here(url: bytes):
    """Only the path itself, written plainly."""
    assert read_head(url, HEADERS) is None
