"""The client: NumPy arrays in, super-resolved NumPy arrays out, over HTTP.

    from semsr.client import Client

    with Client("http://fab-sr:8000") as client:
        sr = client.superresolve(tile).pixels

What a defect-detection pipeline imports; it needs NumPy and httpx2 and nothing else of this
project. `AsyncClient` is the same for asyncio. Tiles travel as raw bytes, connections are kept, a
saturated service is asked again when it says so, nothing is waited for beyond its deadline, and an
answer is taken only if it has its tile's request id and shape.
"""

import asyncio
import contextlib
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sized
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

import httpx2
from tqdm import tqdm

from semsr.client_answers import Scales, SrTile, Tile
from semsr.client_blocking import BlockingTileStream
from semsr.client_call import Call
from semsr.client_connections import LoopConnections, ProcessConnections
from semsr.client_errors import DeadlineError, ServiceError, TileError
from semsr.client_options import (
    AnswerDtype,
    Priority,
    at_least_one,
    check_errors,
    checked_options,
)
from semsr.client_stream import TileStream
from semsr.client_turns import Turns, iterator_of

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineError",
    "Priority",
    "ServiceError",
    "SrTile",
    "Tile",
    "TileError",
]

Transport = TypeVar("Transport", httpx2.BaseTransport, httpx2.AsyncBaseTransport)


class _AnyClient(Generic[Transport]):
    """What both clients have in common."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        priority: Priority = "online",
        window: tuple[int, int] | None = None,
        answer_dtype: AnswerDtype = "uint8",
        model: str | None = None,
        connections: int = 16,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: Transport | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: Address of the service, such as `http://127.0.0.1:8000`.
            timeout_s: Deadline of a tile in seconds, all attempts together.
            priority: Class of the tiles; `nightly` runs when no online tile waits.
            window: Grey range lo, hi of 16-bit tiles that maps to 0..255; None takes the model's.
            answer_dtype: Data type of the answers; uint16 stretches the 8-bit answer over the
                window again.
            model: Name of the model, where the service has several; None takes its default.
            connections: Most connections; `superresolve_many` has twice as many tiles under way.
            api_key: Key, where the service asks for one.
            headers: Headers sent with every request, such as those that a proxy needs.
            verify: Check of an https service's certificate: a context that knows the fab's own
                authority, such as `ssl.create_default_context(cafile="ca.pem")`.
            transport: Transport of httpx2; tests give their own. It cannot follow the client into
                forked processes.

        Raises:
            ValueError: An argument that no request could be made with.
        """
        self._arguments = {
            "url": url,
            "timeout_s": timeout_s,
            "priority": priority,
            "window": window,
            "answer_dtype": answer_dtype,
            "model": model,
            "connections": connections,
            "api_key": api_key,
            "headers": None if headers is None else dict(headers),
            "verify": verify,
        }
        self._options = checked_options(**self._arguments)
        self._transport = transport
        self._scales = Scales()
        self._prepare()

    def _prepare(self) -> None:
        """Make the connections' owner; nothing is opened yet."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process, or a copy, makes its own connections from the same arguments.
        return _restored, (type(self), {**self._arguments, "transport": self._transport})

    def _stream(self) -> TileStream:
        return TileStream(self._options, self._scales)


def _restored(kind: "type[_AnyClient[Any]]", arguments: dict[str, Any]) -> "_AnyClient[Any]":
    """Rebuild a pickled client."""
    return kind(**arguments)


class Client(_AnyClient[httpx2.BaseTransport]):
    """Connections to one service; threads may share them, and each process opens its own."""

    def _prepare(self) -> None:
        self._http = ProcessConnections(
            lambda: httpx2.Client(transport=self._transport, **self._options.http_arguments()),
            is_given=self._transport is not None,
        )

    def superresolve(self, tile: Tile, *, request_id: str | None = None) -> SrTile:
        """Super-resolve one tile.

        Args:
            tile: (H, W) uint8 or uint16, any size that the service takes.
            request_id: Id that the service logs and the answer has; None makes one.

        Raises:
            TileError: The tile is not a grey image; a `ValueError` and a `ServiceError`.
            ServiceError: The service refuses the tile, or what came is not this tile's answer.
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

    def superresolve_many(
        self,
        tiles: Iterable[Tile],
        *,
        errors: Literal["raise", "yield"] = "raise",
        progress: bool = False,
        streams: int = 1,
    ) -> Iterator[SrTile | ServiceError]:
        """Super-resolve many tiles in one request, which is sent and read at the same time.

        Results come in the tiles' order. Tiles are taken from the iterable as they are needed,
        twice as many ahead as there are connections, so that a night's scan never lies in memory.
        A connection that breaks, or a service that stops, costs nothing: what was not answered is
        sent again in another request.

        What cannot be sent, such as None for a file that could not be read, is a `TileError` in its
        place, like a tile that the service refuses. What the iterable itself raises is raised
        unchanged, after the answers to the tiles before it.

        Args:
            tiles: See `superresolve`; of any sizes.
            errors: `raise` ends at the first tile that fails, when those before it are answered;
                `yield` gives its error in its place.
            progress: Whether a bar is shown on stderr.
            streams: Requests at once, which take turns; more than one is for services that run in
                several processes.

        Raises:
            ServiceError: The service refuses the whole request; or one tile, with `raise`.
            TileError: A tile is not a grey image, with `raise`.
            ValueError: `errors` or `streams` has an impossible value.
            RuntimeError: The client is closed; or the process was forked since the first tile.
        """
        check_errors(errors)
        at_least_one("streams", streams)
        self._http.check_open()
        bar = _counter(tiles, shown=progress)
        return self._many(iterator_of(tiles), bar, errors, streams)

    def _many(
        self,
        tiles: Iterator[Tile],
        bar: contextlib.AbstractContextManager[Callable[[], object]],
        errors: Literal["raise", "yield"],
        streams: int,
    ) -> Iterator[SrTile | ServiceError]:
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
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_AnyClient[httpx2.AsyncBaseTransport]):
    """`Client` for asyncio; see there. Each event loop has its own connections."""

    def _prepare(self) -> None:
        self._http = LoopConnections(
            lambda: httpx2.AsyncClient(transport=self._transport, **self._options.http_arguments()),
            is_given=self._transport is not None,
        )

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

    def superresolve_many(
        self,
        tiles: Iterable[Tile],
        *,
        errors: Literal["raise", "yield"] = "raise",
        progress: bool = False,
        streams: int = 1,
    ) -> AsyncIterator[SrTile | ServiceError]:
        """Super-resolve many tiles in one request; see `Client.superresolve_many`."""
        check_errors(errors)
        at_least_one("streams", streams)
        self._http.check_open()
        bar = _counter(tiles, shown=progress)
        return self._many(iterator_of(tiles), bar, errors, streams)

    async def _many(
        self,
        tiles: Iterator[Tile],
        bar: contextlib.AbstractContextManager[Callable[[], object]],
        errors: Literal["raise", "yield"],
        streams: int,
    ) -> AsyncIterator[SrTile | ServiceError]:
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
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


@contextlib.contextmanager
def _counter(tiles: Iterable[Tile], *, shown: bool) -> Iterator[Callable[[], object]]:
    """Give what counts a tile on a bar, which is shown from then on.

    tqdm takes a lock that processes share, even for a bar that it does not show: after a fork that
    could wait forever.
    """
    if not shown:
        yield lambda: None
        return
    total = len(tiles) if isinstance(tiles, Sized) else None
    with tqdm(total=total, unit="tile", file=sys.stderr) as bar:
        yield bar.update


def _raise_if(errors: Literal["raise", "yield"], outcome: SrTile | ServiceError) -> None:
    if errors == "raise" and isinstance(outcome, ServiceError):
        raise outcome
