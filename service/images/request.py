"""The headers of a request for one tile, read and checked before its body.

The values of a repeated Accept or Content-Encoding are joined; any other header with two different
values is refused as ambiguous.
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import parse_qsl

from service.ground.errors import BadRequest, UnsupportedMediaType
from service.ground.priority import Priority
from service.ground.tools import PATTERN as TOOL_PATTERN
from service.images.codec import parse_dtype, parse_shape
from service.images.media_types import (
    READABLE_TYPES,
    check_encoding,
    choose_answer,
    parse_media_type,
)
from service.images.metadata import PixelSize, parse_pixel_size
from service.images.window import Window, parse_window

MULTIPART = "multipart/form-data"
_CURL_DEFAULT = "application/x-www-form-urlencoded"
# The headers that are read here.
_READ = frozenset(
    {
        b"accept",
        b"content-encoding",
        b"content-type",
        b"x-answer-bits",
        b"x-answer-dtype",
        b"x-pixel-size-nm",
        b"x-priority",
        b"x-request-timeout-ms",
        b"x-tile-dtype",
        b"x-tile-shape",
        b"x-tool",
        b"x-window",
    }
)
# A client sends the same headers with every tile, so the result is cached. Long ones are not: they
# could fill the memory.
_MAX_REMEMBERED = 256
_MAX_REMEMBERED_BYTES = 512
# An hour: beyond it a client has mistyped the unit.
MAX_TIMEOUT_MS = 3_600_000.0
_JOINED = frozenset({"accept", "content-encoding"})
# Any plain decimal number, without Python's other forms of floats (1_000, Infinity).
_TOOL = re.compile(TOOL_PATTERN)
_NUMBER = re.compile(r"[0-9]{1,400}(\.[0-9]{0,400})?([eE][-+]?[0-9]{1,4})?", re.ASCII)


@dataclass(frozen=True)
class TileRequest:
    """The headers of one `POST /superresolve`.

    Attributes:
        content_type: Whole Content-Type header, as sent.
        media_type: Media type of it, lower case, without parameters; not yet known to be readable.
        accept: Accept header, or None.
        shape: (H, W) of a raw body, or None.
        dtype: Data type of a raw body, or None.
        window: Grey range of 16-bit input, or None for the bundle's.
        answer_dtype: Data type of the answer: uint8 or uint16.
        pixel_size: Pixel size stated by the client, or None for the file's own.
        deadline_s: `time.monotonic()` at which the request expires, or None.
        priority: Class of the request.
        tool: Tool that made the image, as `service.ground.tools.PATTERN` has it, or None.
        answer_bits: Bits that the network gives: 8 or 16.
    """

    content_type: str
    media_type: str
    accept: str | None
    shape: tuple[int, int] | None
    dtype: str | None
    window: Window | None
    answer_dtype: str
    pixel_size: PixelSize | None
    deadline_s: float | None
    priority: Priority = Priority.ONLINE
    tool: str | None = None
    answer_bits: int = 8

    def answer_type(self, image_type: str) -> str:
        """Choose the media type of the answer for an image that arrived as `image_type`.

        Raises:
            NotAcceptable: The client accepts no type that can be produced.
        """
        return choose_answer(self.accept, image_type)


def asked_model(query: bytes) -> str | None:
    """Read `?model=NAME`; None without a query.

    Raises:
        BadRequest: The query is another one, because a mistyped name must not silently select
            another model.
    """
    if not query:
        return None
    try:
        fields = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise BadRequest("the query cannot be read; expected ?model=NAME") from error
    if len(fields) != 1 or fields[0][0] != "model" or not fields[0][1]:
        raise BadRequest(f"the query is {query[:80].decode('latin-1')!r}; expected model=NAME")
    return fields[0][1]


def parse_request(
    raw_headers: Iterable[tuple[bytes, bytes]], *, default_priority: Priority = Priority.ONLINE
) -> TileRequest:
    """Read the headers of one request.

    Args:
        raw_headers: Lower-case names and values, as ASGI gives them.
        default_priority: Class of a request without X-Priority.

    Raises:
        BadRequest: A header is malformed; the message names it, its value and what was expected.
        UnsupportedMediaType: The body is compressed as a whole, or has no Content-Type.
    """
    request, timeout_s = read_request(raw_headers, default_priority=default_priority)
    if timeout_s is None:
        return request
    return replace(request, deadline_s=time.monotonic() + timeout_s)


def read_request(
    raw_headers: Iterable[tuple[bytes, bytes]], *, default_priority: Priority = Priority.ONLINE
) -> tuple[TileRequest, float | None]:
    """Read the headers of a request without a clock: what it returns may be kept.

    Returns:
        The request without a deadline, and the seconds that it allows, or None; raises as
        `parse_request`.
    """
    asked = tuple(header for header in raw_headers if header[0] in _READ)
    is_short = (
        len(asked) <= len(_READ) and sum(len(value) for _, value in asked) <= _MAX_REMEMBERED_BYTES
    )
    return (_remembered if is_short else _read)(asked, default_priority)


def _read(
    raw_headers: tuple[tuple[bytes, bytes], ...], default_priority: Priority
) -> tuple[TileRequest, float | None]:
    """Return the request, without a deadline, and the seconds that it allows; see above."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if headers.setdefault(name, value) == value:
            continue
        if name not in _JOINED:
            raise BadRequest(
                f"the header {name} occurs twice, as {headers[name][:60]!r} and as {value[:60]!r}; "
                "expected one value"
            )
        headers[name] += f",{value}"
    check_encoding([headers.get("content-encoding", "")])
    content_type = headers.get("content-type", "")
    if content_type == _CURL_DEFAULT:
        raise UnsupportedMediaType(
            f"Content-Type is {_CURL_DEFAULT!r}, curl's default; "
            f"set the type of the body: one of {', '.join(READABLE_TYPES)}"
        )
    if not content_type:
        raise UnsupportedMediaType(
            f"the request has no Content-Type; expected one of {', '.join(READABLE_TYPES)}, "
            f"or {MULTIPART}"
        )
    shape, dtype = headers.get("x-tile-shape"), headers.get("x-tile-dtype")
    window, pixel_size = headers.get("x-window"), headers.get("x-pixel-size-nm")
    request = TileRequest(
        content_type=content_type,
        media_type=parse_media_type(content_type),
        accept=headers.get("accept"),
        shape=None if shape is None else parse_shape(shape),
        dtype=None if dtype is None else parse_dtype(dtype),
        window=None if window is None else parse_window(window),
        answer_dtype=_answer_dtype(headers),
        answer_bits=int(headers.get("x-answer-bits", "8")),
        pixel_size=None if pixel_size is None else parse_pixel_size(pixel_size),
        deadline_s=None,
        priority=_priority(headers, default_priority),
        tool=parse_tool(headers.get("x-tool")),
    )
    return request, _timeout_s(headers)


_remembered = lru_cache(_MAX_REMEMBERED)(_read)


def parse_tool(value: str | None) -> str | None:
    """Read the header X-Tool, or None without it.

    Raises:
        BadRequest: The value is not the name of a tool.
    """
    if value is not None and not _TOOL.fullmatch(value):
        raise BadRequest(
            f"X-Tool is {value[:80]!r}; expected 1 to 64 letters, digits, spaces and . _ : / + -, "
            "of which the first is a letter or digit"
        )
    return value


def read_tool(raw_headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Find and read the header X-Tool, or return None without it.

    Raises:
        BadRequest: It occurs with two values, or its value is not the name of a tool.
    """
    values = {value.decode("latin-1") for name, value in raw_headers if name == b"x-tool"}
    if len(values) > 1:
        raise BadRequest(f"the header x-tool occurs with {len(values)} values; expected one")
    return parse_tool(next(iter(values), None))


def _answer_dtype(headers: Mapping[str, str]) -> str:
    bits = headers.get("x-answer-bits", "8")
    if bits not in {"8", "16"}:
        raise BadRequest(f"X-Answer-Bits is {bits!r}; expected 8 or 16")
    value = headers.get("x-answer-dtype", "uint8" if bits == "8" else "uint16")
    if value not in {"uint8", "uint16"}:
        raise BadRequest(f"X-Answer-Dtype is {value!r}; expected uint8 or uint16")
    if bits == "16" and value != "uint16":
        raise BadRequest(f"X-Answer-Dtype is {value!r} and X-Answer-Bits 16; expected uint16")
    return value


def _priority(headers: Mapping[str, str], default: Priority) -> Priority:
    value = headers.get("x-priority", default)
    if value not in set(Priority):
        raise BadRequest(f"X-Priority is {value!r}; expected {' or '.join(Priority)}")
    return Priority(value)


def _timeout_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("x-request-timeout-ms")
    if value is None:
        return None
    timeout_ms = float(value) if _NUMBER.fullmatch(value.strip()) else -1.0
    if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
        raise BadRequest(
            f"X-Request-Timeout-Ms is {value!r}; expected milliseconds above 0 "
            f"and at most {MAX_TIMEOUT_MS:.0f}"
        )
    return timeout_ms / 1e3
