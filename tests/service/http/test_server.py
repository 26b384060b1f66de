"""The real server in a process of its own: start, strange clients, signals, exit codes."""

import concurrent.futures
import io
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest

from bundle_format.bundle import load_bundle
from semsr.server_process import ServerProcess, ServerStartError, running_server

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
ONNX = {"SEMSR_BUNDLE": str(TINY_BUNDLE), "SEMSR_ENGINE": "onnx", "SEMSR_THREADS": "1"}
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A served tiny bundle; every test must leave it serving."""
    with running_server(ONNX) as process:
        yield process


def readiness(server: ServerProcess) -> int:
    """Status of /readyz."""
    return httpx2.get(f"{server.url}/readyz", trust_env=False, timeout=60).status_code


def test_golden_tile_through_http_is_the_reference(server: ServerProcess) -> None:
    """What FP32 torch gave at export comes back over the wire, to one grey level."""
    golden = load_bundle(TINY_BUNDLE).golden()
    response = httpx2.post(
        f"{server.url}/superresolve",
        content=golden.lr.tobytes(),
        headers=RAW,
        trust_env=False,
        timeout=60,
    )
    assert response.status_code == 200, response.text
    sr = np.frombuffer(response.content, np.uint8).reshape(golden.sr.shape)
    assert np.abs(sr.astype(int) - golden.sr).max() <= 1
    assert response.headers["x-engine"] == "onnx"


def test_many_clients_at_once_each_get_their_own_tile(server: ServerProcess) -> None:
    """Batching never swaps answers, in any combination."""
    tiles = [np.full((24, 24), value, dtype=np.uint8) for value in range(0, 250, 5)]

    def send(tile: np.ndarray) -> np.ndarray:
        with httpx2.Client(trust_env=False, timeout=60) as client:
            answers = [
                client.post(f"{server.url}/superresolve", content=tile.tobytes(), headers=RAW)
                for _ in range(3)
            ]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        return np.frombuffer(answers[0].content, np.uint8)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, tiles))
    means = [float(answer.mean()) for answer in answers]
    assert means == sorted(means)
    assert len(set(means)) > 40


def test_large_body_after_a_small_head_is_read(server: ServerProcess) -> None:
    """The bound on the head says nothing of the body, however the network cuts it."""
    size = 300
    response = httpx2.post(
        f"{server.url}/superresolve",
        content=bytes(size * size),
        headers={**RAW, "x-tile-shape": f"{size},{size}"},
        trust_env=False,
        timeout=60,
    )
    # 361 tiles of 24x24 are more than the default admits: the whole body was read to say so.
    assert response.status_code == 413
    with connect(server) as pieces:
        head = (
            f"POST /superresolve HTTP/1.1\r\nHost: x\r\nX-Tile-Shape: 99,{10 * 99}\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {99 * 990}\r\n\r\n"
        )
        message = head.encode() + bytes(99 * 990)
        for _ in range(3):
            for start in range(0, len(message), 30_000):
                pieces.sendall(message[start : start + 30_000])
            assert read_answer(pieces).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /superresolve HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /superresolve HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /superresolve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /superresolve HTTP/1.1\r\nHost: x\r\nContent-Length: 576\r\n\r\nhalf",
    ],
)
def test_broken_http_never_harms_the_next_client(server: ServerProcess, sent: bytes) -> None:
    """For any bytes and any end of the connection, the service continues."""
    parts = urlsplit(server.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        raw.recv(4096)
    assert readiness(server) == 200


def exchange(server: ServerProcess, sent: bytes) -> tuple[bytes, bytes]:
    """Send something on a connection that the service closes; returns head and body."""
    parts = urlsplit(server.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60) as to:
        to.sendall(sent)
        answer = b"".join(iter(lambda: to.recv(1 << 20), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def request(line: str, body: bytes, *headers: str) -> bytes:
    """A whole request for raw tiles."""
    own = (f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in RAW.items()))
    return "\r\n".join([line, "host: semsr", *own, *headers, "", ""]).encode() + body


def test_what_is_no_http_is_a_problem(server: ServerProcess) -> None:
    """As everything else that goes wrong."""
    head, body = exchange(server, b"GET / HTTP/3.7\r\nhost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["type"] == "urn:semsr:problem:bad-request"


def test_a_wish_for_http_2_is_ignored(server: ServerProcess) -> None:
    """Java's client sends it with its first request, whose body must not be lost."""
    wish = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    tile = bytes(range(192)) * 3
    last = request("POST /superresolve HTTP/1.1", tile, "connection: close")
    _, expected = exchange(server, last)
    for first in (
        request("POST /superresolve HTTP/1.1", tile, *wish),
        request("GET /livez HTTP/1.1", b"", *wish),
    ):
        head, body = exchange(server, first + last)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body.endswith(expected)


def test_http_1_0_gets_no_chunks(server: ServerProcess) -> None:
    """It would take them for a part of the archive."""
    head, body = exchange(server, request("POST /superresolve/batch HTTP/1.0", bytes(3 * 576)))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["000000.raw", "000001.raw", "000002.raw"]
    head, body = exchange(server, request("POST /superresolve HTTP/1.0", bytes(576)))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) == 96 * 96


def test_a_long_address_does_not_come_back_as_long(server: ServerProcess) -> None:
    """Nor three times, as instance, detail and error."""
    answer = httpx2.get(f"{server.url}/{'a' * 60_000}", trust_env=False, timeout=60)
    assert answer.status_code == 404
    assert len(answer.content) < 4000


def test_every_request_is_one_json_line_without_image_bytes(server: ServerProcess) -> None:
    """The log names id, status and stages, and nothing of the picture."""
    content = b"SECRETPICTURE" * 44 + b"SECR"
    httpx2.post(
        f"{server.url}/superresolve", content=content, headers={"content-type": "image/png"},
        trust_env=False, timeout=60,
    )  # fmt: skip
    deadline_s = time.monotonic() + 60.0
    found: list[dict[str, Any]] = []
    # The line is written after the answer; of a busy second, as the tests before make, not every
    # request that succeeds gets one.
    for number in itertools.count():
        assert time.monotonic() < deadline_s
        httpx2.post(
            f"{server.url}/superresolve",
            content=content,
            headers={**RAW, "x-request-id": f"log-me-{number}"},
            trust_env=False,
            timeout=60,
        )
        time.sleep(0.1)
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        found = [line for line in lines if str(line.get("request_id")).startswith("log-me")]
        if found:
            break
    line = found[0]
    assert line["event"] == "request_finished"
    assert line["status"] == 200
    assert line["tiles"] == 1
    assert "infer" in line["server_timing"]
    assert "SECRETPICTURE" not in server.log.read_text()


def test_sigterm_under_load_answers_every_request() -> None:
    """Readiness turns first; requests of the drain time are served; the process ends with 0.

    The clients do what a load balancer does: they continue until they learn that the service is
    draining, and a little longer; none of their requests may fail.
    """
    # Where the machine stands still for a whole drain its clients come too late: a longer one then.
    statuses = stop_under_load(2) or stop_under_load(60)

    assert set(statuses) == {200}


def stop_under_load(drain_s: float) -> list[int]:
    """Stop a service under load; returns what clients were answered, [] if they came too late."""
    with running_server({**ONNX, "SEMSR_DRAIN_S": str(drain_s)}) as server:
        statuses: list[int] = []
        turned = threading.Event()

        def load() -> None:
            requests_after_turning = 0
            with httpx2.Client(trust_env=False, timeout=60) as client:
                while requests_after_turning < 3:
                    answer = client.post(
                        f"{server.url}/superresolve", content=bytes(576), headers=RAW
                    )
                    statuses.append(answer.status_code)
                    requests_after_turning += turned.is_set()
                    if answer.headers.get("connection") == "close":
                        turned.set()

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(load) for _ in range(4)]
            while len(statuses) < 20:
                assert not any(client.done() for client in clients)
                time.sleep(0.001)
            told_s = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            try:
                assert turned.wait(60)
                assert readiness(server) == 503
                for client in clients:
                    client.result(60)
            except (AssertionError, httpx2.TransportError):
                if time.monotonic() - told_s < drain_s:
                    raise
                return []
        _, status = os.waitpid(server.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return statuses


def connect(server: ServerProcess) -> socket.socket:
    """A plain connection."""
    parts = urlsplit(server.url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=30)


def read_answer(connection: socket.socket) -> bytes:
    """Read one whole answer, however it is cut."""
    answer = b""
    while True:
        head, separator, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if separator and length is not None and len(body) >= int(length[1]):
            return answer
        received = connection.recv(65_536)
        assert received, "the connection ended before the answer did"
        answer += received


def was_cut(connection: socket.socket) -> bool:
    """Read to the end; true if the server ended the connection."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionError:
        return True
    return True


def test_endless_head_is_cut(server: ServerProcess) -> None:
    """Header lines without end cost a bounded amount of memory and time."""
    with connect(server) as endless:
        endless.sendall(b"POST /superresolve HTTP/1.1\r\nHost: x\r\nX: ")
        more = bytes(64 << 20).replace(b"\0", b"a")
        with pytest.raises(ConnectionError):
            endless.sendall(more)
    assert readiness(server) == 200


def test_slow_heads_and_clients_that_do_not_read_are_cut() -> None:
    """Neither holds a connection, a place or memory for longer than its setting says."""
    settings = {
        **ONNX,
        "SEMSR_ENGINE": "identity",
        "SEMSR_HEAD_TIMEOUT_S": "0.3",
        "SEMSR_SEND_TIMEOUT_S": "0.5",
        "SEMSR_MAX_QUEUE": "4000",
    }
    with running_server(settings) as server:
        with connect(server) as slow:
            slow.sendall(b"POST /super")
            assert was_cut(slow)
        size = 900
        head = (
            "POST /superresolve HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
            f"X-Tile-Shape: {size},{size}\r\nContent-Length: {size * size}\r\n\r\n"
        )
        with connect(server) as deaf:
            deaf.sendall(head.encode() + bytes(size * size))
            # Its answer of 13 MB fits no buffer; no client reads it, and yet the service must end.
            deadline_s = time.monotonic() + 60
            batches = admitted = 0.0
            while (not batches or admitted) and time.monotonic() < deadline_s:
                try:
                    text = httpx2.get(f"{server.url}/metrics", trust_env=False, timeout=60).text
                except httpx2.TransportError:
                    continue  # this head was slow too
                batches, admitted = (
                    float(re.findall(rf"^{name}(?:{{.*}})? (\S+)", text, re.MULTILINE)[0])
                    for name in ("semsr_batch_size_count", "semsr_admitted_tiles")
                )
            assert batches > 0
            assert admitted == 0


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGTERM, signal.SIGTERM, 5), (signal.SIGINT, None, 0)],
)
def test_impatient_signals_end_at_once(
    first: signal.Signals, second: signal.Signals | None, code: int
) -> None:
    """SIGINT does not wait for load balancers; a second signal waits for nothing."""
    with running_server({**ONNX, "SEMSR_DRAIN_S": "300"}) as server:
        os.kill(server.pid, first)
        if second is not None:
            while readiness(server) == 200:
                pass
            os.kill(server.pid, second)
        _, status = os.waitpid(server.pid, 0)
    assert os.waitstatus_to_exitcode(status) == code


def run_service(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the service until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service"],
        env={**os.environ, "SEMSR_LOG_FORMAT": "json", "SEMSR_PORT": "0", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_log_leads_from_the_start_to_the_address(server: ServerProcess) -> None:
    """What it does at once, then that it listens and does not serve yet, then where it serves."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    events = [line["event"] for line in lines]
    order = ["starting", "listening", "ready", "serving"]
    assert order == [event for event in events if event in order]
    assert "loading" in events[: events.index("ready")]
    by_event = {line["event"]: line for line in lines}
    assert "starting" == by_event["listening"]["state"]
    assert f"{server.url}/" == by_event["serving"]["url"]


def test_a_folder_for_uploads_that_is_none_ends_the_start(tmp_path: Path) -> None:
    """Exit code 2, and not a failed request in the night."""
    done = run_service(SEMSR_SPOOL_DIR=str(tmp_path / "nowhere"), SEMSR_BUNDLE=str(TINY_BUNDLE))
    assert done.returncode == 2
    assert "SEMSR_SPOOL_DIR" in done.stderr


def test_missing_bundle_ends_with_its_reason() -> None:
    """Exit code 3, and the log says what is not there."""
    done = run_service(SEMSR_BUNDLE="nowhere/at/all")
    assert done.returncode == 3
    assert "nowhere/at/all is not a bundle" in done.stderr


def test_setting_out_of_bounds_ends_with_its_name() -> None:
    """Exit code 2, and the line names variable, problem and value."""
    done = run_service(SEMSR_MAX_QUEUE="0", SEMSR_ENGINE="warp")
    assert done.returncode == 2
    assert "SEMSR_MAX_QUEUE: Input should be greater than or equal to 1 (found '0')" in done.stderr
    assert "SEMSR_ENGINE" in done.stderr


def test_taken_port_ends_before_anything_is_loaded() -> None:
    """Exit code 4."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_service(SEMSR_PORT=str(taken.getsockname()[1]), SEMSR_BUNDLE=str(TINY_BUNDLE))
    assert done.returncode == 4
    assert "cannot_listen" in done.stderr


def test_unknown_setting_is_not_passed_over(server: ServerProcess) -> None:
    """A mistyped variable stops the start: a limit that silently does not hold is worse."""
    done = run_service(SEMSR_MAX_QEUE="5")
    assert done.returncode == 2
    assert "SEMSR_MAX_QEUE" in done.stderr


def test_server_that_fails_to_start_is_reported_with_its_log() -> None:
    """The demo and the bench show why."""
    with (
        pytest.raises(ServerStartError, match="is not a bundle"),
        running_server({**ONNX, "SEMSR_BUNDLE": "nowhere"}),
    ):
        pytest.fail("it must not start")
