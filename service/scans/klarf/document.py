"""The bytes of a KLARF file: lines for messages, edits that touch nothing else, and limits."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from service.scans.klarf.errors import KlarfError

_LINE_BREAK = re.compile(rb"\r\n?|\n")
_SHOWN_BYTES = 40
UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a file; a larger one is rejected before it fills the memory.

    Attributes:
        file_bytes: Length of the file.
        defects: Number of defects.
        columns: Number of columns of one list.
        depth: Number of records around a record (1.8).
        row_bytes: Length of a row.
        record_bytes: Length of any other record, field or declaration of columns.
        wafers: Number of wafers, of defect lists with columns of their own, and of classes.
    """

    file_bytes: int = 1 << 29
    defects: int = 5_000_000
    columns: int = 1000
    depth: int = 32
    row_bytes: int = 1 << 20
    record_bytes: int = 1 << 24
    wafers: int = 100_000


class Edit(NamedTuple):
    """A replacement of some bytes.

    Attributes:
        start: Offset of the first replaced byte.
        end: Offset after the last replaced byte; `start` inserts.
        content: New bytes.
    """

    start: int
    end: int
    content: bytes


class Document:
    """The bytes of a file, which never change; an edited copy is a new text."""

    def __init__(self, content: bytes, limits: Limits) -> None:
        """Take the content of a file.

        Raises:
            KlarfError: It is too long, is not text of one byte a character (or UTF-8), or is empty.
        """
        self.content = content
        self.limits = limits
        if len(content) > limits.file_bytes:
            raise KlarfError(
                line=1, found=f"{len(content)} bytes", expected=f"at most {limits.file_bytes}"
            )
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise KlarfError(line=1, found="UTF-16", expected="ASCII, Latin-1 or UTF-8")
        if (offset := content.find(0)) >= 0:
            raise self.error(offset, "a zero byte", "text")

    @property
    def start(self) -> int:
        """Offset of the text: a byte order mark of UTF-8 may stand before it."""
        return len(UTF8_MARK) if self.content.startswith(UTF8_MARK) else 0

    def line(self, offset: int) -> int:
        r"""Return the number of the line of an offset, from 1; lines end in \n, \r\n or \r."""
        before = self.content[:offset]
        count = 1 + sum(1 for _ in _LINE_BREAK.finditer(before))
        # An offset between \r and \n still belongs to the line that they end.
        between = before.endswith(b"\r") and self.content[offset : offset + 1] == b"\n"
        return count - between

    def shown(self, offset: int) -> str:
        """Return the start of the text at an offset, for messages."""
        rest = self.content[offset : offset + _SHOWN_BYTES + 1].lstrip()
        if not rest:
            return "the end of the file"
        line = _LINE_BREAK.split(rest, maxsplit=1)[0]
        cut = line[:_SHOWN_BYTES]
        return repr(decoded(cut)) + ("…" if len(cut) < len(line) else "")

    def error(self, offset: int, found: str, expected: str) -> KlarfError:
        """Return the error of a part at an offset."""
        return KlarfError(line=self.line(offset), found=found, expected=expected)

    def check_length(self, start: int, end: int, *, most: int, what: str) -> None:
        """Reject a part that is too long to be cut into values.

        Raises:
            KlarfError: It has more than `most` bytes.
        """
        if end - start > most:
            raise self.error(start, f"{what} of {end - start} bytes", f"at most {most}")

    def check_number(self, offset: int, found: int, *, most: int, what: str) -> None:
        """Reject a part of which there are too many.

        Raises:
            KlarfError: There are more than `most`.
        """
        if found > most:
            raise self.error(offset, f"{found} {what}", f"at most {most}")

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """Return the content with some parts replaced.

        Args:
            edits: Replacements, in any order.

        Raises:
            ValueError: Two of them overlap, or one is outside the file.
        """
        parts: list[bytes] = []
        content = self.content
        at = 0
        for start, end, replacement in sorted(edits, key=itemgetter(0, 1)):
            if not at <= start <= end <= len(content):
                raise ValueError(f"edit of bytes {start} to {end}; expected {at} or later")
            parts += (content[at:start], replacement)
            at = end
        parts.append(content[at:])
        return b"".join(parts)


def decoded(content: bytes) -> str:
    """Return a text as UTF-8, or as Latin-1 if it is not."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")
