"""SIGTERM while many clients of every kind are served: nothing that was accepted is lost."""

import concurrent.futures
import http.client
import io
import os
import signal
import socket
import tarfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from semsr.server_process import ServerProcess, running_server

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
DRAIN_S, SHUTDOWN_S = 4.0, 30.0
SETTINGS = {
    "SEMSR_BUNDLE": str(TINY_BUNDLE),
    "SEMSR_ENGINE": "onnx",
    "SEMSR_THREADS": "1",
    "SEMSR_FRONT_ENDS": "2",
    "SEMSR_MAX_QUEUE": "256",
    "SEMSR_DRAIN_S": str(DRAIN_S),
    "SEMSR_SHUTDOWN_TIMEOUT_S": str(SHUTDOWN_S),
}
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}
TILE = bytes(range(256)) * 2 + bytes(64)
ANSWER_BYTES = 96 * 96
KEPT, ONCE, STUBBORN, STREAMS = 24, 8, 4, 4


class Clients:
    """What all of them share, and what they saw.

    Attributes:
        turned: Event that is set when the first of them learns that the service is draining.
        leave: Set when a balancer would have turned away all of them.
        statuses: Statuses of good clients.
        broken: Errors in the middle of an answer.
        ended_s: Times at which each stubborn client found no server any more.
        unready_s: When `/readyz` said 503.
    """

    def __init__(self, server: ServerProcess) -> None:
        parts = urlsplit(server.url)
        self.url = server.url
        self.address = (str(parts.hostname), int(parts.port or 0))
        self.turned = threading.Event()
        self.leave = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.broken: list[str] = []
        self.ended_s: list[float] = []
        self.unready_s: list[float] = []

    def keep(self) -> None:
        """Send on one connection after the other, each for as long as the service likes."""
        with httpx2.Client(trust_env=False, timeout=60) as client:
            while not self.leave.is_set():
                self._send(client)

    def once(self) -> None:
        """Send each tile on a connection of its own."""
        while not self.leave.is_set():
            with httpx2.Client(trust_env=False, timeout=60) as client:
                self._send(client)

    def _send(self, client: httpx2.Client) -> None:
        answer = client.post(f"{self.url}/superresolve", content=TILE, headers=RAW)
        self.statuses[answer.status_code] += 1
        if answer.headers.get("connection") == "close":
            self.turned.set()

    def insist(self) -> None:
        """Send until the server is gone: an answer that has begun must be whole at any time."""
        while True:
            connection = http.client.HTTPConnection(*self.address, timeout=60)
            try:
                connection.request("POST", "/superresolve", TILE, RAW)
                response = connection.getresponse()
            except (OSError, http.client.RemoteDisconnected):
                # Nothing of an answer: it was never accepted.
                self.ended_s.append(time.monotonic())
                return
            try:
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
                return
            finally:
                connection.close()
            if (response.status, len(body)) != (200, ANSWER_BYTES) and response.status != 503:
                self.broken.append(f"{response.status} of {len(body)} bytes")

    def stream(self) -> list[str]:
        """Upload tiles one by one until the answer ends; returns the names in it."""
        with socket.create_connection(self.address, timeout=120) as connection:
            head = [
                "POST /superresolve/batch HTTP/1.1",
                "Host: semsr",
                "Transfer-Encoding: chunked",
                *(f"{name}: {value}" for name, value in RAW.items()),
            ]
            connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
            over = threading.Event()
            sender = threading.Thread(target=_upload, args=(connection, over))
            sender.start()
            response = http.client.HTTPResponse(connection, method="POST")
            response.begin()
            assert response.status == 200
            content = response.read()  # raises if the end of the transfer is missing
            over.set()
            sender.join(60)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return archive.getnames()

    def probe(self) -> None:
        """Ask for readiness, on a connection of its own each time, until the server is gone."""
        while True:
            try:
                answer = httpx2.get(f"{self.url}/readyz", trust_env=False, timeout=60)
            except httpx2.TransportError:
                return
            if answer.status_code == 503:
                self.unready_s.append(time.monotonic())
            time.sleep(0.02)


def _upload(connection: socket.socket, over: threading.Event) -> None:
    chunk = f"{len(TILE):x}\r\n".encode() + TILE + b"\r\n"
    while not over.wait(0.01):
        try:
            connection.sendall(chunk)
        except OSError:
            return


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["single", "pool"])
def test_sigterm_under_a_real_load_loses_nothing(mode: str) -> None:
    """Kept and new connections, clients that do not listen, batch requests; all at once."""
    with running_server({**SETTINGS, "SEMSR_MODE": mode}) as server:
        clients = Clients(server)
        with concurrent.futures.ThreadPoolExecutor(KEPT + ONCE + STUBBORN + STREAMS + 1) as pool:
            good = [pool.submit(clients.keep) for _ in range(KEPT)]
            good += [pool.submit(clients.once) for _ in range(ONCE)]
            streams = [pool.submit(clients.stream) for _ in range(STREAMS)]
            others = [pool.submit(clients.insist) for _ in range(STUBBORN)]
            others.append(pool.submit(clients.probe))
            while clients.statuses[200] < 10 * (KEPT + ONCE):
                time.sleep(0.01)
            told_s = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            assert clients.turned.wait(DRAIN_S)
            # A balancer sees /readyz turn, and is through long before the drain ends.
            while not clients.unready_s:
                assert time.monotonic() < told_s + DRAIN_S, "readiness did not turn"
                time.sleep(0.01)
            clients.leave.set()
            for client in [*good, *others]:
                client.result(120)
            names = [stream.result(120) for stream in streams]
        _, status = os.waitpid(server.pid, 0)
        ended_s = time.monotonic()
    assert os.waitstatus_to_exitcode(status) == 0
    assert ended_s - told_s < DRAIN_S + SHUTDOWN_S
    assert set(clients.statuses) == {200}
    assert clients.broken == []
    # Readiness turns first: load balancers leave before any client is refused.
    assert clients.unready_s[0] < min(clients.ended_s)
    for archive in names:
        tiles = [name for name in archive if name.endswith(".raw")]
        assert tiles == [f"{index:06d}.raw" for index in range(len(tiles))]
        assert archive == [*tiles, "batch.problem.json"]
        assert len(tiles) > 10
