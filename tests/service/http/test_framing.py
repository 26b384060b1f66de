"""The real server against strange HTTP: ambiguous requests are refused, the others served."""

import contextlib
import json
import re
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from semsr.server_process import ServerProcess, running_server

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
IDENTITY = {"SEMSR_BUNDLE": str(TINY_BUNDLE), "SEMSR_ENGINE": "identity"}
TILE = bytes(range(192)) * 3
SHAPE = b"Content-Type: application/octet-stream\r\nX-Tile-Shape: 24,24\r\n"
HOST = b"Host: semsr\r\n"
LENGTH = b"Content-Length: 576\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"240\r\n" + TILE + b"\r\n0\r\n\r\n"
LAST = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One service for all tests; each must leave it serving."""
    with running_server(IDENTITY) as process:
        yield process


def connect(server: ServerProcess) -> socket.socket:
    """Open a plain connection."""
    parts = urlsplit(server.url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60)


def exchange(server: ServerProcess, *pieces: bytes) -> bytes:
    """Send pieces one after the other; returns all that comes until the service closes."""
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        answer = bytearray()
        try:
            while received := connection.recv(1 << 20):
                answer += received
        except ConnectionResetError:
            pass  # it closed before it had read everything
    return bytes(answer)


def statuses(answer: bytes) -> list[int]:
    """Status of each answer on a connection."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def post(*headers: bytes, version: bytes = b"1.1") -> bytes:
    """The head of a POST of one tile."""
    return b"POST /superresolve HTTP/" + version + b"\r\n" + b"".join(headers) + SHAPE + b"\r\n"


@pytest.fixture(scope="module")
def expected(server: ServerProcess) -> bytes:
    """The picture that the tile becomes."""
    answer = exchange(server, post(HOST, LENGTH, LAST) + TILE)
    assert [200] == statuses(answer)
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, post(LENGTH) + TILE),
        (400, post(HOST, HOST, LENGTH) + TILE),
        (400, post(b"Host: a, b\r\n", LENGTH) + TILE),
        (400, post(b"Host: a/b\r\n", LENGTH) + TILE),
        (400, post(HOST, HOST, LENGTH, version=b"1.0") + TILE),
        (501, post(HOST, b"Transfer-Encoding: gzip, chunked\r\n") + CHUNKS),
        (501, post(HOST, b"Transfer-Encoding: gzip\r\n", CHUNKED) + CHUNKS),
        (501, post(HOST, b"Transfer-Encoding: identity, chunked\r\n") + CHUNKS),
        (400, post(HOST, b"Transfer-Encoding: gzip\r\n") + CHUNKS),
        (400, post(HOST, b"Transfer-Encoding: xchunked\r\n") + CHUNKS),
        (400, post(HOST, CHUNKED, CHUNKED) + CHUNKS),
        (400, post(HOST, CHUNKED, version=b"1.0") + CHUNKS),
        (400, post(HOST, LENGTH, CHUNKED) + CHUNKS),
        (400, post(HOST, CHUNKED, LENGTH) + CHUNKS),
        (400, post(HOST, LENGTH, LENGTH) + TILE),
        (400, post(HOST, LENGTH, b"Content-Length: 3\r\n") + TILE),
        (400, post(HOST, b"Content-Length: 576, 576\r\n") + TILE),
        (400, post(HOST, b"Content-Length: +576\r\n") + TILE),
        (400, post(HOST, b"Content-Length: 0x240\r\n") + TILE),
        (400, post(HOST, b"Content-Length:\r\n") + TILE),
        (400, post(HOST, b"Content-Length : 576\r\n") + TILE),
        (400, post(HOST, b"X-Folded: a\r\n b\r\n", LENGTH) + TILE),
        (400, post(HOST, b"X-Null: \0\r\n", LENGTH) + TILE),
        (400, post(HOST, LENGTH).replace(b"\r\n", b"\n") + TILE),
        (400, post(HOST, CHUNKED) + b"0x240\r\n" + TILE + b"\r\n0\r\n\r\n"),
        (400, post(HOST, CHUNKED) + b"-1\r\n" + TILE + b"\r\n0\r\n\r\n"),
        (400, post(HOST, CHUNKED) + b"240 \r\n" + TILE + b"\r\n0\r\n\r\n"),
        (400, post(HOST, CHUNKED) + b"240\n" + TILE + b"\n0\n\n"),
        (400, post(HOST, CHUNKED) + b"fffffffffffffffff\r\n" + TILE),
        (400, post(HOST, CHUNKED) + b"240\r\n" + TILE + b"XX0\r\n\r\n"),
        (400, b"GET /livez\r\n\r\n"),
        (400, b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n"),
        (400, b"CONNECT semsr:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ],
)
def test_ambiguous_http_is_refused_and_the_connection_closed(
    server: ServerProcess, status: int, sent: bytes
) -> None:
    """A second request that hides behind it is never answered."""
    hidden = b"GET /model HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = exchange(server, sent + hidden)
    assert [status] == statuses(answer)
    assert b"connection: close" in answer
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    "sent",
    [
        post(HOST, CHUNKED, LAST) + CHUNKS,
        post(HOST, b"transfer-encoding:\tChunked \r\n", LAST) + CHUNKS,
        post(HOST, CHUNKED, LAST) + b"240;name=value\r\n" + TILE + b"\r\n0\r\n\r\n",
        post(b"Host:\r\n", LENGTH, LAST) + TILE,
        post(b"Host: [::1]:8000\r\n", LENGTH, LAST) + TILE,
        post(b"Host: semsr_1:8000\r\n", LENGTH, LAST) + TILE,
        post(LENGTH, version=b"1.0") + TILE,
    ],
)
def test_unusual_but_clear_http_is_served(
    server: ServerProcess, sent: bytes, expected: bytes
) -> None:
    """Strictness ends where there is only one way to read a request."""
    answer = exchange(server, sent)
    assert [200] == statuses(answer)
    assert answer.endswith(expected)


def test_a_trailer_is_not_a_header(server: ServerProcess) -> None:
    """What a proxy has removed from the head must not come back at the end."""
    trailer = b"240\r\n" + TILE + b"\r\n0\r\nX-Request-Id: smuggled\r\n\r\n"
    answer = exchange(server, post(HOST, CHUNKED, LAST), trailer)
    assert [200] == statuses(answer)
    assert b"smuggled" not in answer
    assert "smuggled" not in server.log.read_text()


@pytest.mark.parametrize("endless", [b"0\r\nX: ", b"240;x="], ids=["trailer", "chunk extension"])
def test_endless_bytes_without_data_are_cut(server: ServerProcess, endless: bytes) -> None:
    """They take as little memory as an endless head."""
    with connect(server) as connection:
        connection.sendall(post(HOST, CHUNKED) + endless)
        with pytest.raises(ConnectionError):
            connection.sendall(b"a" * (64 << 20))


def test_continue_is_said_to_http_1_1_only(server: ServerProcess) -> None:
    """A client of HTTP/1.0 would take it for the answer."""
    expect = b"Expect: 100-continue\r\n"
    old = exchange(server, post(LENGTH, expect, version=b"1.0") + TILE)
    new = exchange(server, post(HOST, LENGTH, expect, LAST), TILE)
    assert [200] == statuses(old)
    assert [100, 200] == statuses(new)


def test_head_is_answered_as_get_without_body(server: ServerProcess) -> None:
    """Load balancers probe so."""
    for path in (b"/livez", b"/readyz", b"/metrics", b"/v2/health/live", b"/v2/health/ready"):
        rest = b" " + path + b" HTTP/1.1\r\n" + HOST + LAST + b"\r\n"
        head, get = exchange(server, b"HEAD" + rest), exchange(server, b"GET" + rest)
        assert [200] == statuses(head) == statuses(get), path
        assert head.endswith(b"\r\n\r\n")
    assert [405] == statuses(
        exchange(server, b"HEAD /superresolve HTTP/1.1\r\n" + HOST + LAST + b"\r\n")
    )


def test_an_upgrade_is_ignored_however_its_head_is_cut(
    server: ServerProcess, expected: bytes
) -> None:
    """The body of the first request and the requests behind it are not lost."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    first, last = post(HOST, upgrade, LENGTH), post(HOST, LENGTH, LAST) + TILE
    chunked = post(HOST, CHUNKED, upgrade)
    cut = first.index(b"h2c") + 1
    for pieces in (
        (first + TILE + last,),
        (first[:cut], first[cut:] + TILE + last),
        (first, TILE[:100], TILE[100:] + last),
        (chunked[:-1], chunked[-1:] + CHUNKS[:50], CHUNKS[50:] + last),
        (first + TILE + chunked + CHUNKS + last,),
    ):
        answer = exchange(server, *pieces)
        assert {200} == set(statuses(answer))
        assert sum(piece.count(b"POST ") for piece in pieces) == answer.count(expected)
    get = b"GET /livez HTTP/1.1\r\n" + HOST + upgrade + b"\r\n"
    assert [200] * 101 == statuses(exchange(server, get * 100 + last))


def test_what_follows_malformed_http_does_not_cost_the_answers_before_it(
    server: ServerProcess, expected: bytes
) -> None:
    """A 400 in their place would be taken for the answer to the first of them."""
    good = post(HOST, LENGTH) + TILE
    for bad in (b"\0\1garbage\r\n\r\n", post(HOST, CHUNKED) + b"zz\r\n"):
        answer = exchange(server, good + good + bad)
        assert [200, 200] == statuses(answer)
        assert 2 == answer.count(expected)


def test_pipelined_requests_and_a_reset_end_quietly(server: ServerProcess) -> None:
    """A client that goes is not the service's fault, however many requests it has sent."""
    for _ in range(20):
        with connect(server) as connection:
            connection.sendall((post(HOST, LENGTH) + TILE) * 3)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The answer to a later request says that the resets have been seen.
    assert [200] == statuses(exchange(server, post(HOST, LENGTH, LAST) + TILE))
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [] == [line for line in lines if line["level"] == "error"]


def test_a_handshake_that_stalls_is_cut_like_a_head() -> None:
    """Not after asyncio's minute."""
    tls = Path(__file__).parents[2] / "data" / "tls"
    settings = {
        **IDENTITY,
        "SEMSR_TLS_CERT": str(tls / "cert.pem"),
        "SEMSR_TLS_KEY": str(tls / "key.pem"),
        "SEMSR_HEAD_TIMEOUT_S": "1",
    }
    verify = ssl.create_default_context(cafile=tls / "cert.pem")
    with running_server(settings, verify=verify) as server, connect(server) as stalled:
        stalled.settimeout(30)
        stalled.sendall(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert b"" == stalled.recv(1)


def test_x_forwarded_for_is_believed_of_trusted_proxies_only() -> None:
    """Else a client chooses the name that its quota and its log lines go by."""
    settings = {**IDENTITY, "SEMSR_RATE_LIMIT_PER_S": "0.001", "SEMSR_RATE_LIMIT_BURST": "1"}

    def two_clients(server: ServerProcess) -> list[int]:
        answers: list[bytes] = []
        for client in (b"203.0.113.1", b"203.0.113.2"):
            forwarded = b"X-Forwarded-For: " + client + b"\r\n"
            answers.append(exchange(server, post(HOST, forwarded, LENGTH, LAST) + TILE))
        return [status for answer in answers for status in statuses(answer)]

    with running_server(settings) as server:
        assert [200, 429] == two_clients(server)
        assert "203.0.113" not in server.log.read_text()
    with running_server({**settings, "SEMSR_TRUSTED_PROXIES": "127.0.0.0/8"}) as server:
        assert [200, 200] == two_clients(server)
        assert '"client":"203.0.113.2"' in server.log.read_text()
