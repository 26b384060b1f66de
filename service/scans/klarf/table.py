"""A defect list: its columns, the places of its rows in the file, and the edits of columns."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

from service.scans.klarf.defects import ID, Defect, DefectDecoder
from service.scans.klarf.document import Document, Edit
from service.scans.klarf.values import ImageRef
from service.scans.klarf.wafers import Wafer


class NewColumn(NamedTuple):
    """A column that is written next to the others; an existing one of its name is overwritten.

    Attributes:
        name: Name, in capitals.
        kind: Type as 1.8 names it: `int32`, `float` or `string`.
    """

    name: str
    kind: str


class Row(NamedTuple):
    """A row, cut into values.

    Attributes:
        values: One value per column; that of the image list is not used.
        images: Text of the image list.
        places: Index in the words of the row of each column.
        num_words: Number of words.
    """

    values: Sequence[bytes]
    images: Sequence[bytes]
    places: Sequence[int]
    num_words: int


class RowReader(Protocol):
    """Cuts the rows of a version, see `rows_1_2` and `rows_1_8`."""

    def row(self, content: bytes) -> Row:
        """Cut a row that was checked when the file was read."""
        ...

    def images(self, row: Row, file: str) -> tuple[ImageRef, ...]:
        """Return the images of a row.

        Raises:
            ValueError: A reference is malformed.
        """
        ...

    def word(self, content: bytes, start: int, index: int) -> tuple[int, int]:
        """Return the span of a word of the row that starts at an offset of the file."""
        ...


class Group(NamedTuple):
    """Rows that follow each other and share what the file says before them.

    Attributes:
        first_row: Index of the first row in the table.
        wafer: Wafer of the rows.
        image_file: File that their images are in (1.2).
        reader: Reader of the rows.
    """

    first_row: int
    wafer: Wafer
    image_file: str
    reader: RowReader


class RowOffsets:
    """The places of rows in the file.

    Attributes:
        starts: Offset of each row.
        ends: Offset after each row.
        unchecked: Indices of the rows whose values are not known to be valid.
    """

    def __init__(self) -> None:
        self.starts = array("q")
        self.ends = array("q")
        self.unchecked = array("q")

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, end: int, *, is_checked: bool) -> None:
        """Add a row."""
        if not is_checked:
            self.unchecked.append(len(self.starts))
        self.starts.append(start)
        self.ends.append(end)

    def cut(self, num_rows: int) -> None:
        """Remove all rows but the first ones."""
        del self.starts[num_rows:], self.ends[num_rows:]
        del self.unchecked[bisect_left(self.unchecked, num_rows) :]


class DefectTable:
    """The rows of the defect lists that share their columns.

    Attributes:
        columns: Names of the columns.
        groups: Groups of the rows.
        rows: Places of the rows.
    """

    def __init__(
        self,
        document: Document,
        *,
        columns: Sequence[str],
        count_span: tuple[int, int],
        name_ends: Sequence[int],
        list_place: int | None,
        unit_nm: float,
        declaration: str,
    ) -> None:
        """Prepare a table without rows.

        Args:
            document: The file.
            columns: Names of the columns.
            count_span: Place of the number of columns.
            name_ends: Offset after each column's declaration.
            list_place: Index of the column of the image list, or None.
            unit_nm: Unit of lengths, nanometres.
            declaration: Text that declares a column after another, with `{name}` and `{kind}`.

        Raises:
            KlarfError: There are too many columns, or none for the id of a defect.
        """
        upper = [name.upper() for name in columns]
        at = count_span[0]
        if len(upper) > document.limits.columns:
            most = f"at most {document.limits.columns}"
            raise document.error(at, f"{len(upper)} columns", most)
        if ID not in upper:
            raise document.error(at, f"the columns {' '.join(columns)}", f"a column {ID}")
        if len(set(upper)) < len(upper):
            twice = next(name for name in upper if upper.count(name) > 1)
            raise document.error(at, f"the column {twice} twice", "columns of different names")
        self.columns = tuple(columns)
        self.groups: list[Group] = []
        self.rows = RowOffsets()
        self._document = document
        self._count_span = count_span
        self._name_ends = name_ends
        self._list_place = list_place
        self._unit_nm = unit_nm
        self._declaration = declaration

    @cached_property
    def _decoder(self) -> DefectDecoder:
        return DefectDecoder(self.columns, unit_nm=self._unit_nm)

    def add_group(self, group: Group) -> None:
        """Start a group; groups without rows are dropped."""
        if self.groups and self.groups[-1].first_row == group.first_row:
            self.groups.pop()
        self.groups.append(group)

    def check(self) -> None:
        """Read the values of the rows that are not known to be valid.

        Raises:
            KlarfError: A value is malformed.
        """
        for _ in self._defects(0, self.rows.unchecked):
            pass

    def defects(self, first_row: int) -> Iterator[Defect]:
        """Read the defects.

        Args:
            first_row: Index of the first row in the file.

        Raises:
            KlarfError: A value is malformed.
        """
        return self._defects(first_row, range(len(self.rows)))

    def _defects(self, first_row: int, indices: Sequence[int]) -> Iterator[Defect]:
        fields = self._decoder.fields
        for index, group, content in self._rows(indices):
            row = group.reader.row(content)
            try:
                images = group.reader.images(row, group.image_file)
                yield Defect(first_row + index, group.wafer, images, *fields(row.values))
            except ValueError as error:
                found, _, expected = str(error).partition("; expected ")
                raise self._document.error(self.rows.starts[index], found, expected) from None

    def column(self, name: str) -> Iterator[bytes]:
        """Return the values of one column as written.

        Raises:
            KeyError: The column does not exist.
        """
        place = self.place(name)
        if place is None:
            raise KeyError(name)
        for _, group, content in self._rows(range(len(self.rows))):
            yield group.reader.row(content).values[place]

    def place(self, name: str) -> int | None:
        """Return the index of a column, or None."""
        upper = [column.upper() for column in self.columns]
        return upper.index(name.upper()) if name.upper() in upper else None

    def edits(
        self, columns: Sequence[NewColumn], values: Iterator[Sequence[bytes]]
    ) -> Iterator[Edit]:
        """Return the edits that write columns.

        Args:
            columns: Columns to write.
            values: For each row the value of each column.

        Raises:
            ValueError: The values end before the rows do.
        """
        old = [self.place(column.name) for column in columns]
        new = [column for column, place in zip(columns, old, strict=True) if place is None]
        before = self._first_list_column
        if new:
            start, end = self._count_span
            yield Edit(start, end, b"%d" % (len(self.columns) + len(new)))
            place = self._name_ends[before - 1]
            declarations = "".join(self._declaration.format(**column._asdict()) for column in new)
            yield Edit(place, place, declarations.encode())
        first_list = len(self.columns) if self._list_place is None else self._list_place
        # Words before the image list are columns; after it, the row itself says where they are.
        is_simple = 0 < before <= first_list and all(place < first_list for place in old if place)
        plain = range(first_list)
        text = self._document.content
        starts = self.rows.starts
        for index, group, content in self._rows(range(len(self.rows))):
            written = next(values, None)
            if written is None:
                raise ValueError(f"values of {index} rows; expected {len(self.rows)}")
            word = group.reader.word
            start = starts[index]
            places, num_words = plain, first_list
            if not is_simple:
                row = group.reader.row(content)
                places, num_words = row.places, row.num_words
            added: list[bytes] = []
            for place, value in zip(old, written, strict=True):
                if place is None:
                    added.append(value)
                else:
                    yield Edit(*word(text, start, places[place]), value)
            if added:
                last = places[before] - 1 if before < len(places) else num_words - 1
                _, end = word(text, start, last)
                yield Edit(end, end, b" " + b" ".join(added))

    @property
    def _first_list_column(self) -> int:
        """Index before which new columns go: the image list stays last, after its count."""
        place = self._list_place
        if place is None or place == 0:
            return len(self.columns)
        if place > 1 and self.columns[place - 1].upper() == "IMAGECOUNT":
            return place - 1
        return place

    def _rows(self, indices: Sequence[int]) -> Iterator[tuple[int, Group, bytes]]:
        """Return rows with their groups.

        Args:
            indices: Indices of the rows, in order.
        """
        if not indices:
            return
        content = self._document.content
        starts, ends = self.rows.starts, self.rows.ends
        # A list of 1.2 without rows has no group.
        limits = [*(group.first_row for group in self.groups[1:]), len(starts)][: len(self.groups)]
        at = 0
        for group, limit in zip(self.groups, limits, strict=True):
            end = bisect_left(indices, limit, at)
            for index in indices[at:end]:
                yield index, group, content[starts[index] : ends[index]]
            at = end
