"""A client that sends damaged bodies as fast as it can, and keeps what came back of each."""

import contextlib
import io
import random
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from service.images.window import FULL_RANGE, to_uint8
from tests.fuzz.corpus import CORPUS
from tests.fuzz.mutations import mutant
from tests.fuzz.readers import RAW, strictly_read
from tests.fuzz.sample import HEIGHT, WIDTH, Sample
from tests.fuzz.strict import Refused, TooLarge, Unjudged

TIMEOUT_S = 120.0
_HEAD_END = b"\r\n\r\n"
_OTHERS = {
    sample.media_type: [other for other in CORPUS if other.media_type == sample.media_type]
    for sample in CORPUS
}
# Sent with one request in four; None of them may turn a refusal into a picture, or cost a 5xx.
_ODD_HEADERS = (
    "X-Window: 0,4095",
    "X-Window: 65535,0",
    "X-Window: ,",
    "X-Tile-Shape: 19,27",
    "X-Tile-Shape: 0,0",
    "X-Tile-Shape: 999999999,999999999",
    "X-Tile-Dtype: float32",
    "X-Answer-Dtype: uint16",
    "X-Answer-Bits: 16",
    "X-Answer-Dtype: int8",
    "X-Pixel-Size-Nm: 1e309",
    "X-Pixel-Size-Nm: 4.5",
    "X-Request-ID: \xff\xfe",
    "Content-Encoding: gzip",
    "Content-Encoding: identity",
    "Accept: image/webp",
    "Accept: */*;q=0",
    "Accept: ,,;;==",
    "X-Deadline-Ms: -1",
    "Cookie: " + "a" * 2000,
)
_CHANGE_THE_ANSWER = ("X-Window", "X-Tile", "X-Answer", "Accept")


class Request(NamedTuple):
    """One request.

    Attributes:
        name: Sample, seed and damage.
        sample: What was damaged.
        body: The damaged file.
        content_type: Media type as it is sent.
        odd_header: A header that asks for something else, or "".
    """

    name: str
    sample: Sample
    body: bytes
    content_type: str
    odd_header: str


@dataclass
class Findings:
    """What came back.

    Attributes:
        statuses: Answers by status; 0 where the connection was closed instead.
        faults: What must not be: the request and what is wrong.
        compared: Pictures that were compared with a strict decoder's.
    """

    statuses: Counter[int] = field(default_factory=Counter[int])
    faults: list[str] = field(default_factory=list[str])
    compared: int = 0

    def add(self, other: "Findings") -> None:
        """Add those of another connection."""
        self.statuses += other.statuses
        self.faults += other.faults
        self.compared += other.compared


def request_of(number: int) -> Request:
    """Return one of the requests: the same for the same number."""
    rng = random.Random(f"http/{number}")
    sample = CORPUS[number % len(CORPUS)]
    damaged = mutant(sample, 1_000_000 + number // len(CORPUS), _OTHERS[sample.media_type])
    content_type = sample.media_type
    if rng.random() < 0.1:
        content_type = rng.choice(
            (
                content_type.upper(),
                content_type + "; charset=binary",
                rng.choice(CORPUS).media_type,
                "text/plain",
                "multipart/form-data; boundary=x",
                "image/",
            )
        )
    odd_header = rng.choice(_ODD_HEADERS) if rng.random() < 0.25 else ""
    name = f"request {number} ({sample.name}: {damaged.story})"
    return Request(name, sample, damaged.body, content_type, odd_header)


def send_all(url: str, numbers: Iterable[int]) -> Findings:
    """Send requests one after another over one connection, a new one where it was closed."""
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    findings, connection = Findings(), None
    for number in numbers:
        request = request_of(number)
        connection = connection or socket.create_connection(address, TIMEOUT_S)
        status, keeps, answer = _exchange(connection, _head(request) + request.body)
        if not keeps:
            connection.close()
            connection = None
        findings.statuses[status] += 1
        if status == 0 or status >= 500:
            findings.faults.append(f"{request.name}, {request.odd_header!r}: status {status}")
        elif status == 200 and not request.odd_header.startswith(_CHANGE_THE_ANSWER):
            _compare(request, answer, findings)
    if connection is not None:
        connection.close()
    return findings


def _head(request: Request) -> bytes:
    lines = [
        "POST /superresolve HTTP/1.1",
        "Host: fuzz",
        f"Content-Type: {request.content_type}",
        f"Content-Length: {len(request.body)}",
    ]
    if not request.odd_header.startswith("Accept"):
        lines.append("Accept: application/x-npy")
    if request.sample.media_type == RAW and not request.odd_header.startswith("X-Tile"):
        lines += [f"X-Tile-Shape: {HEIGHT},{WIDTH}", f"X-Tile-Dtype: {_dtype(request)}"]
    lines += [request.odd_header] if request.odd_header else []
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END


def _dtype(request: Request) -> str:
    return request.sample.name.removeprefix("raw/")


def _exchange(connection: socket.socket, sent: bytes) -> tuple[int, bool, bytes]:
    """Return status (0 for none), whether the connection can be used again, and the body."""
    # Refused before all had been sent: what was answered is still to be read.
    with contextlib.suppress(OSError):
        connection.sendall(sent)
    received = b""
    try:
        while _HEAD_END not in received:
            received += _some(connection)
        head, _, body = received.partition(_HEAD_END)
        lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            body += _some(connection)
    except OSError:
        return 0, False, b""
    keeps = headers.get("connection") != "close" and "content-length" in headers
    return int(lines[0].split(" ")[1]), keeps, body


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    if not data:
        raise ConnectionResetError("closed before the answer was whole")
    return data


def _compare(request: Request, answer: bytes, findings: Findings) -> None:
    """Find what was decoded in the answer of the identity engine; compare it with the truth."""
    found = np.load(io.BytesIO(answer), allow_pickle=False)[2::4, 2::4]
    media_type = request.content_type.partition(";")[0].strip().lower()
    try:
        if media_type == RAW:
            dtype = np.dtype(_dtype(request)).newbyteorder("<")
            grey = np.frombuffer(request.body, dtype).reshape(HEIGHT, WIDTH)
        else:
            grey = strictly_read(request.body, media_type)
    except Unjudged:
        return
    except (Refused, TooLarge) as error:
        findings.faults.append(f"{request.name}: 200, and the strict decoder refuses: {error}")
        return
    findings.compared += 1
    expected = to_uint8(grey.astype(grey.dtype.newbyteorder("=")), FULL_RANGE)
    if not np.array_equal(found, expected):
        findings.faults.append(f"{request.name}: 200 with other pixels than the strict decoder's")
