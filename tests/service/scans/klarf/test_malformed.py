"""Malformed files are rejected: the line, what was found there, and what was expected."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scans.klarf.document import Limits
from service.scans.klarf.errors import KlarfError
from service.scans.klarf.klarf import read_klarf
from tests.service.scans.klarf.samples import KLARF_1_2, KLARF_1_8, small_1_2, small_1_8

IMAGES = "3 DEFECTID IMAGECOUNT IMAGELIST"
IMAGES_18 = "2 { int32 DEFECTID, ImageList I }"
MALFORMED: dict[str, tuple[bytes, int, str, str]] = {
    "empty": (b"", 1, "the end of the file", "a record EndOfFile"),
    "UTF-16": ("FileVersion".encode("utf-16"), 1, "UTF-16", "ASCII, Latin-1 or UTF-8"),
    "zero byte": (b"FileVersion 1 2;\n\0", 2, "a zero byte", "text"),
    "another file": (b"P5 240 240\n255\n", 1, "P5", "a ;"),
    "version": (b"FileVersion 1 3;\n", 1, "FileVersion 1 3;", "FileVersion 1 2;"),
    "first record": (b'LotID "L";\n', 1, "LotID", "FileVersion 1 2;"),
    "no end": (b'FileVersion 1 2;\nLotID "L";\n', 3, "the end of the file", "EndOfFile"),
    "cut off": (small_1_2("1 2\n2 3")[:-18], 3, "DefectList without an end", "a ;"),
    "after the end": (small_1_2("1 2") + b"\nLotID 1;", 7, "LotID 1;", "nothing after EndOfFile"),
    "open quote": (b'FileVersion 1 2;\nLotID "L;\nSlot 1;\n', 2, "\"L;", "a closing quote"),
    "no name": (b"FileVersion 1 2;\n;\nEndOfFile;", 2, "';'", "the name of a record"),
    "row after the list": (
        small_1_2("1 2;\n2 3"), 5, "2 3;", "the name of a record"
    ),
    "no semicolon": (
        b'FileVersion 1 2;\nOdd "L"\nDeviceID "D";\nEndOfFile;', 3, "DeviceID",
        "the ; of the record Odd"
    ),
    "no semicolon after the defects": (
        small_1_2("1 3").replace(b"1 3;", b"1 3"), 5, "EndOfFile", "the ; of the record DefectList"
    ),
    "defects without columns": (
        b"FileVersion 1 2;\nDefectList\n1 2;\nEndOfFile;", 2, "DefectList",
        "DefectRecordSpec before"
    ),
    "number of columns": (small_1_2("1 2", "3 DEFECTID XREL"), 2, "2 names", "number of columns"),
    "no number of columns": (small_1_2("1 2", "DEFECTID XREL"), 2, "1 names", "number of columns"),
    "no id": (small_1_2("1 2", "2 XREL YREL"), 2, "the columns XREL YREL", "a column DEFECTID"),
    "column twice": (small_1_2("1 2", "2 DEFECTID Defectid"), 2, "DEFECTID twice", "different"),
    "short row": (small_1_2("1 2\n3\n"), 5, "a defect of 1 values", "2"),
    "long row": (small_1_2("1 2\n3 4 5\n6 7"), 5, "a defect of 3 values", "2"),
    "two rows on a line": (small_1_2("1 2 3 4"), 4, "a defect of 4 values", "2"),
    "no number": (small_1_2("1 2\n2 x"), 5, "XREL 'x'", "a number"),
    "not finite": (small_1_2("1 nan"), 4, "XREL 'nan'", "a number"),
    "too large": (small_1_2("1 1e999"), 4, "XREL '1e999'", "a number"),
    "number of Python": (small_1_2("1_0 2"), 4, "DEFECTID '1_0'", "an integer"),
    "fraction": (small_1_2("1.5 2"), 4, "DEFECTID '1.5'", "an integer"),
    "missing id": (small_1_2("NA 2"), 4, "DEFECTID 'NA'", "an integer"),
    "too few images": (small_1_2("1 2 2 7 0\n", IMAGES), 4, "a defect of 5 values", "7"),
    "number of images": (small_1_2("1 x x", IMAGES), 4, "a number of images of 'x'", "an integer"),
    "negative images": (small_1_2("1 -1 -1", IMAGES), 4, "number of images of -1", "at least 0"),
    "image number": (small_1_2("1 1 1 x 0", IMAGES), 4, "'x'", "an integer"),
    "classes": (
        b'FileVersion 1 2;\nClassLookup 2\n 0 "a";\nEndOfFile;', 2, "ClassLookup 2 with 2 values",
        "4"
    ),
    "class number": (
        b'FileVersion 1 2;\nClassLookup 1\n x "a";\nEndOfFile;', 2, "a class 'x'", "an integer"
    ),
    "test plan": (
        b"FileVersion 1 2;\nSampleTestPlan\n;\nEndOfFile;", 2, "SampleTestPlan",
        "number of its rows"
    ),
    "die pitch": (b"FileVersion 1 2;\nDiePitch 1;\nEndOfFile;", 2, "DiePitch with 1 values", "2"),
    "die pitch text": (
        b"FileVersion 1 2;\r\nDiePitch 1 x;\r\nEndOfFile;", 2, "DiePitch 'x'", "a number"
    ),
    "slot": (b"FileVersion 1 2;\rSlot A;\rEndOfFile;", 2, "Slot 'A'", "an integer"),
    "1.8: version": (b'Record FileRecord "1.9"\n{\n}\nEndOfFile;', 1, "1.9", 'FileRecord "1.8"'),
    "1.8: not closed": (
        b'Record FileRecord "1.8"\n{\n', 3, "the end of the file", "} of the record of line 1"
    ),
    "1.8: closed twice": (b'Record FileRecord "1.8"\n{\n}\n}\nEndOfFile;', 4, "'}'", "EndOfFile;"),
    "1.8: no end": (b'Record FileRecord "1.8"\n{\n}\n', 4, "the end of the file", "EndOfFile;"),
    "1.8: after the end": (b'Record FileRecord "1.8" {}\nEndOfFile;\nx', 3, "'x'", "nothing after"),
    "1.8: unknown": (
        b'Record FileRecord "1.8"\n{\nTable x\n}', 3, "Table x", "Record, Field, List"
    ),
    "1.8: record": (b'Record FileRecord "1.8"\n{\nRecord\n}', 3, "Record", 'Record Name "id" {'),
    "1.8: field": (b'Record FileRecord "1.8"\n{\nField A {1}\n}', 3, "Field A {1}", "Field Name 1"),
    "1.8: field open": (
        b'Record FileRecord "1.8"\n{\nField A 1 {"x}\n}', 3, "Field A", "Field Name 1"
    ),
    "1.8: values": (
        b'Record FileRecord "1.8"\n{\nField A 2 {1}\n}', 3, "Field A with 1 values", "2"
    ),
    "1.8: no comma": (b'Record FileRecord "1.8"\n{\nField A 2 {1 2}\n}', 3, "Field A", "commas"),
    "1.8: comma": (b'Record FileRecord "1.8"\n{\nField A 1 {1,}\n}', 3, "Field A", "commas"),
    "1.8: list": (b'Record FileRecord "1.8"\n{\nList A\n{\n}\n}', 3, "List A", "Columns 1"),
    "1.8: columns": (small_1_8("1 2;", "3 { int32 DEFECTID, int32 XREL }"), 3, "2 names", "equal"),
    "1.8: column": (small_1_8("1 2;", "2 { int32 DEFECTID, XREL }"), 3, "'XREL'", "type NAME"),
    "1.8: no columns": (small_1_8("1 2;", "0 { }"), 3, "no columns", "at least one"),
    "1.8: no id": (small_1_8("1;", "1 { int32 XREL }"), 3, "XREL", "a column DEFECTID"),
    "1.8: number of rows": (small_1_8("1 2;\n3 4;"), 5, "Data 1 with 2 rows", "equal"),
    "1.8: short row": (small_1_8("1 2;\n3;", count=2), 7, "a row of 1 values", "2"),
    "1.8: no semicolon": (small_1_8("1 2\n3 4;", count=2), 6, "a row of 4 values", "2"),
    "1.8: last semicolon": (small_1_8("1 2;\n3 4", count=2), 7, "3 4", "a row with its ;"),
    "1.8: comma in a row": (small_1_8("1, 2;"), 6, "1, 2", "values between spaces"),
    "1.8: open quote": (small_1_8('1 "2;\n'), 6, '1 "2;', "a row with its ;"),
    "1.8: no number": (small_1_8("1 x;"), 6, "XREL 'x'", "a number"),
    "1.8: images": (small_1_8("1 x;", IMAGES_18), 6, "images 'x'", "N, or Images 1"),
    "1.8: number of images": (
        small_1_8('1 Images 2 { "a" "JPG" 1 "0" };', IMAGES_18), 6, "1 images", "2"
    ),
    "1.8: image": (
        small_1_8('1 Images 1 { "a" "JPG" 1 "0" 5 };', IMAGES_18), 6, "an image of 5 values", "file"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_the_line_is_named(name: str) -> None:
    """Each message says where, what was found, and what was expected."""
    content, line, found, expected = MALFORMED[name]

    with pytest.raises(KlarfError) as caught:
        read_klarf(content)

    error = caught.value
    assert line == error.line, error
    assert found in error.found, error
    assert expected in error.expected, error
    assert f"line {line}: found {error.found}; expected {error.expected}" == str(error)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([KLARF_1_2, KLARF_1_8]), st.data())
def test_damage_is_an_error_or_a_file(text: str, data: st.DataObject) -> None:
    """Cut, doubled or changed bytes are rejected as malformed, or read; nothing else happens."""
    content = text.encode()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    insert = data.draw(st.one_of(st.just(content[start:end] * 2), st.binary(max_size=4)))
    damaged = content[:start] + insert + content[end:]

    try:
        klarf = read_klarf(damaged)
    except KlarfError as error:
        assert 1 <= error.line <= damaged.count(b"\n") + damaged.count(b"\r") + 1
    else:
        assert damaged == klarf.to_bytes()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([b"", b"FileVersion 1 2;", b'Record FileRecord "1.8" {']), st.binary())
def test_any_bytes(start: bytes, rest: bytes) -> None:
    """Random bytes raise nothing but `KlarfError`."""
    with contextlib.suppress(KlarfError):
        read_klarf(start + rest)


def test_a_truncated_file_is_never_complete() -> None:
    """Every beginning of a file is rejected, except without its last line break."""
    for text in (KLARF_1_2, KLARF_1_8):
        content = text.encode()
        for length in range(0, len(content) - 1, 7):
            with pytest.raises(KlarfError):
                read_klarf(content[:length])
        assert read_klarf(content[:-1]).num_defects


@pytest.mark.parametrize(
    ("content", "limits", "message"),
    [
        (small_1_2("1 2"), Limits(file_bytes=20), "at most 20"),
        (small_1_2("1 2\n2 3"), Limits(defects=1), "2 defects; expected at most 1"),
        (small_1_8("1 2;\n3 4;", count=2), Limits(defects=1), "expected at most 1"),
        (small_1_2("1 2"), Limits(columns=1), "2 columns; expected at most 1"),
        (small_1_2("1 2\n2"), Limits(row_bytes=2), "a defect of 3 bytes; expected at most 2"),
        (small_1_2("1 999999 999999" + "\n1" * 99, IMAGES), Limits(row_bytes=50), "at most 50"),
        (small_1_8("1 2;"), Limits(row_bytes=2), "a row of 3 bytes; expected at most 2"),
        (b"FileVersion 1 2;\nLotID abcd;\nEndOfFile;", Limits(record_bytes=4), "a record of 5"),
        (small_1_2("1 2"), Limits(record_bytes=8), "DefectRecordSpec of 16 bytes"),
        (small_1_8("1 2;"), Limits(record_bytes=8), "the columns of 28 bytes"),
        (b'Record FileRecord "1.8" {\nField A 1 {"abcd"}', Limits(record_bytes=5), "a field of 6"),
        (KLARF_1_8.encode(), Limits(wafers=1), "expected at most 1"),
        (KLARF_1_2.encode(), Limits(wafers=1), "2 classes; expected at most 1"),
        (b'Record FileRecord "1.8" {' + b"Record A {" * 9, Limits(depth=8), "at most 8"),
        (b'Record FileRecord "1.8" {' + b"Record A {" * 100_000, Limits(), "at most 32"),
    ],
)
def test_limits(content: bytes, limits: Limits, message: str) -> None:
    """A file that exceeds a limit is rejected with the limit."""
    with pytest.raises(KlarfError, match=message):
        read_klarf(content, limits)


def test_a_long_file_is_not_read_into_memory(tmp_path: Path) -> None:
    """Its length is checked before."""
    path = tmp_path / "long.klarf"
    path.write_bytes(small_1_2("1 2"))

    with pytest.raises(KlarfError, match="at most 20"):
        read_klarf(path, Limits(file_bytes=20))
    assert 1 == read_klarf(path).num_defects
