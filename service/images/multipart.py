"""The one file in a `multipart/form-data` body: for people with curl, and for generated clients.

Read in memory, never spooled to disk: the pictures are confidential.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.ground.errors import BadRequest, InvalidImage, UnsupportedMediaType
from service.images.media_types import TYPES_BY_SUFFIX

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"
_MAX_PARTS = 16
# Size limit of the part before the first boundary, and of the other fields.
_MAX_IGNORED_BYTES = 65_536
# Of `filename*=UTF-8''tile%20a.tif`, its last part: only its suffix counts, which is ASCII.
_EXTENDED_NAME = re.compile(
    r";\s*filename\*\s*=\s*[\w.-]*'[\w-]*'([^;\s]*)", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class UploadedFile:
    """One file of a form.

    Attributes:
        media_type: Media type, from the part's own Content-Type or from the file name's suffix.
        content: Bytes of the file.
    """

    media_type: str
    content: bytes


def extract_file(body: bytes, content_type: str) -> UploadedFile:
    """Find the field `file` in a form.

    Args:
        body: Whole request body.
        content_type: Content-Type header of the request, which holds the boundary.

    Raises:
        BadRequest: No boundary, no field `file`, or more than one file.
        InvalidImage: The body is not a well-formed multipart.
        UnsupportedMediaType: Neither the part nor its file name states its type.
    """
    form = FormReader(content_type)
    form.write(body)
    form.finish()
    return UploadedFile(form.media_type(), form.take())


class FormReader:
    """Reads a form piece by piece; only the content of its file is kept."""

    def __init__(self, content_type: str) -> None:
        """Prepare.

        Args:
            content_type: Content-Type header of the request.

        Raises:
            BadRequest: It has no boundary.
        """
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BadRequest(f"Content-Type is {content_type!r}; expected a boundary parameter")
        self._delimiter = b"--" + boundary
        # Bytes before the first boundary; None once it has been found.
        self._preamble: bytes | None = b"\r\n"
        self._collector = _Collector()
        self._parser = MultipartParser(boundary, self._collector.callbacks())

    def write(self, data: bytes) -> None:
        """Read the next bytes.

        Raises:
            BadRequest: The form has several files, or too many bytes in other fields.
            InvalidImage: It is not a well-formed multipart.
        """
        if self._preamble is not None:
            data = self._after_preamble(data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidImage(f"the multipart body cannot be read: {error}") from error
        parts = self._collector.parts
        if sum(part.name == FIELD for part in parts) > 1:
            raise BadRequest(self._wrong_fields())
        if sum(len(part.content) for part in parts if part.name != FIELD) > _MAX_IGNORED_BYTES:
            raise BadRequest(
                f"the form has more than {_MAX_IGNORED_BYTES} bytes outside its field {FIELD!r}"
            )

    def _after_preamble(self, data: bytes) -> bytes:
        """Return the bytes from the first boundary on; RFC 2046 gives no meaning to the rest."""
        found = (self._preamble or b"") + data
        start = found.find(b"\r\n" + self._delimiter)
        if start >= 0:
            self._preamble = None
            return found[start + 2 :]
        if len(found) > _MAX_IGNORED_BYTES:
            raise InvalidImage(
                f"the multipart body cannot be read: no boundary in {len(found)} bytes"
            )
        self._preamble = found
        return b""

    def finish(self) -> None:
        """Check the end of the form.

        Raises:
            InvalidImage: It ends before its closing boundary.
            BadRequest: It has no file.
        """
        self._parser.finalize()
        if not self._collector.complete:
            raise InvalidImage("the multipart body ends before its closing boundary")
        if self._file() is None:
            raise BadRequest(self._wrong_fields())

    def has_begun(self) -> bool:
        """Whether the headers of the file have been read."""
        part = self._file()
        return part is not None and part.has_begun

    def take(self) -> bytes:
        """Return the bytes of the file since the last call."""
        part = self._file()
        if part is None:
            return b""
        content = bytes(part.content)
        part.content.clear()
        return content

    def media_type(self) -> str:
        """Return the media type of the file, as `UploadedFile` has it.

        Raises:
            UnsupportedMediaType: Neither the part nor its file name states its type.
        """
        part = self._file()
        return "" if part is None else _media_type(part)

    def _file(self) -> "_Part | None":
        return next((part for part in self._collector.parts if part.name == FIELD), None)

    def _wrong_fields(self) -> str:
        found = ", ".join(repr(part.name) for part in self._collector.parts) or "none"
        return f"the form must have one field {FIELD!r}; its fields are: {found}"


class _Part:
    def __init__(self) -> None:
        self.headers: dict[str, bytes] = {}
        self.content = bytearray()
        self.name = ""
        self.has_begun = False

    def begin(self) -> None:
        """Record that the headers are complete."""
        self.has_begun = True
        self.name = self._options.get(b"name", b"").decode("utf-8", "replace")

    @property
    def _options(self) -> dict[bytes, bytes]:
        return parse_options_header(self.headers.get("content-disposition", b""))[1]

    @property
    def file_name(self) -> str:
        """The name of the file; by `filename*` (RFC 5987) where a client sends no `filename`."""
        plain = self._options.get(b"filename")
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
            "on_headers_finished": self._headers_finished,
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

    def _headers_finished(self) -> None:
        self.parts[-1].begin()

    def _end(self) -> None:
        self.complete = True


# Archives, which only a batch reads.
_ARCHIVES_BY_SUFFIX = {".tar": "application/x-tar", ".zip": "application/zip"}


def _media_type(part: _Part) -> str:
    stated = part.headers.get("content-type", b"").decode("latin-1").partition(";")[0].strip()
    if stated and stated.lower() != "application/octet-stream":
        return stated.lower()
    name = part.file_name.lower()
    for suffix, media_type in {**TYPES_BY_SUFFIX, **_ARCHIVES_BY_SUFFIX}.items():
        if name.endswith(suffix):
            return media_type
    if stated:
        return stated.lower()
    raise UnsupportedMediaType(
        f"the field {FIELD!r} has no Content-Type and its file name {part.file_name!r} no known "
        f"suffix; expected one of {', '.join(sorted(TYPES_BY_SUFFIX))}"
    )
