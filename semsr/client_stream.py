"""Many tiles through one request: sent and read at the same time; see `semsr.client`.

`POST /superresolve/batch` answers while it is still being sent to, which an HTTP client that first
writes and then reads cannot use (and httpx2 is one): it would stop for ever, as soon as the buffers
between are full. Hence a connection of its own here, by asyncio and h11.

What was sent and not answered is kept, so that a connection that breaks loses nothing: the tiles
are sent again in a new request. Each has the same answer however often it is computed.
"""

import asyncio
import io
import json
import random
import ssl
import tarfile
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import h11
import httpx2
import numpy as np

from semsr.client_answers import (
    FIRST_BACKOFF_S,
    JITTER,
    MAX_BACKOFF_S,
    RETRIED,
    DeadlineError,
    Options,
    ServiceError,
    SrTile,
    Tile,
    checked,
    read_problem,
    read_tile,
    retry_after_s,
)

Result = TypeVar("Result")

PATH = "superresolve/batch"
_BLOCK = tarfile.BLOCKSIZE
_READ_BYTES = 1 << 18
_MAX_PROBLEM_BYTES = 1 << 20
# The service may be this much later than a tile's deadline before the connection counts as dead.
_SILENCE_S = 5.0
# An upload that paused for long, and a service that stops, end a request, not the work.
_CONTINUED = frozenset({408, 503})
_PROBLEM = ".problem.json"
# The end of an answer that is otherwise complete is not waited for any longer.
_GOODBYE_S = 2.0


@dataclass
class _Sent:
    """One tile that is not answered yet."""

    body: bytes
    end_s: float
    attempts: int = 0


@dataclass(frozen=True)
class _Entry:
    """One entry of the answer."""

    name: str
    facts: dict[str, str]
    body: bytes


class _AnswerReader:
    """Takes a tar archive apart as it arrives: of the headers, those that the service writes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._facts: dict[str, str] = {}
        self.has_ended = False

    def feed(self, data: bytes) -> list[_Entry]:
        """Take bytes; return the entries that are complete now."""
        self._buffer += data
        entries: list[_Entry] = []
        start = 0
        while not self.has_ended and len(self._buffer) >= start + _BLOCK:
            block = bytes(self._buffer[start : start + _BLOCK])
            if not any(block):
                self.has_ended = True
                break
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            end = start + _BLOCK + header.size
            if len(self._buffer) < end + (-header.size % _BLOCK):
                break
            body = bytes(memoryview(self._buffer)[start + _BLOCK : end])
            start = end + (-header.size % _BLOCK)
            if header.type == tarfile.XHDTYPE:
                self._facts = _facts_of(body)
            else:
                entries.append(_Entry(header.name, self._facts, body))
                self._facts = {}
        del self._buffer[:start]
        return entries


def _facts_of(pax: bytes) -> dict[str, str]:
    """Read the record `comment`, which holds what headers would say of one answer."""
    while pax:
        digits = pax.partition(b" ")[0]
        record, pax = pax[: int(digits)], pax[int(digits) :]
        key, _, value = record[len(digits) + 1 : -1].partition(b"=")
        if key == b"comment":
            return {name.lower(): text for name, text in json.loads(value).items()}
    return {}


class _RequestEndedError(Exception):
    """A request is over before every tile was answered; the rest goes into another one."""

    def __init__(self, error: ServiceError, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class TileStream:
    """Tiles in, their answers out, in order; use it on one event loop."""

    def __init__(
        self,
        url: httpx2.URL,
        options: Options,
        *,
        headers: Mapping[str, str],
        verify: ssl.SSLContext | bool,
    ) -> None:
        """Prepare; the connection is made with the first tile.

        Args:
            url: Of the service.
            options: Of the client.
            headers: Sent with every request.
            verify: See `semsr.client.Client`.
        """
        self._url = url
        self._options = options
        self._headers = {
            "host": url.netloc.decode(),
            "transfer-encoding": "chunked",
            "content-type": "application/x-tar",
            "accept": "application/x-tar, application/octet-stream",
            "x-request-timeout-ms": f"{1e3 * options.timeout_s:.3f}",
            **options.headers(),
            **headers,
        }
        self._ssl = (
            httpx2.create_ssl_context(verify=verify, trust_env=False)
            if url.scheme == "https"
            else None
        )
        # Unanswered tiles in order, and how many of them the request under way has been sent.
        self._tiles: deque[_Sent] = deque()
        self._num_sent = 0
        self._heard_s = 0.0
        self._is_finished = False
        self._changed = asyncio.Event()
        self._results: asyncio.Queue[SrTile | ServiceError] = asyncio.Queue()
        self._runner: asyncio.Task[None] | None = None
        self._backoff_s = FIRST_BACKOFF_S

    def put(self, tile: Tile) -> None:
        """Send one tile; until it can go it waits in memory.

        Raises:
            ValueError: The tile is no grey image.
        """
        body = _tar_entry(checked(tile))
        self._tiles.append(_Sent(body, time.monotonic() + self._options.timeout_s))
        self._changed.set()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())

    async def get(self) -> SrTile | ServiceError:
        """Wait for the answer to the first tile that has none; an error is returned, not raised.

        Raises:
            ServiceError: Nothing that was sent can be answered any more.
        """
        runner = self._runner
        assert runner is not None, "get follows put"  # noqa: S101 (our own invariant)
        result = asyncio.ensure_future(self._results.get())
        await asyncio.wait([result, runner], return_when=asyncio.FIRST_COMPLETED)
        if not result.done() and not self._results.empty():
            await result
        if result.done():
            return result.result()
        result.cancel()
        runner.result()
        raise ServiceError(200, "bad-answer", "the answers ended before the tiles did")

    def finish(self) -> None:
        """Say that no tile follows."""
        self._is_finished = True
        self._changed.set()

    async def close(self) -> None:
        """End the request: well, if all is answered and no tile follows; else at once."""
        if self._runner is not None:
            if self._is_finished and not self._tiles:
                await asyncio.wait([self._runner], timeout=_GOODBYE_S)
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    async def _run(self) -> None:
        """One request after another until everything is answered."""
        while await self._has_tiles():
            try:
                await self._request()
            except _RequestEndedError as ended:
                await self._wait(ended.error, ended.wait_s)
            except (OSError, EOFError, h11.ProtocolError, tarfile.TarError) as error:
                text = f"{type(error).__name__}: {error}"
                await self._wait(ServiceError(0, "unreachable", text), None)

    async def _has_tiles(self) -> bool:
        while not self._tiles and not self._is_finished:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._tiles)

    async def _wait(self, error: ServiceError, asked_s: float | None) -> None:
        """Wait before the next request; tiles whose deadline that would miss are given up."""
        if asked_s is None:
            asked_s = self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)
        wait_s = asked_s * (1 + JITTER * random.random())  # noqa: S311 - no secret
        self._num_sent = 0
        again_s = time.monotonic() + wait_s
        while self._tiles and self._tiles[0].end_s <= again_s:
            tile = self._tiles.popleft()
            self._results.put_nowait(
                DeadlineError(
                    error.status,
                    "deadline-exceeded",
                    f"after {tile.attempts} attempts within {self._options.timeout_s:g} s: {error}",
                    request_id=error.request_id,
                )
            )
        if self._tiles:
            await asyncio.sleep(wait_s)

    async def _request(self) -> None:
        """Send what is not answered, and read at the same time, until the answer ends."""
        self._num_sent = 0
        port = self._url.port or (443 if self._ssl else 80)
        async with asyncio.timeout(self._options.timeout_s):
            reader, writer = await asyncio.open_connection(
                self._url.host, port, ssl=self._ssl, limit=_READ_BYTES
            )
        connection = h11.Connection(h11.CLIENT)
        sender = asyncio.create_task(self._send(connection, writer))
        try:
            await self._receive(connection, reader)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            writer.transport.abort()

    async def _send(self, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        """Send tiles as they come; what goes wrong here is seen by who reads."""
        target = self._url.raw_path.rstrip(b"/") + b"/" + PATH.encode()
        head = h11.Request(method="POST", target=target, headers=list(self._headers.items()))
        writer.write(connection.send(head) or b"")
        while True:
            await writer.drain()
            if self._num_sent < len(self._tiles):
                tile = self._tiles[self._num_sent]
                if not self._num_sent:
                    self._heard_s = time.monotonic()  # nothing was waited for until now
                self._num_sent += 1
                tile.attempts += 1
                writer.write(connection.send(h11.Data(tile.body)) or b"")
            elif self._is_finished:
                writer.write(connection.send(h11.Data(bytes(2 * _BLOCK))) or b"")
                writer.write(connection.send(h11.EndOfMessage()) or b"")
                await writer.drain()
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _receive(self, connection: h11.Connection, reader: asyncio.StreamReader) -> None:
        headers: dict[str, str] = {}
        status = 0
        problem = bytearray()
        answers = _AnswerReader()
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await self._read(reader))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data) and status == 200:
                for entry in answers.feed(bytes(event.data)):
                    self._take(entry, headers)
            elif isinstance(event, h11.Data):
                problem += event.data[: _MAX_PROBLEM_BYTES - len(problem)]
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError("the service closed the connection")
        if status != 200:
            error = read_problem(status, bytes(problem), request_id=headers.get("x-request-id", ""))
            if status not in RETRIED:
                raise error
            raise _RequestEndedError(error, retry_after_s(bytes(problem), headers))
        if not answers.has_ended:
            raise EOFError("the answer ended within an entry")
        if self._num_sent:
            raise ServiceError(
                200, "bad-answer", f"{self._num_sent} tiles that were sent have no answer"
            )

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Read what comes; silence while tiles are waited for counts as a broken connection."""
        reading = asyncio.ensure_future(reader.read(_READ_BYTES))
        most_s = self._options.timeout_s + _SILENCE_S
        try:
            while not reading.done():
                silent_s = time.monotonic() - self._heard_s if self._num_sent else 0.0
                if silent_s >= most_s:
                    raise EOFError(
                        f"no answer for {most_s:g} s; a proxy that gathers requests or answers "
                        "would do that (docs/http-api.md)"
                    )
                await asyncio.wait([reading], timeout=most_s - silent_s)
            self._heard_s = time.monotonic()
            return reading.result()
        finally:
            reading.cancel()

    def _take(self, entry: _Entry, headers: Mapping[str, str]) -> None:
        """Match one entry of the answer with the tile that it belongs to."""
        result: SrTile | ServiceError
        attempts = self._tiles[0].attempts if self._num_sent else 0
        if entry.name.endswith(_PROBLEM):
            content: Any = json.loads(entry.body)
            status = int(content["status"])
            result = read_problem(status, entry.body, request_id=headers.get("x-request-id", ""))
            if content.get("scope") == "batch":
                if status in _CONTINUED:
                    raise _RequestEndedError(result)
                raise result
            if status == 504:
                result = DeadlineError(
                    status, result.code, result.detail, request_id=result.request_id
                )
        else:
            result = read_tile(entry.body, entry.facts, headers, attempts=attempts)
        if not self._num_sent:
            raise ServiceError(200, "bad-answer", "there are more answers than tiles")
        self._backoff_s = FIRST_BACKOFF_S
        self._tiles.popleft()
        self._num_sent -= 1
        self._results.put_nowait(result)


class BlockingTileStream:
    """`TileStream` for callers without an event loop: one runs in a thread of its own."""

    def __init__(self, stream: TileStream) -> None:
        """Start the thread."""
        self._stream = stream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="semsr-client", daemon=True
        )
        self._thread.start()

    def put(self, tile: Tile) -> None:
        """See `TileStream.put`."""
        self._call(_later(self._stream.put, tile))

    def get(self) -> SrTile | ServiceError:
        """See `TileStream.get`."""
        return self._call(self._stream.get())

    def finish(self) -> None:
        """See `TileStream.finish`."""
        self._call(_later(self._stream.finish))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._stream.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _later(function: Callable[..., None], *arguments: object) -> None:
    """Call a function on the loop."""
    function(*arguments)


def _tar_entry(tile: Tile) -> bytes:
    """Return a tile as one entry of a tar archive: an npy file, which says shape and type."""
    file = io.BytesIO()
    header: Any = np.lib.format.header_data_from_array_1_0(tile)
    np.lib.format.write_array_header_1_0(file, header)
    info = tarfile.TarInfo("tile.npy")
    info.size = file.tell() + tile.nbytes
    padding = bytes(-info.size % _BLOCK)
    return b"".join(
        [info.tobuf(tarfile.USTAR_FORMAT), file.getvalue(), tile.data.cast("B"), padding]
    )
