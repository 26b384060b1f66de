"""Places of batch requests: they wait where single requests are refused, without starvation."""

import asyncio
import tarfile
from typing import Any

import numpy as np
import pytest

from service.ground.errors import ImageTooLarge
from service.ground.priority import Priority
from service.http.app import Application
from service.http.stream.places import StreamLimits
from tests.service.http.stream.batch_files import npy, problem_of, some_tiles, tar_entries, tar_of
from tests.service.http.test_superresolve import (
    TILE,
    Exchange,
    engine_started,
    sample,
    served,
    until,
)

pytestmark = pytest.mark.anyio

RAW = [(b"content-type", b"application/octet-stream"), (b"x-tile-shape", b"24,24")]
TAR = [(b"content-type", b"application/x-tar")]


class Batch:
    """One batch request as an ASGI server would deliver it; counts what is taken of its upload."""

    def __init__(
        self,
        app: Application,
        headers: list[tuple[bytes, bytes]],
        *,
        extensions: dict[str, Any] | None = None,
        can_send: asyncio.Event | None = None,
    ) -> None:
        self.sent: list[dict[str, Any]] = []
        self.received = 0
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/superresolve/batch",
            "raw_path": b"/superresolve/batch",
            "query_string": b"",
            "headers": headers,
            "state": {},
            "extensions": extensions or {},
        }

        async def receive() -> dict[str, Any]:
            message = await self._incoming.get()
            self.received += 1
            return message

        async def send(message: Any) -> None:  # noqa: ANN401
            if can_send is not None and message.get("body"):
                await can_send.wait()
            self.sent.append(message)

        self.task = asyncio.create_task(app(scope, receive, send))

    def body(self, content: bytes, *, more: bool = True) -> None:
        """Deliver a part of the body."""
        self._incoming.put_nowait({"type": "http.request", "body": content, "more_body": more})

    def end(self) -> None:
        """Deliver the end of the body."""
        self.body(b"", more=False)

    def disconnect(self) -> None:
        """The client closes the connection."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int | None:
        """Wait for the end."""
        await asyncio.wait_for(self.task, 60)
        return self.sent[0]["status"] if self.sent else None

    async def answer(self) -> bytes:
        """Wait for the whole answer."""
        assert await self.status() == 200
        assert not self.sent[-1].get("more_body", False), "the answer was cut off"
        return b"".join(message.get("body", b"") for message in self.sent)


async def settled() -> None:
    """Let everything happen that can happen without the engine."""
    for _ in range(300):
        await asyncio.sleep(0)


async def test_upload_is_read_no_further_than_there_are_places() -> None:
    """Of 200 available tiles only as many are read as may be in flight."""
    async with served(max_queue=32) as (app, engine, lifecycle):
        engine.gate.clear()
        batch = Batch(app, RAW)
        tiles = some_tiles(200)
        for tile in tiles:
            batch.body(tile.tobytes())
        batch.end()
        await engine_started(engine)
        await settled()
        # A quarter of the nightly half of 32: 4 tiles, and the request's own place.
        assert 5 == sample(lifecycle, "semsr_admitted_tiles")
        # One more is there: it waits for its place before its rest is read.
        assert batch.received <= 6
        single = Exchange(app)
        single.body(TILE)
        await until(lambda: sample(lifecycle, "semsr_queue_depth", priority="online") == 1)
        engine.open_gate()
        assert await single.status() == 200
        assert 200 == len(tar_entries(await batch.answer()))
        assert 0 == sample(lifecycle, "semsr_admitted_tiles")


async def test_answer_that_is_not_read_stops_the_upload() -> None:
    """The engine is done, but the client does not read: no more tiles are read."""
    async with served(max_queue=32) as (app, _, lifecycle):
        can_send = asyncio.Event()
        batch = Batch(app, RAW, can_send=can_send)
        for tile in some_tiles(50):
            batch.body(tile.tobytes())
        batch.end()
        await until(lambda: sample(lifecycle, "semsr_admitted_tiles") == 5)
        await settled()
        assert batch.received <= 6
        can_send.set()
        assert 50 == len(tar_entries(await batch.answer()))


async def test_problems_that_are_not_read_stop_the_upload_too() -> None:
    """What is refused holds no places, and must not pile up for that."""
    link = tarfile.TarInfo("link")
    link.type = tarfile.SYMTYPE
    async with served() as (app, _, _):
        can_send = asyncio.Event()
        batch = Batch(app, TAR, can_send=can_send)
        for _ in range(1000):
            batch.body(link.tobuf())
        batch.body(bytes(1024), more=False)
        await settled()
        assert batch.received < 100
        can_send.set()
        answer = await batch.answer()
        assert 1000 == answer.count(b'"scope":"tile"')


async def test_a_batch_waits_where_a_single_request_is_refused() -> None:
    """All nightly places are taken when its tiles come; they are served when the places are."""
    nightly = [*RAW, (b"x-priority", b"nightly")]
    async with served(max_queue=12) as (app, engine, _):
        engine.gate.clear()
        batch = Batch(app, RAW)
        batch.body(b"")
        await settled()
        singles = [Exchange(app, nightly) for _ in range(5)]
        for single in singles:
            single.body(TILE)
        await engine_started(engine)
        refused = Exchange(app, nightly)
        assert await refused.status() == 503
        for tile in some_tiles(9):
            batch.body(tile.tobytes())
        batch.end()
        await settled()
        assert not batch.sent
        engine.open_gate()
        assert [200] * 5 == [await single.status() for single in singles]
        entries = tar_entries(await batch.answer())
        assert [f"{number:06d}.raw" for number in range(9)] == list(entries)


async def test_an_online_batch_waits_while_it_would_be_late() -> None:
    """Tiles that single requests would be refused for (503) are tried again until they fit."""
    async with served(online_budget_ms=30.0, max_batch_size=1) as (app, engine, _):
        engine.gate.clear()
        batch = Batch(app, [*RAW, (b"x-priority", b"online")])
        for tile in some_tiles(60):
            batch.body(tile.tobytes())
        batch.end()
        await engine_started(engine)
        asyncio.get_running_loop().call_later(0.2, engine.open_gate)
        entries = tar_entries(await batch.answer())
        assert [f"{number:06d}.raw" for number in range(60)] == list(entries)


async def test_images_that_each_need_most_places_do_not_wait_for_each_other_for_ever() -> None:
    """Three requests, whose images need more than is left while another has its own."""
    large = [np.full((90, 90), grey, np.uint8) for grey in range(3)]  # 25 places of 48
    async with served(max_queue=128) as (app, _, lifecycle):
        batches = [Batch(app, TAR) for _ in range(3)]
        for batch in batches:
            batch.body(
                tar_of({f"{n}.npy": npy(image) for n, image in enumerate(large)}), more=False
            )
        for batch in batches:
            assert ["0.npy", "1.npy", "2.npy"] == list(tar_entries(await batch.answer()))
        assert 0 == sample(lifecycle, "semsr_admitted_tiles")


async def test_more_batches_than_may_be_are_refused_at_once() -> None:
    """A quarter of the class's places: their number is bounded, and the next one told when."""
    async with served(max_queue=16) as (app, _, lifecycle):
        batches = [Batch(app, RAW) for _ in range(2)]
        await settled()
        refused = Batch(app, RAW)
        assert await refused.status() == 503
        assert b"retry_after_ms" in refused.sent[1]["body"]
        assert 2 == sample(lifecycle, "semsr_batch_requests", priority="nightly")
        for batch in batches:
            batch.disconnect()
            assert await batch.status() is None
        assert 0 == sample(lifecycle, "semsr_batch_requests", priority="nightly")
        assert 0 == sample(lifecycle, "semsr_admitted_tiles")


async def test_a_service_with_too_few_places_says_so() -> None:
    """A batch needs one place for itself and one for an image."""
    async with served(max_queue=2) as (app, _, _):
        for priority in Priority:
            refused = Batch(app, [*RAW, (b"x-priority", str(priority).encode())])
            assert await refused.status() == 413
            assert b"too few places" in refused.sent[1]["body"]
            assert b"SEMSR_MAX_QUEUE, 3 at least" in refused.sent[1]["body"]


@pytest.mark.parametrize("max_places", [3, 4, 8, 100, 128])
def test_every_image_that_is_accepted_can_have_its_places(max_places: int) -> None:
    """While every other batch of both classes holds its own place and nothing else."""
    limits = StreamLimits(max_places)
    resting = sum(limits.window(priority) for priority in Priority)
    for priority, places in (
        (Priority.ONLINE, max_places),
        (Priority.NIGHTLY, -(-max_places // 2)),
    ):
        largest = next(n for n in range(max_places, 0, -1) if not _is_refused(limits, n, priority))
        assert largest >= 1
        assert largest + limits.window(priority) <= places
        assert largest + resting <= max_places


def _is_refused(limits: StreamLimits, places: int, priority: Priority) -> bool:
    try:
        limits.check(places, priority)
    except ImageTooLarge:
        return True
    return False


async def test_a_client_that_leaves_takes_everything_with_it() -> None:
    """Tiles that wait leave the queue at once, and every place is free."""
    async with served(max_queue=64) as (app, engine, lifecycle):
        engine.gate.clear()
        batch = Batch(app, RAW)
        for tile in some_tiles(6):
            batch.body(tile.tobytes())
        await engine_started(engine)
        await until(lambda: sample(lifecycle, "semsr_admitted_tiles") == 7)
        batch.disconnect()
        assert await batch.status() == 200
        assert batch.sent[-1].get("more_body", True), "a cut answer must not look whole"
        assert 0 == sample(lifecycle, "semsr_queue_depth", priority="nightly")
        assert 0 == sample(lifecycle, "semsr_admitted_tiles")
        assert 1 == sample(lifecycle, "semsr_batch_requests_ended_total", reason="client_gone")
        engine.open_gate()


class GoneConnection:
    """A connection whose peer has left, which ASGI does not say while nothing is read."""

    def __init__(self) -> None:
        self.is_there = True
        self.was_aborted = False

    def is_open(self) -> bool:
        """As the test says."""
        return self.is_there

    def set_send_timeout(self, seconds: float) -> None:
        """Nothing to set."""

    def abort(self) -> None:
        """Remember it."""
        self.was_aborted = True


async def test_a_client_that_leaves_while_nothing_is_read_is_noticed() -> None:
    """Its upload stands still, so that only the kernel knows."""
    connection = GoneConnection()
    async with served(max_queue=32) as (app, engine, lifecycle):
        engine.gate.clear()
        batch = Batch(app, RAW, extensions={"semsr.connection": connection})
        for tile in some_tiles(20):
            batch.body(tile.tobytes())
        await engine_started(engine)
        connection.is_there = False
        await batch.status()
        assert 0 == sample(lifecycle, "semsr_admitted_tiles")
        assert 1 == sample(lifecycle, "semsr_batch_requests_ended_total", reason="client_gone")
        engine.open_gate()


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """After the time-out everything is free, and log and metric say why."""
    connection = GoneConnection()
    async with served(send_timeout_s=0.05) as (app, _, lifecycle):
        batch = Batch(
            app, RAW, extensions={"semsr.connection": connection}, can_send=asyncio.Event()
        )
        batch.body(some_tiles(5).tobytes())
        await batch.status()
        assert connection.was_aborted
        assert 1 == sample(lifecycle, "semsr_batch_requests_ended_total", reason="slow_reader")
        assert 0 == sample(lifecycle, "semsr_admitted_tiles")


@pytest.mark.parametrize(
    "settings", [{"batch_idle_timeout_s": 0.05}, {"body_timeout_s": 0.05}], ids=["idle", "piece"]
)
async def test_an_upload_that_pauses_or_crawls_ends_with_a_problem(
    settings: dict[str, Any],
) -> None:
    """What came whole is answered."""
    async with served(**settings) as (app, _, lifecycle):
        batch = Batch(app, RAW)
        tiles = some_tiles(2)
        batch.body(tiles.tobytes()[:-10])
        entries = tar_entries(await batch.answer())
        assert ["000000.raw", "batch.problem.json"] == list(entries)
        problem = problem_of(entries["batch.problem.json"][0])
        assert (408, 1) == (problem["status"], problem["tiles_done"])
        assert 1 == sample(lifecycle, "semsr_batch_requests_ended_total", reason="request_timeout")


async def test_a_pause_between_tiles_may_be_as_long_as_the_idle_time_out() -> None:
    """The time that one tile may take begins with its first byte."""
    async with served(body_timeout_s=0.05) as (app, _, _):
        batch = Batch(app, RAW)
        for tile in some_tiles(3):
            await asyncio.sleep(0.1)
            batch.body(tile.tobytes())
        batch.end()
        assert 3 == len(tar_entries(await batch.answer()))


async def test_tiles_whose_time_is_up_get_a_problem() -> None:
    """X-Request-Timeout-Ms counts for each, from when it has been read."""
    async with served() as (app, engine, lifecycle):
        engine.gate.clear()
        blocker = Exchange(app)
        blocker.body(TILE)
        await engine_started(engine)
        batch = Batch(app, [*RAW, (b"x-request-timeout-ms", b"50")])
        batch.body(some_tiles(3).tobytes(), more=False)
        await until_missed(lifecycle, 3)
        engine.open_gate()
        entries = tar_entries(await batch.answer())
        assert [504] * 3 == [problem_of(body)["status"] for body, _ in entries.values()]
        assert await blocker.status() == 200


async def until_missed(lifecycle: Any, count: int) -> None:  # noqa: ANN401
    """Wait until deadlines have passed."""
    async with asyncio.timeout(30):
        while sample(lifecycle, "semsr_deadline_missed_total") < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_stopping_ends_a_batch_between_tiles() -> None:
    """Read tiles are answered, the rest is refused, and the stop is not delayed."""
    async with served() as (app, engine, lifecycle):
        engine.gate.clear()
        batch = Batch(app, RAW)
        batch.body(some_tiles(2).tobytes())
        await engine_started(engine)
        await until(lambda: sample(lifecycle, "semsr_admitted_tiles") == 3)
        lifecycle.begin_drain()
        engine.open_gate()
        entries = tar_entries(await batch.answer())
        assert ["000000.raw", "000001.raw", "batch.problem.json"] == list(entries)
        problem = problem_of(entries["batch.problem.json"][0])
        assert (503, 2) == (problem["status"], problem["tiles_done"])
        assert "retry_after_ms" in problem
        assert await Batch(app, RAW).status() == 503
