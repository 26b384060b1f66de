"""Requests of strange and broken clients, and the answers that the service may give.

Every act is raw bytes on a socket of its own. An answer must have one of the documented statuses
and, like every error, say what was wrong as a problem; where the connection itself is broken the
service may end it instead. It must never be silent, and never answer 500.
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
    """The service reacted as it must not."""


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


def _post(
    body: bytes,
    headers: dict[str, str],
    *,
    path: str = "/superresolve",
    announced: int | None = None,
) -> bytes:
    return http_request(path, headers, body, length=announced)


def _once(message: bytes) -> Callable[[], Sequence[Piece]]:
    return lambda: [(0.0, message)]


def _garbage(kind: str) -> Act:
    body = images.wafer(7).tobytes()[:3000]
    return Act(f"garbage as {kind}", _once(_post(body, {"Content-Type": kind})), frozenset({400}))


def _slow_body() -> Sequence[Piece]:
    """Send a byte a second until the service gives up."""
    body, headers = images.raw(images.wafer(1))
    head = _post(b"", headers, announced=len(body))
    return [(0.0, head), *((1.0, body[number : number + 1]) for number in range(120))]


_TILE, _RAW = images.raw(images.wafer(2))
_BUSY = frozenset({503, 504})

ACTS = [
    *(_garbage(f"image/{kind}") for kind in ("png", "tiff", "jpeg", "bmp")),
    _garbage(images.NPY),
    Act("empty body", _once(_post(b"", {"Content-Type": "image/png"})), frozenset({400})),
    Act("unknown type", _once(_post(_TILE, {"Content-Type": "video/mp4"})), frozenset({415})),
    Act("no type", _once(_post(_TILE, {})), frozenset({400, 415})),
    Act(
        "form without a file",
        _once(_post(b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"})),
        frozenset({400, 415, 422}),
    ),
    Act("raw without a shape", _once(_post(_TILE, {"Content-Type": images.RAW})), frozenset({400})),
    Act(
        "raw with a wrong shape",
        _once(_post(_TILE, {**_RAW, "X-Tile-Shape": "7,99999"})),
        frozenset({422}),
    ),
    Act(
        "shape beyond counting",
        _once(_post(_TILE, {**_RAW, "X-Tile-Shape": f"{10**30},{10**30}"})),
        frozenset({400, 413}),
    ),
    Act(
        "unknown dtype", _once(_post(_TILE, {**_RAW, "X-Tile-Dtype": "complex"})), frozenset({400})
    ),
    Act(
        "timeout that is not finite",
        _once(_post(_TILE, {**_RAW, "X-Request-Timeout-Ms": "-inf"})),
        frozenset({400}),
    ),
    Act(
        "unknown priority",
        _once(_post(_TILE, {**_RAW, "X-Priority": "now!"})),
        frozenset({400}),
    ),
    Act(
        "answer type that does not exist",
        _once(_post(_TILE, {**_RAW, "Accept": "image/webp"})),
        frozenset({406}),
    ),
    Act(
        "huge picture in a small file",
        _once(_post(images.huge_png(60_000), {"Content-Type": "image/png"})),
        frozenset({400, 413}),
    ),
    Act(
        "huge size announced",
        _once(_post(_TILE, _RAW, announced=1 << 40)),
        frozenset({413}),
    ),
    Act("unknown path", _once(_post(_TILE, _RAW, path="/../../etc/passwd")), frozenset({404})),
    Act(
        "another method",
        _once(b"DELETE /superresolve HTTP/1.1\r\nHost: x\r\n\r\n"),
        frozenset({405}),
    ),
    Act(
        "v2 without sense",
        _once(
            _post(b'{"inputs": 7}', {"Content-Type": "application/json"}, path="/v2/models/x/infer")
        ),
        frozenset({400, 404}),
    ),
    Act(
        "v2 head longer than its body",
        _once(
            _post(
                b"{}", {"Inference-Header-Content-Length": "999"}, path="/v2/models/default/infer"
            )
        ),
        frozenset({400, 404}),
    ),
    Act(
        "no HTTP at all",
        _once(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
        frozenset({400}),
        may_close=True,
        is_problem=False,
    ),
    Act(
        "negative length",
        _once(_post(b"", _RAW, announced=-1)),
        frozenset({400}),
        may_close=True,
        is_problem=False,
    ),
    Act(
        "head without end",
        lambda: [(0.0, b"POST /superresolve HTTP/1.1\r\nX: " + b"a" * 300_000)],
        frozenset({400, 431}),
        may_close=True,
        is_problem=False,
    ),
    Act("slow body", _slow_body, frozenset({408}), may_close=True),
    Act(
        "slow head",
        lambda: [(0.0, b"POST /super"), *[(1.0, b"r")] * 120],
        frozenset({400, 408}),
        may_close=True,
        is_problem=False,
    ),
    Act("leaves in the head", _once(b"POST /superresolve HTT"), frozenset(), leaves=True),
    Act("leaves in the body", _once(_post(_TILE, _RAW)[:20_000]), frozenset(), leaves=True),
    Act("leaves before its answer", _once(_post(_TILE, _RAW)), frozenset(), leaves=True),
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
    """Send the pieces and listen meanwhile: an answer may come before the last."""
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
