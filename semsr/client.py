"""The client: NumPy arrays in, super-resolved NumPy arrays out, over HTTP.

    from semsr.client import Client

    with Client("http://fab-sr:8000") as client:
        sr = client.superresolve(tile).pixels

What a defect-detection pipeline imports; it needs NumPy and httpx2 and nothing else of this
project. `AsyncClient` is the same for asyncio. Tiles travel as raw bytes, connections are kept, a
saturated service is asked again when it says so, and nothing is waited for beyond its deadline.
"""

import asyncio
import itertools
import json
import random
import ssl
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, cast

import httpx2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

Tile = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Priority = Literal["online", "nightly"]

RAW = "application/octet-stream"

# Without Retry-After a connection that broke is tried again after about so long, doubling.
_FIRST_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 2.0
# Saturated, or over this client's quota.
_RETRIED = frozenset({429, 503})
# Others were told the same time to come again: spread them.
_JITTER = 0.25
# What is left of a deadline must be worth a request.
_LEAST_S = 0.001


class ServiceError(Exception):
    """The service answered with a problem, or could not be reached.

    Attributes:
        status: HTTP status; 0 where there was no answer.
        code: Stable name such as `queue-full`; `unreachable` or `bad-answer` from here.
        detail: What was wrong, for people.
        request_id: The request's id, which the service's log carries; empty without an answer.
    """

    def __init__(self, status: int, code: str, detail: str, *, request_id: str = "") -> None:
        super().__init__(f"{code} ({status}): {detail}" if status else f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class DeadlineError(ServiceError):
    """The answer did not come within the deadline; the last reason is in the detail."""


@dataclass(frozen=True, kw_only=True)
class SrTile:
    """One answer.

    Attributes:
        pixels: (s*H, s*W) uint8, or uint16 where asked for; read-only.
        quality: What the model's graph says of the answer: `non-finite`, `saturated`,
            `consistency`, `consistency-worst`.
        model: Name of the model.
        model_version: First twelve digits of the bundle's sha256.
        engine: What computed it.
        precision: In which precision.
        request_id: As in the service's log.
        timing_ms: Milliseconds by stage, as the service measured them.
        attempts: Requests that were sent for it.
    """

    pixels: Tile
    quality: dict[str, float]
    model: str
    model_version: str
    engine: str
    precision: str
    request_id: str
    timing_ms: dict[str, float]
    attempts: int


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What every request of a client has in common."""

    timeout_s: float
    priority: Priority
    window: tuple[int, int] | None
    answer_dtype: Literal["uint8", "uint16"]


class _Call:
    """One tile under way: what to send next, and what to make of the answer. No I/O."""

    def __init__(self, tile: Tile, options: _Options, *, request_id: str | None) -> None:
        """Check the tile.

        Raises:
            ValueError: It is not a two-dimensional array of uint8 or uint16.
        """
        itemsize = tile.dtype.itemsize
        if tile.ndim != 2 or tile.dtype.kind != "u" or itemsize > 2:
            raise ValueError(
                f"a tile is a two-dimensional array of uint8 or uint16, got {tile.dtype} of shape "
                f"{tile.shape}"
            )
        little_endian = tile.dtype.newbyteorder("<")
        self.body = np.ascontiguousarray(tile, dtype=little_endian).tobytes()
        self._options = options
        self._headers = {
            "content-type": RAW,
            "accept": RAW,
            "x-tile-shape": f"{tile.shape[0]},{tile.shape[1]}",
            "x-tile-dtype": f"uint{8 * itemsize}",
            "x-answer-dtype": options.answer_dtype,
            "x-priority": options.priority,
        }
        if options.window is not None:
            self._headers["x-window"] = f"{options.window[0]},{options.window[1]}"
        if request_id is not None:
            self._headers["x-request-id"] = request_id
        self._end_s = time.monotonic() + options.timeout_s
        self._backoff_s = _FIRST_BACKOFF_S
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
        if response.status_code == 200:
            return self._read_tile(response)
        error = _error_of(response)
        if error.status == 504:
            raise DeadlineError(504, error.code, error.detail, request_id=error.request_id)
        if error.status not in _RETRIED:
            raise error
        return self.wait_s(error, _retry_after_s(response))

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
            self._backoff_s = min(2 * self._backoff_s, _MAX_BACKOFF_S)
        wait_s = asked_s * (1 + _JITTER * random.random())  # noqa: S311 - no secret
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

    def _read_tile(self, response: httpx2.Response) -> SrTile:
        headers = response.headers
        try:
            height, width = (int(side) for side in headers["x-tile-shape"].split(","))
            dtype = np.dtype(headers["x-tile-dtype"]).newbyteorder("<")
            pixels = np.frombuffer(response.content, dtype=dtype).reshape(height, width)
            quality = _pairs(headers["x-quality"], ",", "=")
            timing = _pairs(headers.get("server-timing", "").replace(";dur=", "="), ",", "=")
        except (KeyError, ValueError, TypeError) as error:
            raise ServiceError(
                200, "bad-answer", f"the answer is no tile of this service: {error!r}"
            ) from error
        return SrTile(
            pixels=cast("Tile", pixels),
            quality=quality,
            model=headers.get("x-model", ""),
            model_version=headers.get("x-model-version", ""),
            engine=headers.get("x-engine", ""),
            precision=headers.get("x-precision", ""),
            request_id=headers.get("x-request-id", ""),
            timing_ms=timing,
            attempts=self.attempts,
        )


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
            connections: Most connections, and tiles under way in `superresolve_many`.
            api_key: Where the service asks for one.
            headers: Sent with every request, such as those of a proxy.
            verify: Of an https service's certificate: a context that knows the fab's own authority,
                such as `ssl.create_default_context(cafile="ca.pem")`.
            transport: Of httpx2; tests give their own.
        """
        self._options = _options(timeout_s, priority, window, answer_dtype)
        self._connections = connections
        self._http = httpx2.Client(
            base_url=url,
            headers=_headers(headers, api_key),
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
            ValueError: The tile is no grey image.
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
    ) -> Iterator[SrTile | ServiceError]:
        """Super-resolve many tiles, as many at once as there are connections.

        Results come in the tiles' order. Tiles are taken from the iterable as they are needed, so
        that a night's scan never lies in memory.

        Args:
            tiles: See `superresolve`.
            errors: `raise` ends at the first tile that fails; `yield` gives its error in its place.
            progress: Show a bar on stderr.
        """
        total = len(tiles) if isinstance(tiles, Sized) else None
        waiting: deque[Future[SrTile]] = deque()
        source = iter(tiles)
        with (
            ThreadPoolExecutor(self._connections, thread_name_prefix="semsr-client") as pool,
            tqdm(total=total, unit="tile", file=sys.stderr, disable=not progress) as bar,
        ):
            try:
                # Twice the connections: the next tile is ready when a connection is.
                for tile in itertools.islice(source, 2 * self._connections):
                    waiting.append(pool.submit(self.superresolve, tile))
                while waiting:
                    outcome = _outcome(waiting.popleft(), errors)
                    for tile in itertools.islice(source, 1):
                        waiting.append(pool.submit(self.superresolve, tile))
                    bar.update()
                    yield outcome
            finally:
                for future in waiting:
                    future.cancel()

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
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers=_headers(headers, api_key),
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
    ) -> AsyncIterator[SrTile | ServiceError]:
        """Super-resolve many tiles in order; see `Client.superresolve_many`."""
        total = len(tiles) if isinstance(tiles, Sized) else None
        waiting: deque[asyncio.Task[SrTile]] = deque()
        source = iter(tiles)
        with tqdm(total=total, unit="tile", file=sys.stderr, disable=not progress) as bar:
            try:
                for tile in itertools.islice(source, self._connections):
                    waiting.append(asyncio.create_task(self.superresolve(tile)))
                while waiting:
                    first = waiting.popleft()
                    await asyncio.wait([first])
                    outcome = _outcome(first, errors)
                    for tile in itertools.islice(source, 1):
                        waiting.append(asyncio.create_task(self.superresolve(tile)))
                    bar.update()
                    yield outcome
            finally:
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

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
) -> _Options:
    if timeout_s <= 0:
        raise ValueError(f"timeout_s must be above 0, got {timeout_s}")
    return _Options(
        timeout_s=timeout_s, priority=priority, window=window, answer_dtype=answer_dtype
    )


def _headers(given: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    own = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    return {**dict(given or {}), **own}


def _limits(connections: int) -> httpx2.Limits:
    if connections < 1:
        raise ValueError(f"connections must be at least 1, got {connections}")
    return httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)


def _outcome(
    done: "Future[SrTile] | asyncio.Task[SrTile]", errors: Literal["raise", "yield"]
) -> SrTile | ServiceError:
    try:
        return done.result()
    except ServiceError as error:
        if errors == "raise":
            raise
        return error


def _error_of(response: httpx2.Response) -> ServiceError:
    """Read a problem; an answer that is none comes from something between here and the service."""
    status, request_id = response.status_code, response.headers.get("x-request-id", "")
    try:
        problem: Any = json.loads(response.content)
        code = str(problem["type"]).rpartition(":")[2]
        return ServiceError(status, code, str(problem["detail"]), request_id=request_id)
    except (ValueError, KeyError, TypeError):
        text = response.text[:200].strip() or "no text"
        return ServiceError(status, f"http-{status}", text, request_id=request_id)


def _retry_after_s(response: httpx2.Response) -> float | None:
    """When the service asks to come again: milliseconds in the body, else whole seconds."""
    try:
        return float(json.loads(response.content)["retry_after_ms"]) / 1e3
    except (ValueError, KeyError, TypeError):
        pass
    try:
        return float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None


def _pairs(text: str, between: str, within: str) -> dict[str, float]:
    """Read `a=1, b=2`."""
    parts = (part.strip().partition(within) for part in text.split(between) if part.strip())
    return {name: float(value) for name, _, value in parts}
