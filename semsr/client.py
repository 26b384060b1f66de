"""The client: NumPy arrays in, super-resolved NumPy arrays out, over HTTP.

    from semsr.client import Client

    with Client("http://fab-sr:8000") as client:
        sr = client.superresolve(tile).pixels

What a defect-detection pipeline imports; it needs NumPy and httpx2 and nothing else of this
project. `AsyncClient` is the same for asyncio. Tiles travel as raw bytes, connections are kept, a
saturated service is asked again when it says so, and nothing is waited for beyond its deadline.
"""

import asyncio
import contextlib
import random
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sized
from types import TracebackType
from typing import Literal, Never, Self

import httpx2
from tqdm import tqdm

from semsr.client_answers import (
    FIRST_BACKOFF_S,
    JITTER,
    MAX_BACKOFF_S,
    RETRIED,
    DeadlineError,
    Options,
    Priority,
    ServiceError,
    SrTile,
    Tile,
    checked,
    read_problem,
    read_tile,
    retry_after_s,
)
from semsr.client_stream import BlockingTileStream, TileStream

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineError",
    "Priority",
    "ServiceError",
    "SrTile",
    "Tile",
]

RAW = "application/octet-stream"

# What is left of a deadline must be worth a request.
_LEAST_S = 0.001
# As the service has it.
_MAX_TIMEOUT_S = 3600.0
# What a header may hold, and what the service takes for a request's id.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class _Call:
    """One tile under way: what to send next, and what to make of the answer. No I/O."""

    def __init__(self, tile: Tile, options: Options, *, request_id: str | None) -> None:
        """Check the tile.

        Raises:
            ValueError: It is not a two-dimensional array of uint8 or uint16 with a pixel or more,
                or the id cannot be sent.
        """
        sent = checked(tile)
        if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
            raise ValueError(
                f"request_id is {request_id[:140]!r}; expected 1 to 128 printable ASCII characters "
                "without spaces"
            )
        self.body = sent.tobytes()
        self._options = options
        self._headers = {
            "content-type": RAW,
            "accept": RAW,
            "x-tile-shape": f"{tile.shape[0]},{tile.shape[1]}",
            "x-tile-dtype": f"uint{8 * tile.dtype.itemsize}",
            **options.headers(),
        }
        if request_id is not None:
            self._headers["x-request-id"] = request_id
        self._end_s = time.monotonic() + options.timeout_s
        self._backoff_s = FIRST_BACKOFF_S
        self.attempts = 0

    @property
    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self._end_s - time.monotonic()

    def headers(self) -> dict[str, str]:
        """Headers of the next attempt."""
        self.attempts += 1
        left_ms = 1e3 * max(self.left_s, _LEAST_S)
        return {**self._headers, "x-request-timeout-ms": f"{left_ms:.3f}"}

    def read(self, response: httpx2.Response) -> SrTile | float:
        """Read an answer: the tile, or the seconds after which to try again.

        Raises:
            ServiceError: The service refuses the tile, or answers what it should not.
            DeadlineError: There is no time left to try again.
        """
        headers = response.headers
        if response.status_code == 200:
            return read_tile(response.content, headers, headers, attempts=self.attempts)
        error = read_problem(
            response.status_code, response.content, request_id=headers.get("x-request-id", "")
        )
        if error.status == 504:
            raise DeadlineError(504, error.code, error.detail, request_id=error.request_id)
        if error.status not in RETRIED:
            raise error
        return self.wait_s(error, retry_after_s(response.content, headers))

    def wait_s(self, error: ServiceError, asked_s: float | None = None) -> float:
        """Return for how long to wait before the next attempt.

        Args:
            error: Why the last one failed.
            asked_s: What the service asked for; None doubles the last wait.

        Raises:
            DeadlineError: It would be too late then.
        """
        if asked_s is None:
            asked_s = self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)
        wait_s = asked_s * (1 + JITTER * random.random())  # noqa: S311 - no secret
        if wait_s + _LEAST_S >= self.left_s:
            raise DeadlineError(
                error.status,
                "deadline-exceeded",
                f"after {self.attempts} attempts within {self._options.timeout_s:g} s: {error}",
                request_id=error.request_id,
            ) from error
        return wait_s

    def unreachable(self, error: httpx2.TransportError) -> float:
        """Return for how long to wait after a connection failed; a tile may be sent twice."""
        text = str(error) or type(error).__name__
        return self.wait_s(ServiceError(0, "unreachable", text))


class Client:
    """A connection pool to one service; threads may share it."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        priority: Priority = "online",
        window: tuple[int, int] | None = None,
        answer_dtype: Literal["uint8", "uint16"] = "uint8",
        connections: int = 16,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: Of the service, such as `http://127.0.0.1:8000`.
            timeout_s: Deadline of a tile, all attempts together.
            priority: `nightly` runs when no online tile waits.
            window: Grey range lo, hi of 16-bit tiles that maps to 0..255; None takes the model's.
            answer_dtype: uint16 stretches the 8-bit answer over the window again.
            connections: Most connections; `superresolve_many` has twice as many tiles under way.
            api_key: Where the service asks for one.
            headers: Sent with every request, such as those of a proxy.
            verify: Of an https service's certificate: a context that knows the fab's own authority,
                such as `ssl.create_default_context(cafile="ca.pem")`.
            transport: Of httpx2; tests give their own.

        Raises:
            ValueError: An argument that no request could be made with.
        """
        self._options = _options(timeout_s, priority, window, answer_dtype)
        self._connections = connections
        self._own_headers = _headers(headers, api_key)
        self._verify = verify
        self._http = httpx2.Client(
            base_url=_checked_url(url),
            headers=self._own_headers,
            limits=_limits(connections),
            verify=verify,
            transport=transport,
            trust_env=False,
        )

    def superresolve(self, tile: Tile, *, request_id: str | None = None) -> SrTile:
        """Super-resolve one tile.

        Args:
            tile: (H, W) uint8 or uint16, any size that the service takes.
            request_id: Carried through the service's log and back.

        Raises:
            ServiceError: The service refuses the tile, or answers nonsense.
            DeadlineError: No answer within the deadline.
            ValueError: The tile is no grey image, or the id cannot be sent.
        """
        call = _Call(tile, self._options, request_id=request_id)
        while True:
            try:
                response = self._http.post(
                    "/superresolve",
                    content=call.body,
                    headers=call.headers(),
                    timeout=max(call.left_s, _LEAST_S),
                )
            except httpx2.TransportError as error:
                time.sleep(call.unreachable(error))
                continue
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

        Args:
            tiles: See `superresolve`; of any sizes.
            errors: `raise` ends at the first tile that fails; `yield` gives its error in its place.
            progress: Show a bar on stderr.
            streams: Requests at once, which take turns; more than one is for services that run in
                several processes.

        Raises:
            ServiceError: The service refuses the whole request; or one tile, with `raise`.
            ValueError: A tile is no grey image.
        """
        source = iter(tiles)
        with contextlib.ExitStack() as stack:
            pool = [
                stack.enter_context(BlockingTileStream(self._stream()))
                for _ in range(_at_least_one(streams))
            ]
            bar = stack.enter_context(_bar(tiles, shown=progress))
            sent = done = 0
            is_exhausted = False
            while True:
                while not is_exhausted and sent - done < 2 * self._connections:
                    tile = next(source, None)
                    if tile is None:
                        is_exhausted = True
                        for stream in pool:
                            stream.finish()
                    else:
                        pool[sent % streams].put(tile)
                        sent += 1
                if done == sent:
                    return
                outcome = _outcome(pool[done % streams].get(), errors)
                done += 1
                bar.update()
                yield outcome

    def _stream(self) -> TileStream:
        return TileStream(
            self._http.base_url, self._options, headers=self._own_headers, verify=self._verify
        )

    def close(self) -> None:
        """Close the connections."""
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


class AsyncClient:
    """`Client` for asyncio; see there for the arguments."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        priority: Priority = "online",
        window: tuple[int, int] | None = None,
        answer_dtype: Literal["uint8", "uint16"] = "uint8",
        connections: int = 16,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._options = _options(timeout_s, priority, window, answer_dtype)
        self._connections = connections
        self._own_headers = _headers(headers, api_key)
        self._verify = verify
        self._http = httpx2.AsyncClient(
            base_url=_checked_url(url),
            headers=self._own_headers,
            limits=_limits(connections),
            verify=verify,
            transport=transport,
            trust_env=False,
        )

    async def superresolve(self, tile: Tile, *, request_id: str | None = None) -> SrTile:
        """Super-resolve one tile; see `Client.superresolve`."""
        call = _Call(tile, self._options, request_id=request_id)
        while True:
            try:
                response = await self._http.post(
                    "/superresolve",
                    content=call.body,
                    headers=call.headers(),
                    timeout=max(call.left_s, _LEAST_S),
                )
            except httpx2.TransportError as error:
                await asyncio.sleep(call.unreachable(error))
                continue
            outcome = call.read(response)
            if isinstance(outcome, SrTile):
                return outcome
            await asyncio.sleep(outcome)

    async def superresolve_many(
        self,
        tiles: Iterable[Tile],
        *,
        errors: Literal["raise", "yield"] = "raise",
        progress: bool = False,
        streams: int = 1,
    ) -> AsyncIterator[SrTile | ServiceError]:
        """Super-resolve many tiles in one request; see `Client.superresolve_many`."""
        source = iter(tiles)
        async with contextlib.AsyncExitStack() as stack:
            pool = [self._stream() for _ in range(_at_least_one(streams))]
            for stream in pool:
                stack.push_async_callback(stream.close)
            bar = stack.enter_context(_bar(tiles, shown=progress))
            sent = done = 0
            is_exhausted = False
            while True:
                while not is_exhausted and sent - done < 2 * self._connections:
                    tile = next(source, None)
                    if tile is None:
                        is_exhausted = True
                        for stream in pool:
                            stream.finish()
                    else:
                        pool[sent % streams].put(tile)
                        sent += 1
                if done == sent:
                    return
                outcome = _outcome(await pool[done % streams].get(), errors)
                done += 1
                bar.update()
                yield outcome

    def _stream(self) -> TileStream:
        return TileStream(
            self._http.base_url, self._options, headers=self._own_headers, verify=self._verify
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _options(
    timeout_s: float,
    priority: Priority,
    window: tuple[int, int] | None,
    answer_dtype: Literal["uint8", "uint16"],
) -> Options:
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        raise ValueError(
            f"timeout_s must be above 0 and at most {_MAX_TIMEOUT_S:g}, got {timeout_s}"
        )
    return Options(timeout_s=timeout_s, priority=priority, window=window, answer_dtype=answer_dtype)


def _headers(given: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    if api_key is not None and not _HEADER_VALUE.fullmatch(api_key):
        # Not the key itself: messages end up in logs.
        raise ValueError(
            "api_key is empty or has characters that cannot be sent; a line's end behind it?"
        )
    for name, value in (given or {}).items():
        if value and not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the header {name} has characters that cannot be sent")
    own = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    return {**dict(given or {}), **own}


def _checked_url(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"url is {url!r}: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"url is {url!r}; expected http://HOST:PORT or https://HOST:PORT")
    return parsed


def _limits(connections: int) -> httpx2.Limits:
    if connections < 1:
        raise ValueError(f"connections must be at least 1, got {connections}")
    return httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)


def _at_least_one(streams: int) -> int:
    if streams < 1:
        raise ValueError(f"streams must be at least 1, got {streams}")
    return streams


def _bar(tiles: Iterable[Tile], *, shown: bool) -> "tqdm[Never]":
    total = len(tiles) if isinstance(tiles, Sized) else None
    return tqdm(total=total, unit="tile", file=sys.stderr, disable=not shown)


def _outcome(
    result: SrTile | ServiceError, errors: Literal["raise", "yield"]
) -> SrTile | ServiceError:
    if errors == "raise" and isinstance(result, ServiceError):
        raise result
    return result
