"""A front end's connection to one engine process and to its successors."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.batching.tile_runner import TileResult
from service.ground.errors import ServiceError
from service.ground.priority import Priority
from service.pool.arena import NIGHTLY_DRAIN_S, ONLINE_DRAIN_S, WAITING, Arena
from service.pool.channel import Channel, connect
from service.pool.choice import expected_s
from service.pool.messages import (
    Hello,
    Kind,
    SlotResult,
    Submission,
    kind_of,
    pack_cancel,
    pack_submission,
    parse_error,
    parse_hello,
    parse_results,
)

_RECONNECT_S = 0.1
# Maximum number of slots in one message, which has 128 KiB at most.
_MAX_SLOTS = 16_384


@dataclass(slots=True, eq=False)
class RemoteTile:
    """A tile of a front end in its slot.

    Attributes:
        slot: Slot index.
        shape: (H, W) of the input.
        future: Future of the answer.
        deadline_s: `time.monotonic()` of the deadline, or None.
        priority: Class of the tile.
        is_retry: Whether an engine process has died while it held the tile.
        expiry: Timer that fails the tile if no engine process becomes ready in time.
        bits: Bits of the answer, 8 or 16.
    """

    slot: int
    shape: tuple[int, int]
    future: asyncio.Future[TileResult]
    deadline_s: float | None
    priority: Priority
    is_retry: bool = False
    expiry: asyncio.TimerHandle | None = None
    bits: int = 8


class EngineLink:
    """The connection to one engine process and to its successors at the same address."""

    def __init__(
        self,
        address: str,
        row: int,
        arena: Arena,
        *,
        on_hello: Callable[["EngineLink", Hello], None],
    ) -> None:
        """Begin to connect.

        Args:
            address: Address at which the engine processes of this place listen.
            row: Row of the arena with the engine's state.
            arena: The pool's shared memory.
            on_hello: Callback for an engine process that is ready.
        """
        self.address = address
        self.in_flight: dict[int, RemoteTile] = {}
        self.is_up = False
        self.per_tile_s = 0.0
        self.on_results: Callable[[EngineLink, list[SlotResult]], None] = _ignore
        self.on_error: Callable[[EngineLink, Sequence[int], ServiceError | None], None] = _ignore
        self.on_lost: Callable[[EngineLink], None] = _ignore
        self._state = arena.engine_row(row)
        self._on_hello = on_hello
        self._channel: Channel | None = None
        self._is_closed = False
        self._connect()

    def drain_s(self, priority: Priority) -> float:
        """Seconds until the engine process has done its waiting tiles, by its last report."""
        column = ONLINE_DRAIN_S if priority is Priority.ONLINE else NIGHTLY_DRAIN_S
        return float(self._state[column])

    def expected_s(self, priority: Priority) -> float:
        """Estimate when the engine process would have done one more tile."""
        return expected_s(
            reported_s=self.drain_s(priority),
            in_flight=len(self.in_flight),
            per_tile_s=self.per_tile_s,
        )

    @property
    def num_waiting(self) -> int:
        """Number of tiles that wait in the engine process, by its last report."""
        return int(self._state[WAITING])

    def submit(self, tiles: Sequence[RemoteTile]) -> None:
        """Send the tiles of one request, or a single tile that is retried."""
        first = tiles[0]
        self.in_flight.update((tile.slot, tile) for tile in tiles)
        for start in range(0, len(tiles), _MAX_SLOTS):
            submission = Submission(
                [tile.slot for tile in tiles[start : start + _MAX_SLOTS]],
                first.shape,
                first.priority,
                first.deadline_s,
                first.is_retry,
                first.bits,
            )
            self._send(pack_submission(submission))

    def withdraw(self, tile: RemoteTile) -> None:
        """Ask the engine to drop a tile; the slot stays in use until the engine answers."""
        self._send(pack_cancel([tile.slot]))

    def close(self) -> None:
        """Disconnect from the engine process."""
        self._is_closed = True
        self.is_up = False
        if self._channel is not None:
            self._channel.close()

    def _send(self, message: bytes) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def _connect(self) -> None:
        if self._is_closed:
            return
        try:
            connection = connect(self.address)
        except OSError:
            # The supervisor holds the listening socket: it is gone too, or the queue is full.
            asyncio.get_running_loop().call_later(_RECONNECT_S, self._connect)
            return
        self._channel = Channel(connection, on_message=self._receive, on_close=self._lost)

    def _receive(self, message: bytes) -> None:
        match kind_of(message):
            case Kind.HELLO:
                hello = parse_hello(message)
                self.is_up = True
                self.per_tile_s = min(t / size for size, t in hello.batch_s.items())
                self._on_hello(self, hello)
            case Kind.RESULT:
                self.on_results(self, parse_results(message))
            case Kind.ERROR:
                self.on_error(self, *parse_error(message))
            case kind:
                raise ValueError(f"an engine process sent {kind.name}")

    def _lost(self) -> None:
        was_up, self.is_up, self._channel = self.is_up, False, None
        # The next one takes over the same address.
        self._connect()
        if was_up:
            self.on_lost(self)


def _ignore(*_: object) -> None:
    """Ignore an event, until a runner sets its own callbacks."""
