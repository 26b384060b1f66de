"""Requests of strange and broken clients, and the answers that the service may give.

An act sends raw bytes on a socket of its own. The answer must have one of the act's statuses and,
if it is an error, be a problem. Where the connection itself is broken, the service may close it
instead. A missing answer and a 500 are failures.
"""

import json
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests import images
from loadtests.exchange import http_request

Piece = tuple[float, bytes]
"""Seconds to wait, then what to send."""


class HostileError(AssertionError):
    """The service reacted wrongly to an act, or not in time."""


@dataclass(frozen=True)
class Act:
    """One act of a bad client.

    Attributes:
        name: Name of the act.
        pieces: Maker of the bytes that are sent.
        statuses: Statuses that may be answered.
        may_close: Whether the connection may end without an answer.
        leaves: Whether the client hangs up after sending and expects no answer.
        is_problem: Whether the answer must be a problem of the service itself; malformed HTTP is
            answered below it, as plain text.
    """

    name: str
    pieces: Callable[[], Sequence[Piece]]
    statuses: frozenset[int]
    may_close: bool = False
    leaves: bool = False
    is_problem: bool = True


def _once(message: bytes) -> Callable[[], Sequence[Piece]]:
    return lambda: [(0.0, message)]


def _post(
    name: str,
    statuses: set[int],
    body: bytes,
    headers: dict[str, str],
    *,
    path: str = "/superresolve",
    length: int | None = None,
) -> Act:
    """Return an act that posts a whole request; see `http_request`."""
    message = http_request(path, headers, body, length=length)
    return Act(name, _once(message), frozenset(statuses))


def _malformed(name: str, statuses: set[int], pieces: Callable[[], Sequence[Piece]]) -> Act:
    """Return an act that is not HTTP, answered below the service or by closing the connection."""
    return Act(name, pieces, frozenset(statuses), may_close=True, is_problem=False)


def _leaves(where: str, message: bytes) -> Act:
    return Act(f"leaves {where}", _once(message), frozenset(), leaves=True)


def _slow_body() -> Sequence[Piece]:
    """Send a byte a second until the service gives up."""
    head = http_request("/superresolve", _RAW, b"", length=len(_TILE))
    return [(0.0, head), *((1.0, _TILE[number : number + 1]) for number in range(120))]


_TILE, _RAW = images.raw(images.wafer(2))
_WHOLE = http_request("/superresolve", _RAW, _TILE)
_GARBAGE = images.wafer(7).tobytes()[:3000]
_PNG = {"Content-Type": "image/png"}
_JSON = {"Content-Type": "application/json"}
_BUSY = frozenset({503, 504})

ACTS = [
    *(
        _post(f"garbage as {kind}", {400}, _GARBAGE, {"Content-Type": kind})
        for kind in ("image/png", "image/tiff", "image/jpeg", "image/bmp", images.NPY)
    ),
    _post("empty body", {400}, b"", _PNG),
    _post("unknown type", {415}, _TILE, {"Content-Type": "video/mp4"}),
    _post("no type", {400, 415}, _TILE, {}),
    _post(
        "form without a file",
        {400, 415, 422},
        b"--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    ),
    _post("raw without a shape", {400}, _TILE, {"Content-Type": images.RAW}),
    _post("raw with a wrong shape", {422}, _TILE, {**_RAW, "X-Tile-Shape": "7,99999"}),
    _post(
        "shape beyond counting", {400, 413}, _TILE, {**_RAW, "X-Tile-Shape": f"{10**30},{10**30}"}
    ),
    _post("unknown dtype", {400}, _TILE, {**_RAW, "X-Tile-Dtype": "complex"}),
    _post("timeout that is not finite", {400}, _TILE, {**_RAW, "X-Request-Timeout-Ms": "-inf"}),
    _post("unknown priority", {400}, _TILE, {**_RAW, "X-Priority": "now!"}),
    _post("unknown answer type", {406}, _TILE, {**_RAW, "Accept": "image/webp"}),
    _post("huge picture in a small file", {400, 413}, images.huge_png(60_000), _PNG),
    _post("huge size announced", {413}, _TILE, _RAW, length=1 << 40),
    _post("unknown path", {404}, _TILE, _RAW, path="/../../etc/passwd"),
    Act(
        "another method",
        _once(b"DELETE /superresolve HTTP/1.1\r\nHost: x\r\n\r\n"),
        frozenset({405}),
    ),
    _post("v2 without sense", {400, 404}, b'{"inputs": 7}', _JSON, path="/v2/models/x/infer"),
    _post(
        "v2 head longer than its body",
        {400, 404},
        b"{}",
        {"Inference-Header-Content-Length": "999"},
        path="/v2/models/default/infer",
    ),
    _malformed(
        "no HTTP at all",
        {400},
        _once(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
    ),
    _malformed(
        "negative length", {400}, _once(http_request("/superresolve", _RAW, b"", length=-1))
    ),
    _malformed(
        "head without end",
        {400, 431},
        _once(b"POST /superresolve HTTP/1.1\r\nX: " + b"a" * 300_000),
    ),
    Act("slow body", _slow_body, frozenset({408}), may_close=True),
    _malformed("slow head", {400, 408}, lambda: [(0.0, b"POST /super"), *[(1.0, b"r")] * 120]),
    _leaves("in the head", b"POST /superresolve HTT"),
    _leaves("in the body", _WHOLE[:20_000]),
    _leaves("before its answer", _WHOLE),
]


def perform(act: Act, address: tuple[str, int], *, longest_s: float) -> str:
    """Perform an act; returns the status, `closed` or `left`.

    Args:
        act: Act to perform.
        address: Host and port.
        longest_s: Time limit in seconds for the reaction, from the first byte.

    Raises:
        HostileError: It reacted wrongly, or not in time.
    """
    deadline_s = time.monotonic() + longest_s
    with socket.create_connection(address, timeout=longest_s) as connection:
        if act.leaves:
            for _, message in act.pieces():
                connection.sendall(message)
            return "left"
        answer = _exchange(connection, act, deadline_s)
    if not answer:
        if act.may_close:
            return "closed"
        raise HostileError(f"{act.name}: the connection ended without an answer")
    status = _status(act, answer)
    if status not in act.statuses | _BUSY:
        wanted = ", ".join(map(str, sorted(act.statuses)))
        raise HostileError(f"{act.name}: answered {status}, expected {wanted}: {answer[-300:]!r}")
    if act.is_problem:
        _check_problem(act, answer)
    return str(status)


def _exchange(connection: socket.socket, act: Act, deadline_s: float) -> bytes:
    """Send the pieces and listen meanwhile: an answer may come before the last piece."""
    for wait_s, message in act.pieces():
        if wait_s and select.select([connection], [], [], wait_s)[0]:
            return _receive(connection, act, deadline_s)
        if time.monotonic() > deadline_s:
            raise HostileError(f"{act.name}: no reaction in time")
        connection.settimeout(max(0.001, deadline_s - time.monotonic()))
        try:
            connection.sendall(message)
        except ConnectionError:
            break  # refused while it was sent; the answer can still be read
        except TimeoutError as error:
            raise HostileError(f"{act.name}: the service stopped reading") from error
    return _receive(connection, act, deadline_s)


def _receive(connection: socket.socket, act: Act, deadline_s: float) -> bytes:
    answer = b""
    while not _is_whole(answer):
        connection.settimeout(max(0.001, deadline_s - time.monotonic()))
        try:
            received = connection.recv(65_536)
        except TimeoutError as error:
            raise HostileError(f"{act.name}: no whole answer in time, {answer[:200]!r}") from error
        except ConnectionError:
            return answer
        if not received:
            return answer
        answer += received
    return answer


def _is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if separator and line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


def _status(act: Act, answer: bytes) -> int:
    try:
        return int(answer.split(b" ", 2)[1])
    except (IndexError, ValueError) as error:
        raise HostileError(f"{act.name}: not an HTTP answer: {answer[:200]!r}") from error


def _check_problem(act: Act, answer: bytes) -> None:
    body = answer.partition(b"\r\n\r\n")[2]
    try:
        problem = json.loads(body)
        missing = {"status", "title", "detail", "request_id"} - problem.keys()
    except (ValueError, AttributeError) as error:
        raise HostileError(f"{act.name}: not a problem: {body[:200]!r}") from error
    if missing:
        raise HostileError(f"{act.name}: the problem lacks {', '.join(sorted(missing))}")
