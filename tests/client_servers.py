"""A server of `/superresolve/batch` that follows a script, and both clients' calls to it."""

import asyncio
import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import h11
import numpy as np
import pytest

from semsr_client import AsyncClient, Client, ServiceError, SrTile
from service.http.stream.archives import OutEntry, TarArchive

FACTS = {
    "X-Tile-Shape": "32,32",
    "X-Tile-Dtype": "uint8",
    "X-Quality": "non-finite=0.0000, saturated=0.0100, consistency=0.990, consistency-worst=0.900",
}


def tiles(count: int, taken: list[int] | None = None) -> Iterator[np.ndarray]:
    """Flat tiles, numbered by their grey; `taken` records those that were asked for."""
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield np.full((8, 8), number % 256, dtype=np.uint8)


Outcome = SrTile | ServiceError
Run = Callable[..., list[Outcome]]


def run_sync(url: str, source: Any, options: dict[str, Any], **many: Any) -> list[Outcome]:  # noqa: ANN401
    """Through the blocking client."""
    with Client(url, **options) as client:
        return list(client.superresolve_many(source, **many))


def run_async(url: str, source: Any, options: dict[str, Any], **many: Any) -> list[Outcome]:  # noqa: ANN401
    """Through the asyncio client."""

    async def run() -> list[Outcome]:
        async with AsyncClient(url, **options) as client:
            return [outcome async for outcome in client.superresolve_many(source, **many)]

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("run", [run_sync, run_async])


def greys(outcomes: list[Outcome]) -> list[int]:
    """Grey of each answer."""
    return [int(sr.pixels[0, 0]) for sr in outcomes if isinstance(sr, SrTile)]


class Scripted:
    """A server that answers each request by the next of its steps; steps may break off.

    It serves as many connections at once as asked for.
    """

    def __init__(self, *steps: Callable[["Answer"], None], connections: int = 1) -> None:
        self.steps = list(steps)
        self.heads: list[dict[str, str]] = []
        self.times_s: list[float] = []
        self.target = "/superresolve/batch"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [
            threading.Thread(target=self._serve, daemon=True) for _ in range(connections)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Stop."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def _serve(self) -> None:
        while self.steps:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # A client that has what it wants, or whose time is over, may leave at once.
            with connection, contextlib.suppress(ConnectionError, h11.RemoteProtocolError):
                answer = Answer(connection, self.target)
                self.times_s.append(time.monotonic())
                self.heads.append(answer.head)
                step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
                step(answer)
                answer.linger()


class Answer:
    """One request of a `Scripted` server, whose head has been read."""

    def __init__(self, connection: Any, target: str) -> None:  # noqa: ANN401
        self._socket = connection
        self._http = h11.Connection(h11.SERVER)
        request = self._event()
        assert isinstance(request, h11.Request)
        self.head = {name.decode(): value.decode() for name, value in request.headers}
        assert request.target.decode() == target
        self._index = 0

    def tile(self) -> int | None:
        """Read one tile; gives its grey, or None at the end of the archive."""
        buffer = b""
        while len(buffer) < 1024:
            event = self._event()
            assert isinstance(event, h11.Data)
            buffer += event.data
        return buffer[512 + 128] if any(buffer) else None

    def linger(self) -> None:
        """End the connection so that what was sent is not lost with what was not read."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self.read_on()

    def read_on(self) -> None:
        """Read until the client leaves."""
        with contextlib.suppress(OSError):
            while self._socket.recv(65_536):
                pass

    def begin(self, status: int = 200, **headers: str) -> None:
        """Send the head of an answer."""
        named = {"x-request-id": self.head["x-request-id"], **headers}
        fields = [("transfer-encoding", "chunked"), *named.items()]
        self.send(h11.Response(status_code=status, headers=fields))

    def entry(self, grey: int | None, **other: str) -> None:
        """Answer one tile; `other` facts replace the right ones."""
        self.raw(self.next_entry(grey, **other))

    def next_entry(self, grey: int | None, **other: str) -> OutEntry:
        """Make the answer to one tile."""
        assert grey is not None
        body = np.full((32, 32), grey, np.uint8).tobytes()
        facts = {"X-Tile-Index": str(self._index), **FACTS, **other}
        self._index += 1
        return OutEntry("tile.npy.raw", "application/octet-stream", body, facts)

    def pause(self, seconds: float) -> None:
        """Wait, but not for a client that has left.

        Raises:
            ConnectionError: It has.
        """
        if select.select([self._socket], [], [], seconds)[0] and not self._socket.recv(65_536):
            raise ConnectionError("the client has left")

    def raw(self, entry: OutEntry) -> None:
        """Send any entry."""
        for piece in TarArchive().entry(entry):
            self.send(h11.Data(bytes(piece)))

    def problem(self, status: int, code: str, scope: str = "tile", **more: object) -> None:
        """Send a problem as an entry."""
        body = {"type": f"urn:semsr:problem:{code}", "detail": "as it is", "status": status}
        content = json.dumps({**body, "scope": scope, "index": self._index, **more}).encode()
        self.raw(OutEntry("x.problem.json", "application/problem+json", content))

    def end(self) -> None:
        """End the archive and the answer."""
        self.send(h11.Data(bytes(1024)))
        self.send(h11.EndOfMessage())

    def whole(self, status: int, content: bytes, **headers: str) -> None:
        """Send an answer that is not an archive."""
        self.begin(status, **headers)
        self.send(h11.Data(content))
        self.send(h11.EndOfMessage())

    def send(self, event: h11.Event) -> None:
        """Send one event."""
        self._socket.sendall(self._http.send(event) or b"")

    def _event(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(self._socket.recv(65_536))
        assert not isinstance(event, type)
        if isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("the client has left")
        return event


def echo(answer: Answer) -> None:
    """Answer every tile when it has come."""
    answer.begin()
    while (grey := answer.tile()) is not None:
        answer.entry(grey)
    answer.end()


@contextlib.contextmanager
def scripted_servers() -> Iterator[Callable[..., Scripted]]:
    """Give what starts scripted servers; they are closed at the end."""
    servers: list[Scripted] = []

    def start(*steps: Callable[[Answer], None], connections: int = 1) -> Scripted:
        servers.append(Scripted(*steps, connections=connections))
        return servers[-1]

    try:
        yield start
    finally:
        for server in servers:
            server.close()
