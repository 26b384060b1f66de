"""The one file in a `multipart/form-data` body: for people with curl, not for the hot path.

Read in memory, never spooled to disk: the pictures are confidential.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequest, InvalidImage, UnsupportedMediaType
from service.negotiation import TYPES_BY_SUFFIX

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"
_MAX_PARTS = 16
# Of `filename*=UTF-8''tile%20a.tif`, its last part: only its suffix counts, which is ASCII.
_EXTENDED_NAME = re.compile(r";\s*filename\*\s*=\s*[\w.-]*'[\w-]*'([^;\s]*)", re.ASCII | re.I)


@dataclass(frozen=True)
class UploadedFile:
    """One file of a form.

    Attributes:
        media_type: From the part's own Content-Type, or from the file name's suffix.
        content: The bytes.
    """

    media_type: str
    content: bytes


def extract_file(body: bytes, content_type: str) -> UploadedFile:
    """Find the field `file` in a form.

    Args:
        body: The whole request body.
        content_type: The request's Content-Type header, which holds the boundary.

    Raises:
        BadRequest: No boundary, no field `file`, or more than one file.
        InvalidImage: The body is no well-formed multipart.
        UnsupportedMediaType: Neither the part nor its file name says what it is.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest(f"Content-Type is {content_type!r}; expected a boundary parameter")
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(_without_preamble(body, boundary))
        parser.finalize()
    except FormParserError as error:
        raise InvalidImage(f"the multipart body cannot be read: {error}") from error
    if not collector.complete:
        raise InvalidImage("the multipart body ends before its closing boundary")
    files = [part for part in collector.parts if part.name == FIELD]
    if len(files) != 1:
        found = ", ".join(repr(part.name) for part in collector.parts) or "none"
        raise BadRequest(f"the form must have one field {FIELD!r}; its fields are: {found}")
    return UploadedFile(_media_type(files[0]), bytes(files[0].content))


def _without_preamble(body: bytes, boundary: bytes) -> bytes:
    """Return a form from its first boundary on: what stands before it says nothing (RFC 2046)."""
    delimiter = b"--" + boundary
    if body.startswith(delimiter):
        return body
    start = body.find(b"\r\n" + delimiter)
    return body if start < 0 else body[start + 2 :]


class _Part:
    def __init__(self) -> None:
        self.headers: dict[str, bytes] = {}
        self.content = bytearray()

    @property
    def options(self) -> dict[bytes, bytes]:
        return parse_options_header(self.headers.get("content-disposition", b""))[1]

    @property
    def name(self) -> str:
        return self.options.get(b"name", b"").decode("utf-8", "replace")

    @property
    def file_name(self) -> str:
        """The name of the file; by `filename*` (RFC 5987) where a client sends nothing else."""
        plain = self.options.get(b"filename")
        if plain is not None:
            return plain.decode("utf-8", "replace")
        disposition = self.headers.get("content-disposition", b"").decode("latin-1")
        found = _EXTENDED_NAME.search(disposition)
        return "" if found is None else unquote(found[1], errors="replace")


class _Collector:
    """Gathers parts from the parser's callbacks."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.complete = False
        self._field = b""
        self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= _MAX_PARTS:
            raise BadRequest(f"the form has more than {_MAX_PARTS} fields")
        self.parts.append(_Part())

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content += data[start:end]

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self.parts[-1].headers[self._field.decode("latin-1").lower()] = self._value
        self._field = self._value = b""

    def _end(self) -> None:
        self.complete = True


def _media_type(part: _Part) -> str:
    stated = part.headers.get("content-type", b"").decode("latin-1").partition(";")[0].strip()
    if stated and stated.lower() != "application/octet-stream":
        return stated.lower()
    name = part.file_name.lower()
    for suffix, media_type in TYPES_BY_SUFFIX.items():
        if name.endswith(suffix):
            return media_type
    if stated:
        return stated.lower()
    raise UnsupportedMediaType(
        f"the field {FIELD!r} has no Content-Type and its file name {part.file_name!r} no known "
        f"suffix; expected one of {', '.join(sorted(TYPES_BY_SUFFIX))}"
    )
