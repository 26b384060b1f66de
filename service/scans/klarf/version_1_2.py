"""KLARF 1.2 (and 1.1, which has the same form): records `Name value …;` one after another."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from service.scans.klarf.document import Document, decoded
from service.scans.klarf.errors import KlarfError
from service.scans.klarf.rows_1_2 import WORDS, read_rows, split_words
from service.scans.klarf.table import DefectTable, Group
from service.scans.klarf.values import integer, text
from service.scans.klarf.wafers import Wafer, is_fact, read_fact

VERSIONS: dict[tuple[bytes, ...], str] = {(b"1", b"1"): "1.1", (b"1", b"2"): "1.2"}
UNIT_NM = 1000.0
"""Unit of lengths: micrometres."""

_NAME = re.compile(rb"[A-Za-z_]\w*+(?=[\s;])")
# Space, and lines of comments, between records.
_BETWEEN = re.compile(rb"(?:\s++|(?:#|//)[^\r\n]*+)*+")
# A quote within a word is a character like any other (6").
_BODY = re.compile(rb'(?:[^";]++|(?<=\s)"[^"\r\n]*+"|(?<!\s)")*+')
_RECORD = re.compile(rb"%b(%b)%b;" % (_BETWEEN.pattern, _NAME.pattern, _BODY.pattern))
_LINE_START = re.compile(rb"[\r\n][ \t]*+([A-Z]\w*+)(?=[\s;])")

# Records whose first value is the number of their rows, and values of a row.
_COUNTED = {b"classlookup": 2, b"sampletestplan": 2, b"removeddielist": 2}
# A line that starts with one of these, within another record, shows that its `;` is missing.
_KNOWN = frozenset(
    b"FileVersion FileTimestamp TiffSpec TiffFileName InspectionStationID SampleType "
    b"ResultTimestamp LotID SampleSize DeviceID SetupID StepID ResultsID "
    b"SampleOrientationMarkType OrientationMarkLocation DiePitch DieOrigin WaferID Slot "
    b"SampleCenterLocation ClassLookup OrientationInstructions CoordinatesMirrored InspectionTest "
    b"SampleTestPlan AreaPerTest DefectRecordSpec DefectList RemovedDieList ProcessEquipmentIDList "
    b"SummarySpec SummaryList LotStatus WaferStatus EndOfFile".split()
)


class Record(NamedTuple):
    """A record.

    Attributes:
        name: Name in lower case.
        start: Offset of the name.
        body: Offset after the name.
        end: Offset of the `;`.
    """

    name: bytes
    start: int
    body: int
    end: int


def records(document: Document) -> Iterator[Record]:
    """Cut a file into its records, up to `EndOfFile`.

    Raises:
        KlarfError: A record has no name or no end, or the file does not end with `EndOfFile`.
    """
    content = document.content
    at = document.start
    last = b""
    while last != b"endoffile":
        record = _RECORD.match(content, at)
        if record is None:
            raise _malformed(document, at)
        start, body = record.span(1)
        end = record.end() - 1
        for line in _LINE_START.finditer(content, body, end + 1):
            if line.group(1) in _KNOWN and not _has_names(record.group(1)):
                place, name = line.start(1), decoded(record.group(1))
                raise document.error(
                    place, document.shown(place), f"the ; of the record {name} before it"
                )
        last = record.group(1).lower()
        yield Record(last, start, body, end)
        at = end + 1
    at = _matched(_BETWEEN, content, at)
    if content[at:].strip(b"\x1a"):  # DOS marks the end of a text by Ctrl-Z
        raise document.error(at, document.shown(at), "nothing after EndOfFile")


def _has_names(name: bytes) -> bool:
    """Return whether the rows of a record may start with any name, as those of CustomWaferList."""
    return name not in _KNOWN and name.endswith(b"List")


def _malformed(document: Document, at: int) -> KlarfError:
    """Return the error of the record after an offset."""
    content = document.content
    at = _matched(_BETWEEN, content, at)
    name = _NAME.match(content, at)
    if name is None:
        wanted = "the name of a record" if at < len(content) else "a record EndOfFile"
        return document.error(at, document.shown(at), wanted)
    end = _matched(_BODY, content, name.end())
    if end < len(content):
        return document.error(end, document.shown(end), "a closing quote on the same line")
    return document.error(at, f"the record {decoded(name.group())} without an end", "a ;")


def _matched(pattern: re.Pattern[bytes], content: bytes, at: int) -> int:
    """Return the end of a match of a pattern that also matches nothing."""
    found = pattern.match(content, at)
    return at if found is None else found.end()


class Reader12:
    """Reads the records of a file in order; what a record says holds until it is said again."""

    def __init__(self, document: Document) -> None:
        """Read all records.

        Raises:
            KlarfError: The file is malformed.
        """
        self.version = ""
        self.tables: list[DefectTable] = []
        self._document = document
        self._facts: dict[str, Any] = {}
        self._classes: dict[int, str] = {}
        self._wafer: Wafer | None = None
        self._known: dict[Wafer, Wafer] = {}
        self._image_file = ""
        self._num_defects = 0
        for record in records(document):
            self._read(record)
        if not self._known:
            self._current_wafer(document.start)
        self.wafers = list(self._known)

    def _read(self, record: Record) -> None:
        name = record.name
        if not self.version:
            self._read_version(record)
        elif name == b"defectlist":
            self._read_defects(record)
        elif name == b"tifffilename":
            # A path may have spaces without being in quotes.
            body = self._document.content[record.body : record.end].strip()
            self._image_file = text(body)
        elif name == b"defectrecordspec":
            self._read_columns(record)
        elif name in _COUNTED:
            self._read_counted(record)
        else:
            self._read_fact(record)

    def _words(self, record: Record) -> list[bytes]:
        most = self._document.limits.record_bytes
        self._document.check_length(record.body, record.end, most=most, what="a record")
        return split_words(self._document.content[record.body : record.end])

    def _read_version(self, record: Record) -> None:
        document = self._document
        words = tuple(self._words(record))
        if record.name != b"fileversion" or words not in VERSIONS:
            shown = document.shown(record.start)
            raise document.error(record.start, shown, "FileVersion 1 2; (or 1 1)")
        self.version = VERSIONS[words]

    def _read_fact(self, record: Record) -> None:
        content = self._document.content
        name = content[record.start : record.body]
        if not is_fact(name):
            return
        fact = read_fact(self._document, name, self._words(record), record.start, unit_nm=UNIT_NM)
        attribute, value = fact
        if attribute == "wafer" and "wafer" in self._facts:
            self._facts.pop("slot", None)
        self._facts[attribute] = value
        self._wafer = None

    def _current_wafer(self, offset: int) -> Wafer:
        if self._wafer is None:
            wafer = Wafer(**self._facts, classes=self._classes)
            self._wafer = self._known.setdefault(wafer, wafer)
            most = self._document.limits.wafers
            self._document.check_number(offset, len(self._known), most=most, what="wafers")
        return self._wafer

    def _read_counted(self, record: Record) -> None:
        document = self._document
        name = decoded(document.content[record.start : record.body])
        words = self._words(record)
        width = _COUNTED[record.name]
        try:
            count = integer(words[0]) if words else -1
        except ValueError:
            count = -1
        if count < 0:
            shown = document.shown(record.body)
            raise document.error(record.start, f"{name} with {shown}", "the number of its rows")
        if record.name == b"classlookup" and len(words) - 1 == 3 * count:
            width = 3  # with a code after the name, as in 1.8
        if len(words) - 1 != count * width:
            raise document.error(
                record.start, f"{name} {count} with {len(words) - 1} values", str(count * width)
            )
        if record.name != b"classlookup":
            return
        for number, label in zip(words[1::width], words[2::width], strict=True):
            try:
                self._classes[integer(number)] = text(label)
            except ValueError as error:
                found, _, expected = str(error).partition("; expected ")
                raise document.error(record.start, f"a class {found}", expected) from None
        most = document.limits.wafers
        document.check_number(record.start, len(self._classes), most=most, what="classes")

    def _read_columns(self, record: Record) -> None:
        document = self._document
        most = document.limits.record_bytes
        document.check_length(record.body, record.end, most=most, what="DefectRecordSpec")
        words = list(WORDS.finditer(document.content, record.body, record.end))
        names = [decoded(word.group()) for word in words[1:]]
        try:
            count = integer(words[0].group()) if words else 0
        except ValueError:
            count = 0
        if not words or len(names) != count:
            found = f"DefectRecordSpec with {document.shown(record.body)}: {len(names)} names"
            raise document.error(record.start, found, "the number of columns, then as many names")
        upper = [name.upper() for name in names]
        num_lists = len(self.tables) + 1
        document.check_number(
            record.start, num_lists, most=document.limits.wafers, what="lists of columns"
        )
        self.tables.append(
            DefectTable(
                document,
                columns=names,
                count_span=words[0].span(),
                name_ends=[word.end() for word in words[1:]],
                list_place=upper.index("IMAGELIST") if "IMAGELIST" in upper else None,
                unit_nm=UNIT_NM,
                declaration=" {name}",
            )
        )

    def _read_defects(self, record: Record) -> None:
        document = self._document
        if not self.tables:
            raise document.error(record.start, "DefectList", "DefectRecordSpec before it")
        table = self.tables[-1]
        first_row = len(table.rows)
        reader = read_rows(document, table.columns, (record.body, record.end), table.rows)
        num_new = len(table.rows) - first_row
        self._num_defects += num_new
        most = document.limits.defects
        document.check_number(record.start, self._num_defects, most=most, what="defects")
        if num_new:
            table.add_group(
                Group(first_row, self._current_wafer(record.start), self._image_file, reader)
            )
