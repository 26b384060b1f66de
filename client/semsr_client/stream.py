"""Many tiles through one request: sent and read at the same time.

The service begins its answer to `POST /superresolve/batch` while the client is still sending.
httpx2 reads only after it has sent everything, and would hang as soon as the buffers between are
full. This module therefore has a connection of its own, made with asyncio and h11.
"""

import asyncio
import contextlib
import socket
import tarfile
import time

import h11
import httpx2

from semsr_client.answers import RAW, TAR, Scales, SrTile, Tile
from semsr_client.archives import END, AnswerReader
from semsr_client.errors import (
    MAX_BACKOFF_S,
    RETRIED,
    Backoff,
    ServiceError,
    bad_answer,
    check_certificate,
    read_problem,
    retry_after_s,
)
from semsr_client.options import Options
from semsr_client.unanswered import RequestEndedError, UnansweredTiles

PATH = "superresolve/batch"
_READ_BYTES = 1 << 18
_MAX_PROBLEM_BYTES = 1 << 20
# The service may be this much later than a tile's deadline before the connection counts as dead.
_SILENCE_S = 5.0
# Longest wait for the end of an answer that is otherwise complete.
_GOODBYE_S = 2.0


class TileStream:
    """Tiles in, their answers out, in order; use it on one event loop."""

    def __init__(self, options: Options, scales: Scales) -> None:
        """Store the arguments; the connection is made with the first tile.

        Args:
            options: Options of the client.
            scales: Scales that the client knows.
        """
        self._url = options.address
        self._options = options
        self._tiles = UnansweredTiles(options, scales)
        self._headers = {
            "host": options.address.netloc.decode(),
            "transfer-encoding": "chunked",
            "content-type": TAR,
            "accept": f"{TAR}, {RAW}",
            "x-request-timeout-ms": f"{1e3 * options.timeout_s:.3f}",
            **options.tile_headers,
            **options.own_headers,
        }
        self._ssl = (
            httpx2.create_ssl_context(verify=options.verify, trust_env=False)
            if options.address.scheme == "https"
            else None
        )
        self._heard_s = 0.0
        self._not_before_s = 0.0
        self._is_finished = False
        self._changed = asyncio.Event()
        self._results: asyncio.Queue[SrTile | ServiceError] = asyncio.Queue()
        self._runner: asyncio.Task[None] | None = None
        self._backoff = Backoff()

    def put(self, tile: Tile) -> None:
        """Queue one tile, as `checked` returns it; it waits in memory until it is sent."""
        self._tiles.add(tile)
        self._changed.set()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())

    async def get(self) -> SrTile | ServiceError:
        """Wait for the next answer in the tiles' order; a tile's error is returned, not raised.

        Raises:
            ServiceError: The remaining tiles cannot be answered any more.
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
        raise bad_answer("the answers ended before the tiles did")

    def finish(self) -> None:
        """Mark the end: no tile follows."""
        self._is_finished = True
        self._changed.set()

    async def close(self) -> None:
        """End the request, at once unless every tile is answered and no tile follows."""
        if self._runner is not None:
            if self._is_finished and not self._tiles:
                await asyncio.wait([self._runner], timeout=_GOODBYE_S)
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    async def _run(self) -> None:
        """Send one request after another until everything is answered."""
        while await self._has_tiles():
            await asyncio.sleep(self._not_before_s - time.monotonic())
            try:
                await self._request()
            except RequestEndedError as ended:
                await self._wait(ended.error, ended.wait_s)
            except (OSError, EOFError, h11.ProtocolError, tarfile.TarError) as error:
                check_certificate(error)
                text = f"{type(error).__name__}: {error}"
                await self._wait(ServiceError(0, "unreachable", text), None)

    async def _has_tiles(self) -> bool:
        while not self._tiles and not self._is_finished:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._tiles)

    async def _wait(self, error: ServiceError, asked_s: float | None) -> None:
        """Wait before the next request; tiles that would miss their deadline are given up."""
        wait_s = self._backoff.wait_s(asked_s)
        for given_up in self._tiles.give_up(error, until_s=time.monotonic() + wait_s):
            self._results.put_nowait(given_up)
        if self._tiles:
            await asyncio.sleep(wait_s)
        else:
            # All are given up; the next tiles must not cause a storm of requests.
            self._not_before_s = time.monotonic() + min(wait_s, MAX_BACKOFF_S)

    async def _request(self) -> None:
        """Send the unanswered tiles, and read at the same time, until the answer ends."""
        self._tiles.begin_request()
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
            # `shutdown`, because a process that was forked meanwhile holds the connection open.
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            writer.transport.abort()

    async def _send(self, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        """Send tiles as they come; failures show in `_receive`."""
        target = self._url.raw_path.rstrip(b"/") + b"/" + self._options.path(PATH).encode()
        headers = {**self._headers, "x-request-id": self._tiles.request_id}
        head = h11.Request(method="POST", target=target, headers=list(headers.items()))
        writer.write(connection.send(head) or b"")
        while True:
            await writer.drain()
            if not self._tiles.num_sent:
                self._heard_s = time.monotonic()  # nothing was waited for until now
            if (body := self._tiles.next_body()) is not None:
                writer.write(connection.send(h11.Data(body)) or b"")
            elif self._is_finished:
                writer.write(connection.send(h11.Data(END)) or b"")
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
        answers = AnswerReader()
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                data = await self._read(reader)
                if not data and connection.their_state is h11.SEND_RESPONSE:
                    raise EOFError("the connection was closed without an answer")
                connection.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                if status == 200:
                    self._tiles.check_head(headers)
            elif isinstance(event, h11.Data) and status == 200:
                for entry in answers.feed(bytes(event.data), most_bytes=self._tiles.most_bytes):
                    self._results.put_nowait(self._tiles.match(entry, headers))
                    self._backoff.reset()
                    self._heard_s = time.monotonic()
            elif isinstance(event, h11.Data):
                problem += event.data[: _MAX_PROBLEM_BYTES - len(problem)]
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError("the service closed the connection")
        if status != 200:
            error = read_problem(
                status,
                bytes(problem),
                request_id=headers.get("x-request-id", ""),
                asked_id=self._tiles.request_id,
                location=headers.get("location"),
            )
            if status not in RETRIED:
                raise error
            raise RequestEndedError(error, retry_after_s(bytes(problem), headers))
        if not answers.has_ended:
            raise EOFError("the answer ended within an entry")
        if self._tiles.num_sent:
            raise self._tiles.misfit(f"{self._tiles.num_sent} tiles that were sent have no answer")

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Read the next bytes; without an answer for too long the connection counts as broken."""
        reading = asyncio.ensure_future(reader.read(_READ_BYTES))
        most_s = self._options.timeout_s + _SILENCE_S
        try:
            while not reading.done():
                silent_s = time.monotonic() - self._heard_s if self._tiles.num_sent else 0.0
                if silent_s >= most_s:
                    raise EOFError(
                        f"no answer for {most_s:g} s; a proxy that gathers requests or answers "
                        "would do that (docs/http-api.md)"
                    )
                await asyncio.wait([reading], timeout=most_s - silent_s)
            return reading.result()
        finally:
            reading.cancel()
