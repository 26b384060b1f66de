"""Columns that are written to the defects: their place, their values, and what is rejected."""

import math

import pytest

from service.scans.klarf.klarf import read_klarf
from service.scans.klarf.table import NewColumn
from tests.service.scans.klarf.samples import KLARF_1_2, KLARF_1_8, small_1_2, small_1_8

STATUS = NewColumn("STATUS", "int32")
NOTE = NewColumn("NOTE", "string")


def test_1_2_in_full() -> None:
    """New columns stand before the images, also in rows that are wrapped there."""
    klarf = read_klarf(KLARF_1_2.encode())

    written = klarf.with_columns([STATUS, NOTE], [[1, "a"], [2, "b"], [3, "c"], [None, None]])

    expected = (
        KLARF_1_2.replace("DefectRecordSpec 10", "DefectRecordSpec 12")
        .replace("CLASSNUMBER TEST\n", "CLASSNUMBER TEST STATUS NOTE\n")
        .replace(" -2 -1 .5 12 1 2 2", ' -2 -1 .5 12 1 1 "a" 2 2')
        .replace("7.80 0 1 0 0", '7.80 0 1 2 "b" 0 0')
        .replace("   12 1 1 1\n", '   12 1 3 "c" 1 1\n')
        .replace("14. 99 1 1 1 1 0", '14. 99 1 -1 "" 1 1 1 0')
    )
    assert expected.encode() == written


def test_1_8_in_full() -> None:
    """An existing column is overwritten where there is one, and added to the other list."""
    klarf = read_klarf(KLARF_1_8.encode())

    written = klarf.with_columns(
        [STATUS, NOTE], [[1, "one"], [2, "two"], [3, "three"], [4, "four"], [5, "five"]]
    )

    expected = (
        KLARF_1_8.replace("Columns 9", "Columns 10")
        .replace("string NOTE,", "string NOTE, int32 STATUS,")
        .replace('"a;b"', '"one" 1')
        .replace('7800 0 ""', '7800 0 "two" 2')
        .replace("12 x", '12 "three" 3')
        .replace('"no images"', '"four" 4')
        .replace(
            "Columns 1 { int32 DEFECTID }",
            "Columns 3 { int32 DEFECTID, int32 STATUS, string NOTE }",
        )
        .replace("{ 7; }", '{ 7 5 "five"; }')
    )
    assert expected.encode() == written


def test_lists_without_rows_get_the_columns_too() -> None:
    """So that all files of a lot have the same columns."""
    assert b"3 DEFECTID XREL STATUS;" in read_klarf(small_1_2("")).with_columns([STATUS], [])
    assert b"3 { int32 DEFECTID, int32 XREL, int32 STATUS }" in read_klarf(
        small_1_8("", count=0)
    ).with_columns([STATUS], [])


def test_a_column_after_the_images_is_overwritten() -> None:
    """Its place in the row depends on the number of images."""
    klarf = read_klarf(small_1_2("1 2 7 0 8 0 55\n2 0 66", "3 DEFECTID IMAGELIST STATUS"))

    written = klarf.with_columns([STATUS], [[1], [2]])

    assert small_1_2("1 2 7 0 8 0 1\n2 0 2", "3 DEFECTID IMAGELIST STATUS") == written


def test_missing_numbers_are_minus_one() -> None:
    """Readers of 1.2 expect a number in every column but the images."""
    klarf = read_klarf(small_1_2("1 2"))

    written = klarf.with_columns([NewColumn("F", "float"), STATUS], [[math.nan, None]])

    assert [b"-1"] == list(read_klarf(written).column("F"))


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ([NewColumn("lower", "float")], [[1]], "'lower'; expected capitals"),
        ([NewColumn("A", "double")], [[1]], "kind 'double'; expected"),
        ([STATUS, STATUS], [[1, 1]], "expected different names"),
        ([STATUS], [], "values of 0 rows; expected 1"),
        ([STATUS], [[1], [2]], "more rows of values; expected 1"),
        ([STATUS], [["x"]], "STATUS is 'x'; expected a finite number"),
        ([NewColumn("F", "float")], [[math.inf]], "F is inf; expected a finite number"),
        ([NOTE], [['a"b']], "expected a text without quotes"),
        ([NOTE], [["a\nb"]], "expected a text without quotes"),
    ],
)
def test_wrong_columns_are_rejected(
    columns: list[NewColumn], rows: list[list[object]], message: str
) -> None:
    """The message names the column and the value."""
    with pytest.raises(ValueError, match=message):
        read_klarf(small_1_2("1 2")).with_columns(columns, rows)  # type: ignore[arg-type]
