"""The rows of a defect list in 1.2: where they end, and the image list within them.

A row begins on a line of its own and may go on for several. Its image list is a number of images
and two words for each of them: `1 7 0` is image 7 of type 0. Tools write two variants of it, and a
list is read by the first of the three that fits all its rows:

    counted     the image list states its own number, next to IMAGECOUNT
    omitted     the same, but rows without images have no image list at all
    uncounted   the image list states no number, IMAGECOUNT does
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from service.scans.klarf.defects import valid_value
from service.scans.klarf.document import Document
from service.scans.klarf.errors import KlarfError
from service.scans.klarf.table import Row, RowOffsets
from service.scans.klarf.values import INTEGER, STRING, ImageRef, integer, text

WORD = rb'(?:%b|[^\s;"][^\s;]*+)' % STRING
WORDS = re.compile(WORD)
_LINE = re.compile(rb"[^\r\n]+")
Variant = Literal["counted", "omitted", "uncounted"]
VARIANTS: tuple[Variant, ...] = ("counted", "omitted", "uncounted")
_PLAIN = rb'[^\s;"]++'
_SPACE = rb"[^\S\r\n]++"
_BLANK = rb"[^\S\r\n]*+"
_MOST_IMAGES = 3


def split_words(content: bytes) -> list[bytes]:
    """Cut a text into words and strings."""
    return WORDS.findall(content) if b'"' in content else content.split()


@lru_cache(maxsize=1024)
def _after(index: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?:\s*+%b){%d}\s*+(%b)" % (WORD, index, WORD))


def _plain_row(columns: Sequence[str]) -> re.Pattern[bytes]:
    """Return a pattern of rows that are valid without a closer look, as nearly all are.

    Such a row is on one line, has no strings, and at most a few images in a counted list. Group 1
    is its line.
    """
    one = _SPACE + INTEGER + _SPACE + _PLAIN
    images = b"|".join([b"0", *(b"%d" % num + num * one for num in range(1, _MOST_IMAGES + 1))])
    values = [
        rb"(?:%b)" % images if name.upper() == "IMAGELIST" else valid_value(name) or _PLAIN
        for name in columns
    ]
    return re.compile(rb"[\r\n]*+(%b%b%b)(?=[\r\n]|\Z)" % (_BLANK, _SPACE.join(values), _BLANK))


@lru_cache(maxsize=64)
def _after_plain(index: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?:\s*+%b){%d}\s*+(%b)(?=[\s;])" % (_PLAIN, index, _PLAIN))


class Rows12:
    """Cuts the rows of lists with the same columns, in one variant."""

    def __init__(self, columns: Sequence[str], variant: Variant) -> None:
        """Find the image list among the columns."""
        upper = [name.upper() for name in columns]
        self._num_columns = len(columns)
        self._list_place = upper.index("IMAGELIST") if "IMAGELIST" in upper else None
        self._count_place = upper.index("IMAGECOUNT") if "IMAGECOUNT" in upper else None
        self._variant = variant
        self._plain_row = _plain_row(columns) if variant == "counted" else None
        self._words_after = 0
        self._plain_places = range(self._num_columns)
        if self._list_place is not None:
            self._words_after = self._num_columns - self._list_place - 1
            if self._count_place is not None and self._count_place > self._list_place:
                self._count_place = None

    def read(self, document: Document, span: tuple[int, int], rows: RowOffsets) -> None:
        """Find the rows of one list.

        Args:
            document: The file.
            span: Place of all rows.
            rows: Receives the rows.

        Raises:
            KlarfError: A line holds more than a row, or the last row is incomplete.
        """
        content = document.content
        most = document.limits.row_bytes
        plain = None if self._plain_row is None else self._plain_row.match
        at, end = span
        while at < end:
            if plain is not None and (found := plain(content, at, end)) is not None:
                start, at = found.span(1)
                if at - start > most:
                    document.check_length(start, at, most=most, what="a defect")
                rows.add(start, at, is_checked=True)
            else:
                at = self._read_row(document, at, end, rows)

    def _read_row(self, document: Document, at: int, end: int, rows: RowOffsets) -> int:
        """Find one row of any form; returns the offset after it, or after the list."""
        words: list[bytes] = []
        start = at
        most = document.limits.row_bytes
        while (line := _LINE.search(document.content, at, end)) is not None:
            if not words:
                start = line.start()
            at = line.end()
            document.check_length(start, at, most=most, what="a defect")
            more = split_words(line.group())
            if not more:
                continue
            if not words:
                words = more
            else:
                words += more
            wanted = self._length(document, start, words)
            if wanted is None or len(words) < wanted:
                continue
            if len(words) > wanted:
                raise document.error(start, f"a defect of {len(words)} values", str(wanted))
            rows.add(start, at, is_checked=False)
            return at
        if words:
            wanted = self._length(document, start, words) or self._num_columns
            raise document.error(start, f"a defect of {len(words)} values", str(wanted))
        return end

    def _length(self, document: Document, start: int, words: Sequence[bytes]) -> int | None:
        """Return the number of words of a row, or None if more of it must be read."""
        place = self._list_place
        if place is None:
            return self._num_columns
        try:
            num_images = self._num_images(words)
        except ValueError as error:
            found, _, expected = str(error).partition("; expected ")
            raise document.error(start, f"a number of images of {found}", expected) from None
        if num_images is None:
            return None
        is_counted = self._variant == "counted" or (self._variant == "omitted" and num_images > 0)
        return place + is_counted + 2 * num_images + self._words_after

    def _num_images(self, words: Sequence[bytes]) -> int | None:
        place = self._list_place if self._variant == "counted" else self._count_place
        assert place is not None  # noqa: S101 (rows without a list have no images; see `read_rows`)
        if len(words) <= place:
            return None
        num_images = integer(words[place])
        if self._variant == "omitted" and num_images > 0:
            assert self._list_place is not None  # noqa: S101 (as above)
            if len(words) <= self._list_place:
                return None
            num_images = integer(words[self._list_place])
            if num_images < 1:
                raise ValueError(f"{num_images}; expected at least 1, as IMAGECOUNT says")
        if num_images < 0:
            raise ValueError(f"{num_images}; expected at least 0")
        return num_images

    def row(self, content: bytes) -> Row:
        """See `RowReader`."""
        words = split_words(content)
        place = self._list_place
        if place is None:
            return Row(words, (), self._plain_places, len(words))
        end = len(words) - self._words_after
        images = words[place:end]
        values = [*words[:place], b"", *words[end:]]
        places = [*range(place + 1), *range(end, len(words))]
        return Row(values, images, places, len(words))

    def images(self, row: Row, file: str) -> tuple[ImageRef, ...]:
        """See `RowReader`."""
        words = row.images
        if len(words) < 2:  # a number of 0, or no image list
            return ()
        first = len(words) % 2
        return tuple(
            ImageRef(file, integer(words[at]), text(words[at + 1]))
            for at in range(first, len(words), 2)
        )

    def word(self, content: bytes, start: int, index: int) -> tuple[int, int]:
        """See `RowReader`."""
        found = _after_plain(index).match(content, start) or _after(index).match(content, start)
        assert found is not None  # noqa: S101 (the row has been cut into words)
        return found.span(1)


def read_rows(
    document: Document, columns: Sequence[str], span: tuple[int, int], rows: RowOffsets
) -> Rows12:
    """Find the rows of one list, in the variant that fits.

    Args:
        document: The file.
        columns: Names of the columns.
        span: Place of all rows.
        rows: Receives the rows.

    Raises:
        KlarfError: No variant fits; the message is that of the first.
    """
    readers = _readers(tuple(columns))
    num_rows = len(rows)
    errors: list[KlarfError] = []
    for reader in readers:
        try:
            reader.read(document, span, rows)
        except KlarfError as error:
            errors.append(error)
            rows.cut(num_rows)
            continue
        return reader
    raise errors[0]


@lru_cache(maxsize=64)
def _readers(columns: tuple[str, ...]) -> tuple[Rows12, ...]:
    upper = {name.upper() for name in columns}
    variants = VARIANTS if {"IMAGELIST", "IMAGECOUNT"} <= upper else VARIANTS[:1]
    return tuple(Rows12(columns, variant) for variant in variants)
