"""The engine process's end of `messages`: runs the tiles of several front ends on one batcher."""

import asyncio
import functools
import socket
import time
from collections.abc import Callable

import numpy as np
import structlog

from engines.protocol import Engine, Tile
from engines.sixteen_bit import Tile16
from service.batching.batcher import Batcher
from service.batching.tile_runner import TileResult
from service.ground.errors import EngineFailed, ServiceError
from service.ground.priority import Priority
from service.pool.arena import (
    BUSY_S,
    CONNECTIONS,
    HEARTBEAT,
    NIGHTLY_DRAIN_S,
    ONLINE_DRAIN_S,
    WAITING,
    Arena,
)
from service.pool.channel import Acceptor, Channel
from service.pool.messages import (
    Hello,
    Kind,
    SlotResult,
    Submission,
    kind_of,
    pack_error,
    pack_hello,
    pack_results,
    parse_cancel,
    parse_submission,
)

log = structlog.get_logger()

# Of one message, which has 128 KiB at most; a result takes 40 bytes. After a turn of the event loop
# that took long, many batches settle at once.
_MAX_RESULTS = 2048


class EngineServer:
    """Serves front ends; create and use it on one event loop."""

    def __init__(
        self,
        listener: socket.socket,
        arena: Arena,
        batcher: Batcher,
        *,
        hello: Hello,
        engine: Engine,
        row: int,
    ) -> None:
        """Prepare.

        Args:
            listener: Socket that front ends connect to.
            arena: Memory with their tiles.
            batcher: Batcher that runs the tiles.
            hello: Greeting for front ends.
            engine: The batcher's engine; it registers the memory of its tiles.
            row: Row of the arena with this engine's state.
        """
        self._listener = listener
        self._batcher = batcher
        self._hello = pack_hello(hello)
        self._tiles = _Tiles(arena, engine)
        self._state = arena.engine_row(row)
        self._connections: set[_Connection] = set()
        self._acceptor: Acceptor | None = None
        self._is_state_due = False

    def start(self) -> None:
        """Let front ends connect."""
        self._listener.setblocking(False)
        self._acceptor = Acceptor(self._listener, self._accept)

    def close(self) -> None:
        """Reject new connections and close the present ones."""
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in list(self._connections):
            connection.close()

    def tell_state(self) -> None:
        """Write the engine's state (waiting tiles, batch in progress) into its row of the arena."""
        state, batcher = self._state, self._batcher
        state[ONLINE_DRAIN_S] = batcher.expected_wait_s(Priority.ONLINE)
        state[NIGHTLY_DRAIN_S] = batcher.expected_wait_s(Priority.NIGHTLY)
        state[WAITING] = batcher.depth
        state[CONNECTIONS] = len(self._connections)
        state[BUSY_S] = batcher.oldest_batch_s()
        state[HEARTBEAT] = time.monotonic()

    def tell_state_soon(self) -> None:
        """Write the state at the end of this turn of the event loop, once for all its messages."""
        if not self._is_state_due:
            self._is_state_due = True
            asyncio.get_running_loop().call_soon(self._tell_due_state)

    def _tell_due_state(self) -> None:
        self._is_state_due = False
        self.tell_state()

    def _accept(self, accepted: socket.socket) -> None:
        connection = _Connection(
            accepted,
            self._tiles,
            self._batcher,
            tell_state=self.tell_state_soon,
            on_close=self._connections.discard,
        )
        self._connections.add(connection)
        self.tell_state()
        connection.channel.send(self._hello)


class _Tiles:
    """The tiles of the arena, as the engine gets them."""

    def __init__(self, arena: Arena, engine: Engine) -> None:
        self._arena = arena
        self._engine = engine
        self._registered: set[int] = set()

    def of(self, submission: Submission) -> tuple[list[Tile], list[Tile | Tile16]]:
        """Return the inputs of a submission's tiles, and the memory of their answers."""
        arena, scale = self._arena, self._engine.scale
        height, width = submission.shape
        for block in {arena.block_of(slot) for slot in submission.slots} - self._registered:
            # Not all at the start: it would commit the memory of slots that are never used.
            self._engine.register(arena.block(block))
            self._registered.add(block)
        lr = [arena.lr(slot, height, width) for slot in submission.slots]
        row_bytes = submission.bits // 8 * scale * width
        sr = [arena.sr(slot, scale * height, row_bytes) for slot in submission.slots]
        return lr, [tile.view(np.uint16) for tile in sr] if submission.bits == 16 else [*sr]


class _Connection:
    """One front end."""

    def __init__(
        self,
        accepted: socket.socket,
        tiles: "_Tiles",
        batcher: Batcher,
        *,
        tell_state: Callable[[], None],
        on_close: Callable[["_Connection"], None],
    ) -> None:
        self._tiles = tiles
        self._batcher = batcher
        self._tell_state = tell_state
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._futures: dict[int, asyncio.Future[TileResult]] = {}
        self._results: list[SlotResult] = []
        self.channel = Channel(accepted, on_message=self._receive, on_close=self._lost)

    def close(self) -> None:
        """Send the results so far and close; the front end counts its other tiles as lost."""
        self._send_results()
        self.channel.close()
        self._on_close(self)

    def _receive(self, message: bytes) -> None:
        match kind_of(message):
            case Kind.SUBMIT:
                self._submit(message)
            case Kind.CANCEL:
                # Tiles in progress are answered when their batch is done: their slots are in use.
                taken = [s for s in parse_cancel(message) if self._withdraw(s)]
                if taken:
                    self.channel.send(pack_error(taken, None))
            case kind:
                raise ValueError(f"a front end sent {kind.name}")
        self._tell_state()

    def _submit(self, message: bytes) -> None:
        submission = parse_submission(message)
        try:
            lr, sr = self._tiles.of(submission)
            futures = self._batcher.submit(
                lr,
                deadline_s=submission.deadline_s,
                priority=submission.priority,
                bits=submission.bits,
                outputs=sr,
                is_admitted=submission.is_retry,
            )
        except ServiceError as error:
            self.channel.send(pack_error(submission.slots, error))
            return
        except Exception:
            # Memory that the engine cannot register, for one. A tile without an answer would hang.
            log.exception("tiles_refused", tiles=len(submission.slots))
            error = EngineFailed("the engine process could not take this tile")
            self.channel.send(pack_error(submission.slots, error))
            return
        for slot, future in zip(submission.slots, futures, strict=True):
            self._futures[slot] = future
            future.add_done_callback(functools.partial(self._settle, slot))

    def _withdraw(self, slot: int) -> bool:
        future = self._futures.get(slot)
        return future is not None and self._batcher.withdraw(future)

    def _settle(self, slot: int, future: asyncio.Future[TileResult]) -> None:
        self._futures.pop(slot, None)
        if future.cancelled():
            return  # withdrawn, and answered there
        error = future.exception()
        if error is not None:
            known = error if isinstance(error, ServiceError) else EngineFailed(str(error))
            self.channel.send(pack_error([slot], known))
            return
        result = future.result()
        if not self._results:
            # The tiles of a batch settle one after the other: one message reports them all.
            self._loop.call_soon(self._send_results)
        self._results.append(
            SlotResult(slot, result.batch_size, result.queue_s, result.infer_s, result.flags)
        )

    def _send_results(self) -> None:
        if not self._results:
            return  # sent when the connection was closed
        results, self._results = self._results, []
        for start in range(0, len(results), _MAX_RESULTS):
            self.channel.send(pack_results(results[start : start + _MAX_RESULTS]))
        self._tell_state()

    def _lost(self) -> None:
        """Withdraw the tiles of a front end that has died."""
        for slot in list(self._futures):
            self._withdraw(slot)
        self._on_close(self)
        self._tell_state()
        log.info("front_end_left")
