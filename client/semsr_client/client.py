"""`Client` and `AsyncClient`: one tile with retries, and many tiles in order."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import httpx2

from semsr_client.answers import Scales, SrTile, Tile
from semsr_client.blocking import BlockingTileStream
from semsr_client.call import Call
from semsr_client.connections import Connections
from semsr_client.errors import ServiceError, TileError
from semsr_client.options import (
    AnswerDtype,
    Options,
    Priority,
    at_least_one,
    check_errors,
)
from semsr_client.stream import TileStream
from semsr_client.turns import Counter, Turns, counter, iterator_of

Errors = Literal["raise", "yield"]
Outcome = SrTile | ServiceError
Transport = TypeVar("Transport", httpx2.BaseTransport, httpx2.AsyncBaseTransport)
Pool = TypeVar("Pool", httpx2.Client, httpx2.AsyncClient)
Outcomes = TypeVar("Outcomes", Iterator[Outcome], AsyncIterator[Outcome])


class _AnyClient(Generic[Transport, Pool, Outcomes]):
    """Common part of both clients; each process opens its own connections."""

    _HAS_POOL_PER_LOOP: ClassVar[bool]

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        priority: Priority = "online",
        window: tuple[int, int] | None = None,
        answer_dtype: AnswerDtype | None = None,
        answer_bits: Literal[8, 16] = 8,
        model: str | None = None,
        connections: int = 16,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: Transport | None = None,
    ) -> None:
        """Check the arguments; nothing is sent yet.

        Args:
            url: Address of the service, such as `http://127.0.0.1:8000`.
            timeout_s: Time limit for a tile in seconds, all attempts included.
            priority: Class of the tiles; `nightly` runs when no online tile waits.
            window: Grey range lo, hi of 16-bit tiles that maps to 0..255; None takes the model's.
            answer_dtype: Data type of the answers; uint16 stretches the answer over the window
                again. None means uint8, or uint16 with 16 bits.
            answer_bits: Bits that the network gives; 16 needs a service with
                SEMSR_ANSWER_BITS=16.
            model: Name of the model, where the service has several; None takes its default.
            connections: Largest number of connections; `superresolve_many` has up to twice as many
                tiles in flight.
            api_key: Key, where the service asks for one.
            headers: Headers sent with every request, for example for a proxy.
            verify: Check of an https service's certificate: a context that knows the fab's own
                authority, such as `ssl.create_default_context(cafile="ca.pem")`.
            transport: Transport of httpx2, such as one for tests. Forked processes cannot use it.

        Raises:
            ValueError: An argument is invalid.
        """
        self._arguments: dict[str, Any] = {
            "url": url,
            "timeout_s": timeout_s,
            "priority": priority,
            "window": window,
            "answer_dtype": answer_dtype or ("uint16" if answer_bits == 16 else "uint8"),
            "answer_bits": answer_bits,
            "model": model,
            "connections": connections,
            "api_key": api_key,
            "headers": None if headers is None else dict(headers),
            "verify": verify,
        }
        self._options = Options(**self._arguments)
        self._transport = transport
        self._scales = Scales()
        self._http: Connections[Pool] = Connections(
            self._new_pool,
            is_per_loop=self._HAS_POOL_PER_LOOP,
            has_own_transport=transport is not None,
        )

    def _new_pool(self) -> Pool:
        raise NotImplementedError

    def superresolve_many(
        self,
        tiles: Iterable[Tile],
        *,
        errors: Errors = "raise",
        progress: bool = False,
        streams: int = 1,
    ) -> Outcomes:
        """Super-resolve many tiles in one request, which is sent and read at the same time.

        Results come in the tiles' order. Tiles are taken from the iterable as they are needed, at
        most twice as many ahead as there are connections. A night's scan thus need not fit into
        memory. After a broken connection or a restart of the service, unanswered tiles are sent
        again in another request.

        A tile that cannot be sent, such as None for an unreadable file, gives a `TileError`, and a
        tile that the service rejects a `ServiceError`; `errors` says how they are reported. Errors
        of the iterable itself are raised unchanged, after the answers to the preceding tiles.

        Args:
            tiles: See `superresolve`; of any sizes.
            errors: `raise` ends at the first tile that fails, after the answers to the preceding
                ones; `yield` yields its error in its place.
            progress: Whether a bar is shown on stderr.
            streams: Number of concurrent requests that take turns; more than one is for services
                that run in several processes.

        Raises:
            ServiceError: The service rejects the whole request; or one tile, with `raise`.
            TileError: A tile is not a grey image, with `raise`.
            ValueError: `errors` or `streams` has an impossible value.
            RuntimeError: The client is closed; or the process was forked since the first tile.
        """
        check_errors(errors)
        at_least_one("streams", streams)
        self._http.check_open()
        bar = counter(tiles, shown=progress)
        return self._many(iterator_of(tiles), bar, errors, streams)

    def _many(self, tiles: Iterator[Tile], bar: Counter, errors: Errors, streams: int) -> Outcomes:
        """Super-resolve tiles whose arguments were checked."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process, or a copy, makes its own connections from the same arguments.
        return _restored, (type(self), {**self._arguments, "transport": self._transport})

    def _stream(self) -> TileStream:
        return TileStream(self._options, self._scales)


def _restored(kind: Callable[..., object], arguments: dict[str, Any]) -> object:
    """Rebuild a pickled client."""
    return kind(**arguments)


class Client(_AnyClient[httpx2.BaseTransport, httpx2.Client, Iterator[Outcome]]):
    """Connections to one service; threads may share them, and each process opens its own."""

    _HAS_POOL_PER_LOOP = False

    def _new_pool(self) -> httpx2.Client:
        return httpx2.Client(transport=self._transport, **self._options.http_arguments())

    def superresolve(self, tile: Tile, *, request_id: str | None = None) -> SrTile:
        """Super-resolve one tile.

        Args:
            tile: (H, W) uint8 or uint16, any size that the service takes.
            request_id: Id that the service logs and the answer has; None makes one.

        Raises:
            TileError: The tile is not a grey image; a `ValueError` and a `ServiceError`.
            ServiceError: The service rejects the tile, or the answer is not this tile's.
            DeadlineError: There was no answer within the deadline.
            ValueError: The id cannot be sent.
            RuntimeError: The client is closed.
        """
        call = Call(tile, self._options, self._scales, request_id=request_id)
        http = self._http.get()
        while True:
            try:
                with http.stream(**call.request()) as response:
                    call.begin(response)
                    for part in response.iter_bytes():
                        call.add(part)
            except httpx2.RequestError as error:
                outcome: SrTile | float = call.failed(error)
            else:
                outcome = call.read(response)
            if isinstance(outcome, SrTile):
                return outcome
            time.sleep(outcome)

    def _many(
        self, tiles: Iterator[Tile], bar: Counter, errors: Errors, streams: int
    ) -> Iterator[Outcome]:
        with contextlib.ExitStack() as stack:
            count = stack.enter_context(bar)
            pool = [stack.enter_context(BlockingTileStream(self._stream())) for _ in range(streams)]
            turns = Turns(tiles, pool, ahead=2 * self._options.connections)
            while (due := turns.next()) is not None:
                outcome = due if isinstance(due, TileError) else due.get()
                _raise_if(errors, outcome)
                count()
                yield outcome

    def close(self) -> None:
        """Close the connections of this process; the client refuses further tiles."""
        if (pool := self._http.close()) is not None:
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(
    _AnyClient[httpx2.AsyncBaseTransport, httpx2.AsyncClient, AsyncIterator[Outcome]]
):
    """`Client` for asyncio (`async for … in superresolve_many(…)`).

    Each event loop has its own connections.
    """

    _HAS_POOL_PER_LOOP = True

    def _new_pool(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=self._transport, **self._options.http_arguments())

    async def superresolve(self, tile: Tile, *, request_id: str | None = None) -> SrTile:
        """Super-resolve one tile; see `Client.superresolve`."""
        call = Call(tile, self._options, self._scales, request_id=request_id)
        http = self._http.get()
        while True:
            try:
                async with http.stream(**call.request()) as response:
                    call.begin(response)
                    async for part in response.aiter_bytes():
                        call.add(part)
            except httpx2.RequestError as error:
                outcome: SrTile | float = call.failed(error)
            else:
                outcome = call.read(response)
            if isinstance(outcome, SrTile):
                return outcome
            await asyncio.sleep(outcome)

    async def _many(
        self, tiles: Iterator[Tile], bar: Counter, errors: Errors, streams: int
    ) -> AsyncIterator[Outcome]:
        async with contextlib.AsyncExitStack() as stack:
            count = stack.enter_context(bar)
            pool = [self._stream() for _ in range(streams)]
            for stream in pool:
                stack.push_async_callback(stream.close)
            turns = Turns(tiles, pool, ahead=2 * self._options.connections)
            while (due := turns.next()) is not None:
                outcome = due if isinstance(due, TileError) else await due.get()
                _raise_if(errors, outcome)
                count()
                yield outcome

    async def close(self) -> None:
        """Close the running loop's connections; the client refuses further tiles."""
        if (pool := self._http.close()) is not None:
            await pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _raise_if(errors: Errors, outcome: Outcome) -> None:
    if errors == "raise" and isinstance(outcome, ServiceError):
        raise outcome
