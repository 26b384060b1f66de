"""Reads a KLARF file of either version through one interface, and writes columns into a copy."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from service.scans.klarf.defects import Defect
from service.scans.klarf.document import Document, Edit, Limits
from service.scans.klarf.errors import KlarfError
from service.scans.klarf.table import DefectTable, NewColumn
from service.scans.klarf.values import quoted
from service.scans.klarf.version_1_2 import Reader12
from service.scans.klarf.version_1_8 import Reader18
from service.scans.klarf.wafers import Wafer

MISSING_NUMBER = b"-1"
"""Text of a missing value in a column of numbers; old readers of 1.2 know numbers only."""

_COLUMN_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_KINDS = ("int32", "float", "string")
_STARTS_1_8 = re.compile(rb"(?:\s++|(?:#|//)[^\r\n]*+)*+record\s", re.IGNORECASE)

Value = int | float | str | None


class Klarf:
    """A KLARF file.

    Attributes:
        version: `1.1`, `1.2` or `1.8`.
        wafers: Wafers in the order of the file.
    """

    def __init__(self, content: bytes, limits: Limits) -> None:
        """Read a file; see `read_klarf`."""
        document = Document(content, limits)
        is_1_8 = _STARTS_1_8.match(content, document.start) is not None
        reader = Reader18(document) if is_1_8 else Reader12(document)
        self.version: str = reader.version
        self.wafers: Sequence[Wafer] = tuple(reader.wafers)
        self._document = document
        self._tables: Sequence[DefectTable] = reader.tables
        self.num_defects = sum(len(table.rows) for table in reader.tables)
        # Every value is read once, so that a malformed one is reported now.
        for table in self._tables:
            table.check()

    def defects(self) -> Iterator[Defect]:
        """Return the defects in the order of the file."""
        first_row = 0
        for table in self._tables:
            yield from table.defects(first_row)
            first_row += len(table.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the first defect list."""
        return self._tables[0].columns if self._tables else ()

    def column(self, name: str) -> Iterator[bytes]:
        """Return the values of one column of every defect as written.

        Raises:
            KeyError: A defect list has no such column.
        """
        for table in self._tables:
            yield from table.column(name)

    def to_bytes(self) -> bytes:
        """Return the file as it was read."""
        return self._document.content

    def with_columns(self, columns: Sequence[NewColumn], rows: Iterable[Sequence[Value]]) -> bytes:
        """Return a copy of the file with columns written to every defect.

        New columns stand after the others, but before the images. A column that exists already is
        overwritten. No other byte changes.

        Args:
            columns: Columns to write.
            rows: For each defect, in the order of the file, the value of each column; None or NaN
                is written as -1, in a column of texts as an empty text.

        Raises:
            ValueError: A name, kind or value is invalid, or there are not as many rows as defects.
        """
        names = [column.name for column in columns]
        if len(set(names)) < len(names):
            raise ValueError(f"columns {names}; expected different names")
        for column in columns:
            if _COLUMN_NAME.fullmatch(column.name) is None:
                raise ValueError(f"column {column.name!r}; expected capitals, digits and _")
            if column.kind not in _KINDS:
                raise ValueError(f"column {column.name}: kind {column.kind!r}; expected {_KINDS}")
        writers = [(column.name, column.kind) for column in columns]
        values = (
            [_written(name, kind, value) for (name, kind), value in zip(writers, row, strict=True)]
            for row in rows
        )
        edits: list[Edit] = []
        for table in self._tables:
            edits += table.edits(columns, values)
        if next(values, None) is not None:
            raise ValueError(f"more rows of values; expected {self.num_defects}")
        return self._document.edited(edits)


def _written(name: str, kind: str, value: Value) -> bytes:
    if kind == "string":
        return quoted("" if value is None else str(value))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING_NUMBER
    if isinstance(value, str) or math.isinf(value):
        raise ValueError(f"{name} is {value!r}; expected a finite number")
    return b"%d" % value if kind == "int32" else b"%.6g" % value


def read_klarf(source: bytes | Path, limits: Limits | None = None) -> Klarf:
    """Read a KLARF file of version 1.1, 1.2 or 1.8.

    Args:
        source: Content or path of the file.
        limits: Limits of the file.

    Raises:
        KlarfError: The file is malformed; the message names the line, the malformed part, and what
            was expected.
        OSError: The file cannot be read.
    """
    limits = limits or Limits()
    if isinstance(source, Path):
        size_bytes = source.stat().st_size
        if size_bytes > limits.file_bytes:
            found, expected = f"{size_bytes} bytes", f"at most {limits.file_bytes}"
            raise KlarfError(line=1, found=found, expected=expected)
        source = source.read_bytes()
    return Klarf(source, limits)
