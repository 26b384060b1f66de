"""The parts of a pool, each by itself: shared memory, messages, channels, metric snapshots."""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Gauge

from bundle_format.bundle import FLAGS
from engines.cpu import share_cpus
from service.ground.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull
from service.ground.instruments import Counter, Histogram
from service.ground.priority import Priority
from service.hosting.versions import Change
from service.pool import channel, child_config, control, messages, snapshots
from service.pool.arena import SNAPSHOT_BYTES, Arena, ArenaError, Geometry
from service.pool.processes import Publisher, collect, drop_state

pytestmark = pytest.mark.anyio

GEOMETRY = Geometry(partitions=2, slots=3, lr_bytes=100, sr_bytes=1600, snapshots=2)


@pytest.fixture
def arena() -> Arena:
    """A small arena."""
    return Arena.create(GEOMETRY)


class TestArena:
    """Slots, rows and snapshots."""

    def test_another_view_of_it_sees_the_same_memory(self, arena: Arena):
        """As a child does that inherits the file."""
        other = Arena.attach(os.dup(arena.fd))
        assert other.geometry == GEOMETRY
        arena.lr(4, 10, 10)[...] = 7
        other.sr(4, 40, 40)[...] = 9
        arena.engine_row(63)[15] = 1.5
        assert other.lr(4, 10, 10).min() == 7
        assert arena.sr(4, 40, 40).max() == 9
        assert other.engine_row(63)[15] == 1.5

    def test_no_slot_touches_another(self, arena: Arena):
        """Every byte of each has a place of its own."""
        for slot in range(6):
            arena.lr(slot, 10, 10)[...] = slot
            arena.sr(slot, 40, 40)[...] = 100 + slot
        for slot in range(6):
            assert np.unique(arena.lr(slot, 10, 10)).tolist() == [slot]
            assert np.unique(arena.sr(slot, 40, 40)).tolist() == [100 + slot]
        assert [list(arena.partition(index)) for index in (0, 1)] == [[0, 1, 2], [3, 4, 5]]

    def test_pictures_are_for_nobody_else(self, arena: Arena):
        """The file has no name and is its owner's alone."""
        status = os.fstat(arena.fd)
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_nlink == 0

    def test_memory_is_taken_when_touched_and_given_back(self, arena: Arena):
        """A spike is not kept for ever, and what is given back is empty."""
        before = os.fstat(arena.fd).st_blocks
        arena.sr(3, 40, 40)[...] = 1
        assert os.fstat(arena.fd).st_blocks > before
        arena.free_partition(1)
        assert os.fstat(arena.fd).st_blocks == before
        assert arena.sr(3, 40, 40).max() == 0

    def test_what_is_no_arena_is_refused(self):
        """Another file, and another version."""
        fd = os.memfd_create("other")
        os.ftruncate(fd, 4096)
        with pytest.raises(ArenaError, match="is not an arena"):
            Arena.attach(fd)
        newer = Arena.create(GEOMETRY)
        text = os.pread(newer.fd, 200, 0).replace(b'"format_version": 1', b'"format_version": 9')
        os.pwrite(newer.fd, text, 0)
        with pytest.raises(ArenaError, match="format"):
            Arena.attach(newer.fd)

    @pytest.mark.parametrize(
        ("slot", "side", "words"),
        [(6, 10, "no slot 6"), (-1, 10, "no slot -1"), (0, 11, "do not fit"), (0, 0, "do not fit")],
    )
    def test_beyond_a_slot_is_refused(self, arena: Arena, slot: int, side: int, words: str):
        """Nothing is read or written elsewhere."""
        with pytest.raises(ValueError, match=words):
            arena.lr(slot, side, side)

    def test_a_snapshot_is_the_old_or_the_new_one(self, arena: Arena):
        """Whoever dies while writing leaves the old one."""
        assert arena.read_snapshot(1) == b""
        arena.write_snapshot(1, b"first")
        arena.write_snapshot(1, b"second, longer")
        assert arena.read_snapshot(1) == b"second, longer"
        arena.write_snapshot(1, b"x")
        assert (arena.read_snapshot(1), arena.read_snapshot(0)) == (b"x", b"")
        with pytest.raises(ValueError, match="at most"):
            arena.write_snapshot(1, bytes(SNAPSHOT_BYTES + 1))
        assert arena.read_snapshot(1) == b"x"

    def test_a_snapshot_that_is_written_twice_while_it_is_read_is_read_again(
        self, arena: Arena, monkeypatch: pytest.MonkeyPatch
    ):
        """Its half is then in use again, though it is the same half."""
        writer = Arena.attach(os.dup(arena.fd))
        writer.write_snapshot(1, b"first, long")

        def write_twice() -> None:
            writer.write_snapshot(1, b"second")
            writer.write_snapshot(1, b"third")

        state = Interrupted(arena._snapshot_state(1), write_twice)
        monkeypatch.setattr(arena, "_snapshot_state", lambda _: state)
        assert arena.read_snapshot(1) == b"third"

    def test_more_memory_than_the_system_gives_is_refused(self):
        """With the settings that ask for it."""
        with pytest.raises(ArenaError, match=r"GiB of shared memory.*SEMSR_MAX_QUEUE"):
            Arena.create(Geometry(64, 1 << 30, 1 << 20, 1 << 24, 2))


class Interrupted:
    """The state of a snapshot; something happens when its length has been read first."""

    def __init__(self, state: np.ndarray, then: Callable[[], None]) -> None:
        self.state = state
        self.then = then

    def __getitem__(self, index: int) -> int:
        value = int(self.state[index])
        if index:
            then, self.then = self.then, lambda: None
            then()
        return value


class TestMessages:
    """Written and read again."""

    @pytest.mark.parametrize("deadline_s", [None, 123.25])
    @pytest.mark.parametrize("priority", list(Priority))
    def test_submission(self, deadline_s: float | None, priority: Priority):
        """Slots, shape, class, deadline."""
        sent = messages.Submission((5, 0, 70_000), (240, 17), priority, deadline_s, is_retry=True)
        message = messages.pack_submission(sent)
        assert messages.kind_of(message) is messages.Kind.SUBMIT
        assert messages.parse_submission(message) == sent

    def test_results(self):
        """With the flags of each."""
        flags = np.linspace(0, 1, len(FLAGS), dtype=np.float32)
        sent = [messages.SlotResult(slot, 4, 0.5, 0.25, flags) for slot in (3, 1)]
        for got, want in zip(
            messages.parse_results(messages.pack_results(sent)), sent, strict=True
        ):
            assert (got.slot, got.batch_size, got.queue_s, got.infer_s) == (want.slot, 4, 0.5, 0.25)
            np.testing.assert_array_equal(got.flags, want.flags)

    @pytest.mark.parametrize(
        "error",
        [
            QueueFull("voll: ü", retry_after_s=1.5),
            NotReady("no"),
            EngineFailed(""),
            DeadlineExceeded("late"),
        ],
    )
    def test_errors_keep_kind_text_and_time(self, error: QueueFull):
        """What the client is told is the engine's word."""
        slots, got = messages.parse_error(messages.pack_error([1, 2], error))
        assert slots == (1, 2)
        assert type(got) is type(error)
        assert got is not None
        assert (got.detail, got.retry_after_s) == (error.detail, error.retry_after_s)

    def test_withdrawn_tiles_are_no_error(self):
        """Cancelling is confirmed."""
        assert messages.parse_error(messages.pack_error([9], None)) == ((9,), None)
        assert messages.parse_cancel(messages.pack_cancel([4, 5])) == (4, 5)

    def test_hello_of_another_version_is_refused(self):
        """Processes of two installations do not talk."""
        hello = messages.Hello("m", "v", "d", "onnx", "fp32", {1: 0.5, 8: 2.0})
        message = messages.pack_hello(hello)
        assert messages.parse_hello(message) == hello
        other = message.replace(b'"format_version":2', b'"format_version":1')
        with pytest.raises(ValueError, match="speaks version 1"):
            messages.parse_hello(other)
        with pytest.raises(ValueError, match="99"):
            messages.kind_of(bytes([99]))


HELLO = messages.Hello("m", "v", "d", "onnx", "fp32", {1: 0.5, 8: 2.0})
ENTRY = control.VersionEntry(3, "m", Path("/b"), [("a", 1)])


class TestControl:
    """What the supervisor and its children say to each other."""

    @pytest.mark.parametrize(
        "message",
        [
            control.Joined("front-0"),
            control.Failed("engine-0", "no memory: ü"),
            control.EngineReady(HELLO),
            control.FrontEndState([1, 2], serves=True),
            control.Order(1, "load", "m", Path("/b")),
            control.Order(2, "load", "m"),
            control.Order(3, "roll_back", "m"),
            control.Order(4, "unload", "m"),
            control.ModelList([ENTRY], [], "m", is_started=True),
            control.Answer(5, Change("m", "v", "d", None)),
            control.Answer(6, error_code="load-failed", detail="damaged"),
        ],
    )
    def test_every_message_is_read_as_it_was_written(self, message: control.Message):
        """With numbers as keys, paths, and messages within messages."""
        assert message == control.parse(control.pack(message))

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b'["Hello", {}]', "expected one of Joined"),
            (b'["Joined", {}]', "process"),
            (b'{"process": "front-0"}', "expected one of Joined"),
            (b"no JSON", "invalid literal"),
        ],
    )
    def test_what_is_no_message_is_an_error(self, content: bytes, words: str):
        """Processes of two installations do not talk."""
        with pytest.raises(ValueError, match=words):
            control.parse(content)

    def test_a_process_gets_its_whole_configuration_in_one_argument(self):
        """Also what its predecessor has measured."""
        engine = child_config.EngineConfig(
            "engine-0", 8, 9, "a", 0, 1, "m", Path("/b"), "cpu", [0, 1], HELLO
        )
        front = child_config.FrontEndConfig("front-0", 8, 9, "a", 0, 1)
        assert engine == child_config.read_argument(
            child_config.EngineConfig, child_config.to_argument(engine)
        )
        assert front == child_config.read_argument(
            child_config.FrontEndConfig, child_config.to_argument(front)
        )


class TestChannel:
    """Sockets with an end."""

    async def test_messages_keep_their_order_and_bounds_when_nobody_reads(self):
        """What the kernel has no room for waits, and nothing is merged or cut."""
        got: list[bytes] = []
        done = asyncio.Event()
        listener, name = channel.listen()
        sender = channel.Channel(
            channel.connect(name), on_message=lambda _: None, on_close=lambda: None
        )
        sent = [bytes([index % 251]) * (40_000 + index) for index in range(60)]
        for message in sent:
            sender.send(message)

        def take(message: bytes) -> None:
            got.append(message)
            if len(got) == len(sent):
                done.set()

        accepted, _ = listener.accept()
        accepted.setblocking(False)
        assert channel.is_own_user(accepted)
        taker = channel.Channel(accepted, on_message=take, on_close=lambda: None)
        async with asyncio.timeout(30):
            await done.wait()
        assert got == sent
        sender.close()
        taker.close()
        listener.close()

    async def test_messages_of_one_turn_leave_in_two_packets(self):
        """The first at once, so that an idle peer begins; the others wake it only once."""
        listener, name = channel.listen()
        sender = channel.Channel(
            channel.connect(name), on_message=lambda _: None, on_close=lambda: None
        )
        accepted, _ = listener.accept()
        for number in range(5):
            sender.send(bytes([number]) * (1 + number))
        first = accepted.recv(1000)
        assert channel.parse_packet(first) == [b"\0"]
        await asyncio.sleep(0)
        second = accepted.recv(1000)
        assert channel.parse_packet(second) == [bytes([n]) * (1 + n) for n in range(1, 5)]
        sender.send(b"next")
        sender.send(b"last")
        sender.close()
        assert [channel.parse_packet(accepted.recv(1000)) for _ in range(2)] == [
            [b"next"],
            [b"last"],
        ]
        accepted.close()
        listener.close()

    async def test_a_message_that_fails_does_not_cost_the_others_of_its_packet(self):
        """They are about other tiles, whose clients would wait for ever."""
        listener, name = channel.listen()
        got: list[bytes] = []

        def take(message: bytes) -> None:
            got.append(message)
            if message == b"bad":
                raise RuntimeError("no memory")

        taker = channel.Channel(channel.connect(name), on_message=take, on_close=lambda: None)
        accepted, _ = listener.accept()
        accepted.send(channel.pack_packet([b"one", b"bad", b"two"]))
        accepted.send(channel.pack_packet([b"three"]))
        async with asyncio.timeout(30):
            while got[-1:] != [b"three"]:  # noqa: ASYNC110 (what is waited for tells nobody)
                await asyncio.sleep(0.005)
        assert got == [b"one", b"bad", b"two", b"three"]
        taker.close()
        accepted.close()
        listener.close()

    @pytest.mark.parametrize("packet", [b"\1", b"\4\0\0\0abc", b"\1\0\0\0ab"])
    async def test_a_packet_that_ends_within_a_message_is_refused(self, packet: bytes):
        """No message of it is taken for a whole one."""
        with pytest.raises(ValueError, match="ends within a message"):
            channel.parse_packet(packet)

    async def test_the_other_end_s_death_is_told_once(self):
        """Also to who is in the middle of sending."""
        closed: list[int] = []
        listener, name = channel.listen()
        here = channel.Channel(
            channel.connect(name), on_message=lambda _: None, on_close=lambda: closed.append(1)
        )
        accepted, _ = listener.accept()
        accepted.close()
        here.send(b"x")
        async with asyncio.timeout(30):
            while not closed:  # noqa: ASYNC110 (the channel tells by a plain call)
                await asyncio.sleep(0.01)
        here.send(b"y")
        here.close()
        assert closed == [1]
        listener.close()

    async def test_no_room_for_a_connection_is_an_error_at_once(self):
        """Whoever connects is an event loop, which must not stand still."""
        listener, name = channel.listen()
        listener.listen(0)
        with channel.connect(name), pytest.raises(OSError, match="temporarily unavailable"):
            channel.connect(name)
        listener.close()

    async def test_too_large_a_message_is_refused(self):
        """The other end would have a part of it, or nothing."""
        listener, name = channel.listen()
        sender = channel.Channel(
            channel.connect(name), on_message=lambda _: None, on_close=lambda: None
        )
        with pytest.raises(ValueError, match="131073 bytes"):
            sender.send(bytes(channel.MAX_MESSAGE_BYTES + 1))
        sender.close()
        listener.close()

    async def test_without_file_descriptors_connections_wait(self, monkeypatch: pytest.MonkeyPatch):
        """They are asked for now and then, and not as fast as the processor can."""
        tries: list[int] = []
        taken: list[socket.socket] = []

        def accept(listener: socket.socket) -> socket.socket | None:
            tries.append(1)
            if len(tries) < 3:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(listener)

        real = channel.accept
        monkeypatch.setattr(channel, "accept", accept)
        listener, name = channel.listen()
        acceptor = channel.Acceptor(listener, taken.append)
        with channel.connect(name):
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            async with asyncio.timeout(30):
                while not taken:  # noqa: ASYNC110 (the acceptor tells by a plain call)
                    await asyncio.sleep(0.005)
            assert loop.time() - began_s >= 0.2
            assert len(tries) == 3
        acceptor.close()
        taken[0].close()
        listener.close()

    async def test_nobody_listens(self):
        """An error at once."""
        with pytest.raises(OSError, match="refused"):
            channel.connect("semsr-nobody")


def metrics(tiles: float, depth: float, seconds: float) -> CollectorRegistry:
    """A process's metrics."""
    registry = CollectorRegistry()
    counter = Counter("semsr_tiles", "Tiles.", ("model",), registry=registry)
    counter.labels("m").inc(tiles)
    Gauge("semsr_queue_depth", "Depth.", registry=registry).set(depth)
    Gauge("semsr_event_loop_lag_seconds", "Lag.", registry=registry).set(depth)
    Histogram("semsr_wait_seconds", "Wait.", buckets=(1, 2), registry=registry).observe(seconds)
    return registry


def values(families: list) -> dict[str, float]:
    """Samples by name and bucket."""
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


class TestSnapshots:
    """Metrics of several processes."""

    def test_amounts_add_up_and_the_worst_lag_counts(self, arena: Arena):
        """Counters, histograms and gauges, each by its kind."""
        Publisher(arena, 0, metrics(2, 1, 0.5)).publish()
        Publisher(arena, 1, metrics(3, 4, 1.5)).publish()
        assert values(collect(arena)) == {
            "semsr_tiles_total": 5,
            "semsr_queue_depth": 5,
            "semsr_event_loop_lag_seconds": 4,
            "semsr_wait_seconds_bucket1.0": 1,
            "semsr_wait_seconds_bucket2.0": 2,
            "semsr_wait_seconds_bucket+Inf": 2,
            "semsr_wait_seconds_count": 2,
            "semsr_wait_seconds_sum": 2,
        }

    def test_counters_go_on_when_a_process_is_started_anew(self, arena: Arena):
        """What it had counted stays, what it was in the middle of does not."""
        Publisher(arena, 0, metrics(2, 1, 0.5)).publish()
        drop_state(arena, 0)
        got = values(collect(arena))
        assert got["semsr_tiles_total"] == 2
        assert "semsr_queue_depth" not in got
        successor = Publisher(arena, 0, metrics(3, 0, 1.5))
        for _ in range(2):
            successor.publish()
        got = values(collect(arena))
        assert (got["semsr_tiles_total"], got["semsr_wait_seconds_count"]) == (5, 2)
        assert got["semsr_queue_depth"] == 0

    def test_another_version_is_refused(self):
        """Not guessed."""
        with pytest.raises(ValueError, match="version 2"):
            snapshots.parse(b'{"format_version": 2}')
        assert snapshots.parse(b"") == []


def test_engines_share_the_cores():
    """Every core once, and nobody without one."""
    cpus = sorted(os.sched_getaffinity(0))
    for count in (1, 2, 3):
        shares = [share_cpus(index, count) for index in range(count)]
        assert all(shares)
        assert sorted({cpu for share in shares for cpu in share}) == cpus
        if count <= len(cpus):
            assert sum(len(share) for share in shares) == len(cpus)
