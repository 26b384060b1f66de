"""The rows of a list in 1.8: values, each a word, a string, or a name with a number and braces.

The last form is the image list, `Images 1 { "a.jpg" "JPG" 1 "Patch" }`; `N` means no images.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from service.scans.klarf.defects import valid_value
from service.scans.klarf.document import Document, decoded
from service.scans.klarf.table import Row, RowOffsets
from service.scans.klarf.values import STRING, ImageRef, integer, text

_BRACES = rb'\{(?:[^"{}]++|%b)*+\}' % STRING
_WORD = rb'[^\s;{},"]++'
VALUE = rb"(?:%b|[A-Za-z]\w*+\s++\d++\s*+%b|%b)" % (STRING, _BRACES, _WORD)
_VALUES = re.compile(VALUE)
_ROW = re.compile(rb'\s*+((?:[^;"{}]++|%b|%b)*+);' % (STRING, _BRACES))
_NOT_PLAIN = re.compile(rb'["{},]')
_FAST_IMAGES = re.compile(rb"Images?+\s++\d++\s*+%b\s*+" % _BRACES)
_SINGLE = re.compile(
    rb'Images?+\s++1\s*+\{\s*+"([^"]*+)"\s++"[^"]*+"\s++(\d{1,9})\s++"([^"]*+)"\s*+\}'
)
# A list of one image, which the typed view accepts.
_SINGLE_IMAGE = rb"Images?+\s++1\s*+\{\s*+%b\s++%b\s++\d{1,9}+\s++%b\s*+\}" % (3 * (STRING,))
_ONLY_VALUES = re.compile(rb"(?:\s*+%b)*+\s*+" % VALUE)
_IMAGES = re.compile(rb"([A-Za-z]\w*+)\s++(\d++)\s*+\{(.*)\}", re.DOTALL)
_IMAGE = re.compile(rb"%b|[^\s,]++" % STRING)
_NO_IMAGES = (b"N", b"NA", b"")
IMAGE_LIST = "imagelist"
"""Type of the column of images, in lower case."""


@lru_cache(maxsize=1024)
def _after(index: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?:\s*+%b){%d}\s*+(%b)" % (VALUE, index, VALUE))


@lru_cache(maxsize=1024)
def _after_plain(index: int) -> re.Pattern[bytes]:
    # A name and a number before a brace are one value.
    end = rb"(?=[\s;])(?!\s*+\{|\s++\d++\s*+\{)"
    return re.compile(rb"(?:\s*+%b){%d}\s*+(%b)%b" % (_WORD, index, _WORD, end))


@lru_cache(maxsize=64)
def _plain_row(kinds: Sequence[str], names: Sequence[str]) -> re.Pattern[bytes]:
    """Return a pattern of rows that are valid without a closer look, as nearly all are.

    Such a row has spaces between its values, and at most one image. Group 1 is the row.
    """
    any_value = rb"(?:%b|%b)" % (_WORD, STRING)
    values = [
        rb"(?:N|%b)" % _SINGLE_IMAGE if kind == IMAGE_LIST else valid_value(name) or any_value
        for kind, name in zip(kinds, names, strict=True)
    ]
    return re.compile(rb"\s*+(%b\s*+);" % rb"\s++".join(values))


class Rows18:
    """Cuts the rows of lists with the same columns."""

    def __init__(self, kinds: Sequence[str], names: Sequence[str]) -> None:
        """Find the image list.

        Args:
            kinds: Types of the columns as written.
            names: Names of the columns.
        """
        self._num_columns = len(kinds)
        lower = [kind.lower() for kind in kinds]
        self.list_place = lower.index(IMAGE_LIST) if IMAGE_LIST in lower else None
        # Rows without images may end before an image list that is the last column.
        self._may_omit = self.list_place == len(kinds) - 1 and len(kinds) > 1
        self._plain_row = _plain_row(tuple(lower), tuple(names))

    def read(self, document: Document, at: int, *, most: int, rows: RowOffsets) -> int:
        """Find rows up to a closing brace.

        Args:
            document: The file.
            at: Offset after the opening brace.
            most: Maximum number of rows.
            rows: Receives the rows; each ends before its `;`.

        Returns:
            Offset after the last row.

        Raises:
            KlarfError: A row is malformed, or there are too many.
        """
        content = document.content
        plain, match = self._plain_row.match, _ROW.match
        left = most
        most_bytes = document.limits.row_bytes
        while (found := (checked := plain(content, at)) or match(content, at)) is not None:
            start, end = found.span(1)
            if end - start > most_bytes:
                document.check_length(start, end, most=most_bytes, what="a row")
            if checked is None:
                self._check(document, start, end)
            left -= 1
            if left < 0:
                raise document.error(start, f"more than {most} rows", f"at most {most}")
            rows.add(start, end, is_checked=checked is not None)
            at = found.end()
        return at

    def _check(self, document: Document, start: int, end: int) -> None:
        """Check the number of values of a row.

        Raises:
            KlarfError: It differs from the number of columns.
        """
        values = _cut(document.content[start:end])
        if values is None:
            raise document.error(start, document.shown(start), "values between spaces")
        count = len(values)
        expected = self._num_columns
        if count != expected and not (self._may_omit and count == expected - 1):
            raise document.error(start, f"a row of {count} values", str(expected))

    def row(self, content: bytes) -> Row:
        """See `RowReader`."""
        values = _cut(content)
        assert values is not None  # noqa: S101 (the row has been checked)
        num_words = len(values)
        if num_words < self._num_columns:
            values.append(b"N")
        place = self.list_place
        images = () if place is None else (values[place],)
        return Row(values, images, range(self._num_columns), num_words)

    def images(self, row: Row, file: str) -> tuple[ImageRef, ...]:
        """See `RowReader`."""
        del file
        if not row.images or row.images[0] in _NO_IMAGES:
            return ()
        if (single := _SINGLE.fullmatch(row.images[0])) is not None:
            name, number, kind = single.groups()
            return (ImageRef(decoded(name), int(number), decoded(kind)),)
        found = _IMAGES.fullmatch(row.images[0])
        if found is None:
            shown = text(row.images[0])
            raise ValueError(f'images {shown!r}; expected N, or Images 1 {{ "file" "JPG" 1 "0" }}')
        count = integer(found.group(2))
        body = found.group(3)
        images = tuple(map(_image, _split(body))) if body.strip() else ()
        if len(images) != count:
            raise ValueError(f"{len(images)} images; expected {count}")
        return images

    def word(self, content: bytes, start: int, index: int) -> tuple[int, int]:
        """See `RowReader`."""
        found = _after_plain(index).match(content, start) or _after(index).match(content, start)
        assert found is not None  # noqa: S101 (the row has been cut into values)
        return found.span(1)


def _cut(row: bytes) -> list[bytes] | None:
    """Cut a row into values; None if it is malformed."""
    images: list[bytes] = []
    # Nearly all rows are words with images at their end; that is cut faster than any row.
    place = row.rfind(b"Image")
    if place > 0 and row[place - 1 : place].isspace():
        plain = row[:place]
        if _FAST_IMAGES.fullmatch(row, place) is not None:
            images.append(row[place:].strip())
        else:
            plain = row
    else:
        plain = row
    if _NOT_PLAIN.search(plain) is None:
        return plain.split() + images
    if _ONLY_VALUES.fullmatch(row) is None:
        return None
    return _VALUES.findall(row)


def _split(body: bytes) -> list[list[bytes]]:
    """Cut the text of an image list at the commas outside of strings."""
    images: list[list[bytes]] = [[]]
    at = 0
    for word in _IMAGE.finditer(body):
        if b"," in body[at : word.start()]:
            images.append([])
        images[-1].append(word.group())
        at = word.end()
    return images


def _image(words: Sequence[bytes]) -> ImageRef:
    """Read `"file" "format" number "type"`; all after the file may be missing."""
    if not words or len(words) > 4:
        raise ValueError(f"an image of {len(words)} values; expected file, format, number, type")
    number = integer(words[2]) if len(words) > 2 else None
    return ImageRef(text(words[0]), number, text(words[3]) if len(words) > 3 else "")
