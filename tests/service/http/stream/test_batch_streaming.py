"""Batch requests over real sockets to a real process: streaming, memory, strange clients, ends."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import h11
import httpx2
import numpy as np
import pytest

from semsr.server_process import ServerProcess, running_server
from tests.service.http.stream.batch_files import enlarged, npy, some_tiles, tar_of

TINY_BUNDLE = Path(__file__).parents[3] / "data" / "tiny_bundle"
TINY = {"SEMSR_BUNDLE": str(TINY_BUNDLE), "SEMSR_ENGINE": "identity"}
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}


class Duplex:
    """One batch request on a socket, sent and read as the test wants."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((str(parts.hostname), int(parts.port or 0)), 60)
        self._connection = h11.Connection(h11.CLIENT)
        self.body = bytearray()
        self.has_ended = False
        self.status = 0
        head = [("host", "x"), ("transfer-encoding", "chunked"), *headers.items()]
        self._write(h11.Request(method="POST", target="/superresolve/batch", headers=head))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send a part of the body."""
        self._write(h11.Data(data))

    def finish(self) -> None:
        """End the body."""
        self._write(h11.EndOfMessage())

    def read(self, size: int | None = None) -> bytes:
        """Read until the answer has that many bytes (None: to its end); gives all of them."""
        while not self.has_ended and (size is None or len(self.body) < size):
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                self._connection.receive_data(self.socket.recv(1 << 18))
            elif isinstance(event, h11.Response):
                self.status = event.status_code
            elif isinstance(event, h11.Data):
                self.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.has_ended = True
            else:
                raise AssertionError(f"the answer broke off: {event}")
        return bytes(self.body)

    def _write(self, event: h11.Event) -> None:
        self.socket.sendall(self._connection.send(event) or b"")


def metric(server: ServerProcess, name: str, labels: str = "") -> float:
    """Read one sample."""
    text = httpx2.get(f"{server.url}/metrics", trust_env=False, timeout=60).text
    found = re.findall(rf"^{re.escape(name + labels)} (\S+)", text, re.MULTILINE)
    return float(found[0]) if found else 0.0


def wait_for(server: ServerProcess, name: str, labels: str, value: float) -> None:
    """Wait until a sample has a value."""
    deadline_s = time.monotonic() + 60
    while metric(server, name, labels) != value:
        assert time.monotonic() < deadline_s, f"{name}{labels} never was {value}"


def log_of(server: ServerProcess, event: str) -> list[dict[str, object]]:
    """Read the log's lines of one event."""
    lines = (json.loads(line) for line in server.log.read_text().splitlines())
    return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A served tiny bundle; every test must leave it serving."""
    with running_server(TINY) as process:
        yield process


def raw_upload(count: int) -> tuple[dict[str, str], list[bytes], bytes]:
    """Headers, tiles and end of an upload."""
    return RAW, [tile.tobytes() for tile in some_tiles(count)], b""


def npy_upload(count: int) -> tuple[dict[str, str], list[bytes], bytes]:
    """The same as one stack."""
    stack = npy(some_tiles(count))
    head, tiles = stack[: -count * 576], some_tiles(count)
    pieces = [tile.tobytes() for tile in tiles]
    return {"content-type": "application/x-npy"}, [head + pieces[0], *pieces[1:]], b""


def tar_upload(count: int) -> tuple[dict[str, str], list[bytes], bytes]:
    """The same as an archive."""
    files = [tar_of({f"{n}.npy": npy(tile)})[:1536] for n, tile in enumerate(some_tiles(count))]
    return {"content-type": "application/x-tar"}, files, bytes(1024)


@pytest.mark.parametrize("upload", [raw_upload, npy_upload, tar_upload])
def test_each_answer_comes_before_the_next_tile_is_sent(
    server: ServerProcess, upload: Callable[[int], tuple[dict[str, str], list[bytes], bytes]]
) -> None:
    """No answer waits for the end of an upload: the last tile is sent after all other answers."""
    headers, pieces, end = upload(4)
    accept = "application/x-tar, application/octet-stream"
    # Of each answer: pax header and records, header, 96x96 pixels.
    entry_bytes = 3 * 512 + 96 * 96
    with Duplex(server.url, {**headers, "accept": accept}) as duplex:
        for number, piece in enumerate(pieces, start=1):
            duplex.send(piece)
            answer = duplex.read(number * entry_bytes)
            assert len(answer) == number * entry_bytes
            assert answer.endswith(enlarged(some_tiles(4)[number - 1]).tobytes())
        duplex.send(end)
        duplex.finish()
        assert duplex.read().endswith(bytes(1024))
        assert duplex.status == 200


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


def test_memory_does_not_grow_with_the_length_of_a_stream() -> None:
    """2,500 tiles of 240×240: 2.3 GB of answers through a process that holds a hundredth of it."""
    tile = np.random.default_rng(0).integers(0, 256, (240, 240), dtype=np.uint8).tobytes()
    # Neither side gives up the other, however long the machine takes for so much.
    patient = {f"SEMSR_{name}_TIMEOUT_S": "900" for name in ("SEND", "BODY", "BATCH_IDLE")}
    with running_server({"SEMSR_ENGINE": "identity", **patient}) as server:

        def stream(count: int) -> float:
            received, most = 0, 0.0
            with Duplex(server.url, {**RAW, "x-tile-shape": "240,240"}) as duplex:

                def send() -> None:
                    for _ in range(count):
                        duplex.send(tile)
                    duplex.finish()

                sender = threading.Thread(target=send)
                sender.start()
                while not duplex.has_ended:
                    duplex.read(1 << 22)
                    received += len(duplex.body)
                    duplex.body.clear()
                    most = max(most, resident_mib(server.pid))
                sender.join()
            assert received > count * 960 * 960
            return most

        warm_mib = stream(200)
        # A tenth of what passes through: the allocator keeps what was once needed side by side.
        assert stream(2500) < warm_mib + 230
        assert metric(server, "semsr_admitted_tiles") == 0


def test_a_client_that_sends_and_never_reads_is_cut_off() -> None:
    """Upload and answer wait for each other within a time limit; the log and a metric say why."""
    with running_server({**TINY, "SEMSR_SEND_TIMEOUT_S": "0.5"}) as server:
        # More than all buffers between hold: the rest can only go when answers are read.
        with Duplex(server.url, RAW) as deaf, pytest.raises(ConnectionError):
            deaf.send(bytes(24 * 24 * 100_000))
        wait_for(server, "semsr_batch_requests_ended_total", '{reason="slow_reader"}', 1)
        assert metric(server, "semsr_admitted_tiles") == 0
        [line] = log_of(server, "client_does_not_read")
        assert line["seconds"] == 0.5
        [finished] = [
            line
            for line in log_of(server, "request_finished")
            if line["path"] == "/superresolve/batch"
        ]
        assert finished["ended"] == "slow-reader"
        ready = httpx2.get(f"{server.url}/readyz", trust_env=False, timeout=60)
        assert ready.status_code == 200


@pytest.mark.parametrize("is_reset", [True, False])
def test_a_client_that_vanishes_frees_everything(server: ServerProcess, is_reset: bool) -> None:
    """Whether it closes its connection or breaks it, with answers unread and tiles unsent."""
    before = metric(server, "semsr_batch_requests_ended_total", '{reason="client_gone"}')
    duplex = Duplex(server.url, RAW)
    duplex.send(some_tiles(50).tobytes())
    duplex.read(5000)
    if is_reset:
        duplex.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    duplex.socket.close()
    wait_for(server, "semsr_batch_requests_ended_total", '{reason="client_gone"}', before + 1)
    wait_for(server, "semsr_admitted_tiles", "", 0)
    assert metric(server, "semsr_batch_requests", '{priority="nightly"}') == 0


def test_the_connection_serves_the_next_request(server: ServerProcess) -> None:
    """Also after an answer that ended before its upload did."""
    with httpx2.Client(trust_env=False, timeout=60) as client:
        for content in (some_tiles(2).tobytes(), some_tiles(2).tobytes()[:-5], b"j" * 300_000):
            kind = "application/x-tar" if content.startswith(b"jj") else RAW["content-type"]
            answer = client.post(
                f"{server.url}/superresolve/batch",
                content=content,
                headers={**RAW, "content-type": kind},
            )
            assert answer.status_code == (400 if kind.endswith("tar") else 200)
            assert client.get(f"{server.url}/readyz").status_code == 200


def test_spooled_pictures_have_no_name_and_leave_nothing(tmp_path: Path) -> None:
    """While it is read, a zip archive lies in a file that no folder lists; then it is gone."""
    with running_server({**TINY, "SEMSR_SPOOL_DIR": str(tmp_path)}) as server:

        def spools() -> list[str]:
            links: list[str] = []
            for link in Path(f"/proc/{server.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    links.append(str(link.readlink()))
            return [link for link in links if link.startswith(str(tmp_path))]

        duplex = Duplex(server.url, {"content-type": "application/zip"})
        duplex.send(bytes(3 << 20))
        deadline_s = time.monotonic() + 60
        while not spools():
            assert time.monotonic() < deadline_s
        assert [] == list(tmp_path.iterdir())
        assert all(link.endswith("(deleted)") for link in spools())
        duplex.socket.close()
        wait_for(server, "semsr_batch_requests_ended_total", '{reason="client_gone"}', 1)
        assert [] == spools()
        assert [] == list(tmp_path.iterdir())


def test_sigterm_ends_a_stream_between_tiles_and_the_process_well() -> None:
    """The client gets its progress and can send the rest elsewhere; the stop does not wait."""
    with running_server(
        {**TINY, "SEMSR_DRAIN_S": "0.2", "SEMSR_SHUTDOWN_TIMEOUT_S": "60"}
    ) as server:
        duplex = Duplex(server.url, RAW)
        duplex.send(some_tiles(3).tobytes())
        duplex.read(3 * (3 * 512 + 96 * 96))
        os.kill(server.pid, signal.SIGTERM)
        answer = duplex.read()
        assert answer.endswith(bytes(1024))
        assert b'"tiles_done":3' in answer
        assert b"urn:semsr:problem:not-ready" in answer
        duplex.socket.close()
        _, status = os.waitpid(server.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
