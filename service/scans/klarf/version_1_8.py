"""KLARF 1.8: records within records, `Record Name "id" { … }`, with fields and lists."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from service.scans.klarf.document import Document, decoded
from service.scans.klarf.rows_1_8 import VALUE, Rows18
from service.scans.klarf.table import DefectTable, Group, RowOffsets
from service.scans.klarf.values import STRING, integer, text
from service.scans.klarf.wafers import Wafer, is_fact, read_fact

VERSION = "1.8"
UNIT_NM = 1.0
"""Unit of lengths: nanometres."""

_BETWEEN = re.compile(rb"(?:\s++|(?:#|//)[^\r\n]*+)*+")
_RECORD = re.compile(rb"record\s++(\w++)(?:\s*+(%b|[^\s{}\";]++))?\s*+\{" % STRING, re.IGNORECASE)
_FIELD = re.compile(rb"field\s++(\w++)\s++(\d++)\s*+\{((?:[^\"{}]++|%b)*+)\}" % STRING, re.I)
_LIST = re.compile(rb"list\s++(\w++)\s*+\{\s*+columns\s++(\d++)\s*+\{([^{}\";]*+)\}", re.I)
_DATA = re.compile(rb"\s*+data\s++(\d++)\s*+\{", re.IGNORECASE)
_CLOSE = re.compile(rb"\s*+\}")
_END = re.compile(rb"endoffile\s*+;", re.IGNORECASE)
_COLUMN = re.compile(rb"\s*+(\w++)\s++([^\s,]++)\s*+")
_ONE_VALUE = re.compile(rb"\s*+(%b)\s*+" % VALUE)


class _Open(NamedTuple):
    """A record that is not closed yet.

    Attributes:
        name: Name in lower case.
        start: Offset.
        facts: Facts of its fields, with its own id.
        tables: Defect lists in it, which get their wafer when it is closed.
    """

    name: str
    start: int
    facts: dict[str, Any]
    tables: list[tuple[DefectTable, Rows18]]


class Reader18:
    """Reads the records of a file."""

    def __init__(self, document: Document) -> None:
        """Read all records.

        Raises:
            KlarfError: The file is malformed.
        """
        self.version = VERSION
        self.tables: list[DefectTable] = []
        self.wafers: list[Wafer] = []
        self._document = document
        self._classes: dict[int, str] = {}
        self._open: list[_Open] = []
        # Facts and lists of closed wafers; a lot may state its fields after its wafers.
        self._closed: list[_Open] = []
        self._num_defects = 0
        self._read()

    def _read(self) -> None:
        document = self._document
        content = document.content
        at = self._skip(document.start)
        at = self._open_record(at, is_first=True)
        while self._open:
            at = self._skip(at)
            # One letter says which kind of statement follows.
            kind = content[at : at + 1].lower()
            if kind == b"}":
                self._close_record()
                at += 1
            elif kind == b"r":
                at = self._open_record(at)
            elif kind == b"f":
                at = self._read_field(at)
            elif kind == b"l":
                at = self._read_list(at)
            else:
                last = self._open[-1]
                wanted = f"Record, Field, List or the }} of the record of {self._line(last)}"
                raise document.error(at, document.shown(at), wanted)
        if not self.wafers:
            self.wafers.append(Wafer(classes=self._classes))
        at = self._skip(at)
        end = _END.match(content, at)
        if end is None:
            raise document.error(at, document.shown(at), "EndOfFile;")
        at = self._skip(end.end())
        if content[at:].strip(b"\x1a"):
            raise document.error(at, document.shown(at), "nothing after EndOfFile")

    def _line(self, record: _Open) -> str:
        return f"line {self._document.line(record.start)}"

    def _skip(self, at: int) -> int:
        found = _BETWEEN.match(self._document.content, at)
        return at if found is None else found.end()

    def _open_record(self, at: int, *, is_first: bool = False) -> int:
        document = self._document
        found = _RECORD.match(document.content, at)
        if found is None:
            wanted = 'Record FileRecord "1.8" {' if is_first else 'Record Name "id" {'
            raise document.error(at, document.shown(at), wanted)
        name = decoded(found.group(1)).lower()
        label = None if found.group(2) is None else text(found.group(2))
        if is_first and (name != "filerecord" or label != VERSION):
            raise document.error(at, document.shown(at), 'Record FileRecord "1.8" {')
        if len(self._open) > document.limits.depth:
            most = f"at most {document.limits.depth}"
            raise document.error(at, f"{len(self._open)} records around a record", most)
        facts: dict[str, Any] = {}
        if label is not None and name in {"lotrecord", "waferrecord"}:
            facts[name.removesuffix("record")] = label
        self._open.append(_Open(name, at, facts, []))
        return found.end()

    def _close_record(self) -> None:
        record = self._open.pop()
        if self._open and record.name not in {"waferrecord", "lotrecord"}:
            # Lists of other records within a wafer belong to it.
            self._open[-1].tables.extend(record.tables)
            return
        if record.name == "waferrecord" or record.tables:
            self._closed.append(record)
            num_wafers = len(self.wafers) + len(self._closed)
            most = self._document.limits.wafers
            self._document.check_number(record.start, num_wafers, most=most, what="wafers")
        if record.name == "lotrecord" or not self._open:
            self._finish({**self._facts_around(), **record.facts})

    def _facts_around(self) -> dict[str, Any]:
        return {name: value for record in self._open for name, value in record.facts.items()}

    def _finish(self, around: dict[str, Any]) -> None:
        """Give the lists of closed wafers their wafer, now that all fields around are known."""
        for record in self._closed:
            wafer = Wafer(**{**around, **record.facts}, classes=self._classes)
            self.wafers.append(wafer)
            for table, reader in record.tables:
                table.add_group(Group(0, wafer, "", reader))
        self._closed.clear()

    def _read_field(self, at: int) -> int:
        document = self._document
        found = _FIELD.match(document.content, at)
        if found is None:
            raise document.error(at, document.shown(at), "Field Name 1 {value}")
        most = document.limits.record_bytes
        document.check_length(*found.span(3), most=most, what="a field")
        name, count = found.group(1), found.group(2)
        values = self._values(at, found.group(3))
        if len(values) != int(count[:9]):
            shown = f"Field {decoded(name)} with {len(values)} values"
            raise document.error(at, shown, decoded(count))
        if is_fact(name):
            attribute, value = read_fact(document, name, values, at, unit_nm=UNIT_NM)
            if attribute not in {"lot", "wafer"}:
                self._open[-1].facts[attribute] = value
        return found.end()

    def _values(self, at: int, body: bytes) -> list[bytes]:
        """Cut the values of a field, which commas part."""
        values: list[bytes] = []
        place = 0
        while place < len(body):
            value = _ONE_VALUE.match(body, place)
            if value is None:
                if not values and not body.strip():
                    return []
                raise self._document.error(at, self._document.shown(at), "values between commas")
            values.append(value.group(1))
            place = value.end()
            if place < len(body):
                if body[place : place + 1] != b"," or place + 1 == len(body):
                    shown = self._document.shown(at)
                    raise self._document.error(at, shown, "values between commas")
                place += 1
        return values

    def _read_list(self, at: int) -> int:
        document = self._document
        content = document.content
        head = _LIST.match(content, at)
        if head is None:
            raise document.error(at, document.shown(at), "List Name { Columns 1 { type NAME } …")
        name = decoded(head.group(1))
        kinds, names, ends = self._columns(head)
        is_defects = name.lower() == "defectlist"
        data = _DATA.match(content, head.end())
        if data is None:
            # A list without data may end after its columns.
            close = self._closing(head.end(), f"Data or the }} of List {name}")
            if not is_defects:
                return close
            rows_at, count = None, 0
        else:
            rows_at, count, close = data.end(), int(data.group(1)[:18]), 0
        reader = Rows18(kinds, names)
        rows = RowOffsets()
        if rows_at is not None:
            most = document.limits.defects
            after = reader.read(document, rows_at, most=most, rows=rows)
            end = self._closing(after, "a row with its ;, or the } of Data")
            if len(rows) != count:
                raise document.error(rows_at - 1, f"Data {count} with {len(rows)} rows", "equal")
            close = self._closing(end, f"the }} of List {name}")
        if name.lower() == "classlookuplist":
            self._read_classes(names, reader, rows)
        if not is_defects:
            return close
        table = DefectTable(
            document,
            columns=names,
            count_span=head.span(2),
            name_ends=ends,
            list_place=reader.list_place,
            unit_nm=UNIT_NM,
            declaration=", {kind} {name}",
        )
        table.rows = rows
        self._num_defects += len(rows)
        limits = document.limits
        document.check_number(at, self._num_defects, most=limits.defects, what="defects")
        self.tables.append(table)
        document.check_number(at, len(self.tables), most=limits.wafers, what="defect lists")
        self._open[-1].tables.append((table, reader))
        return close

    def _closing(self, at: int, wanted: str) -> int:
        found = _CLOSE.match(self._document.content, at)
        if found is None:
            place = self._skip(at)
            raise self._document.error(place, self._document.shown(place), wanted)
        return found.end()

    def _columns(self, head: re.Match[bytes]) -> tuple[list[str], list[str], list[int]]:
        """Return types and names of the columns, and the offset after each."""
        document = self._document
        kinds: list[str] = []
        names: list[str] = []
        ends: list[int] = []
        at = head.start(3)
        most = document.limits.record_bytes
        document.check_length(*head.span(3), most=most, what="the columns")
        if not head.group(3).strip():
            raise document.error(at, "no columns", "at least one")
        for part in head.group(3).split(b","):
            found = _COLUMN.fullmatch(part)
            if found is None:
                raise document.error(at, f"the column {decoded(part.strip())!r}", "type NAME")
            kinds.append(decoded(found.group(1)))
            names.append(decoded(found.group(2)))
            ends.append(at + found.end(2))
            at += len(part) + 1
        count = decoded(head.group(2))
        if not count.isdigit() or len(names) != int(count[:9]):
            raise document.error(head.start(2), f"Columns {count} with {len(names)} names", "equal")
        return kinds, names, ends

    def _read_classes(self, names: Sequence[str], reader: Rows18, rows: RowOffsets) -> None:
        upper = [name.upper() for name in names]
        if not {"CLASSNUMBER", "CLASSNAME"} <= set(upper):
            return
        number, label = upper.index("CLASSNUMBER"), upper.index("CLASSNAME")
        for start, end in zip(rows.starts, rows.ends, strict=True):
            values = reader.row(self._document.content[start:end]).values
            try:
                self._classes[integer(values[number])] = text(values[label])
            except ValueError as error:
                found, _, expected = str(error).partition("; expected ")
                raise self._document.error(start, f"a class {found}", expected) from None
            most = self._document.limits.wafers
            self._document.check_number(start, len(self._classes), most=most, what="classes")
