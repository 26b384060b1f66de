"""Rows that one pattern recognises are read like all others: same defects, copy and errors."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.scans.klarf import rows_1_2, rows_1_8
from service.scans.klarf.errors import KlarfError
from service.scans.klarf.klarf import read_klarf
from service.scans.klarf.table import NewColumn
from tests.service.scans.klarf.samples import KLARF_1_2, KLARF_1_8, small_1_2, small_1_8

NEVER = re.compile(rb"(?!)(.)")
NEW = [NewColumn("REVIEWED", "int32"), NewColumn("TEST", "float")]
COLUMNS_1_2 = "7 DEFECTID XREL XINDEX TEST IMAGECOUNT IMAGELIST NOTE"
COLUMNS_1_8 = "5 { int32 DEFECTID, int32 XREL, string NOTE, int32 TEST, ImageList IMAGEINFO }"
# Words that differ in what a column, a pattern, or Python makes of them.
WORDS = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "3",
        "-1",
        "+7",
        "00",
        "1.5",
        ".5",
        "5.",
        "1e3",
        "1E+004",
        "1e99",
        "1e100",
        "1e999",
        "nan",
        "inf",
        "1_0",
        "NA",
        "x",
        '6"',
        '"a b"',
        '""',
        "a,b",
        19 * "1",
        "Foo",
        "Images",
        "N",
        "{",
        "}",
        ",",
        "#",
        "\u00b2",
    ]
)
IMAGES = st.sampled_from(
    ["N", 'Images 1 { "a.jpg" "JPG" 1 "Patch" }', 'Image 1{"a" "b" 1 "c"}', "Images 0 {}", "",
     'Images 2 { "a" "JPG" 1 "P", "b" "JPG" 2 "R" }', 'Images 1 { "a" "JPG" x "P" }', "Foo 1 { 2 }"]
)  # fmt: skip
SPACES = st.sampled_from([" ", "  ", "\t", "\n", "\r\n", " \n ", ""])


@st.composite
def rows(draw: st.DrawFn, *, images: bool, end: str) -> str:
    """Rows of words, mostly of a valid row."""
    lines: list[str] = []
    for index in range(draw(st.integers(1, 3))):
        words = [str(index), "1.5", *(["n", "3"] if images else ["-2", "1", "1", "1 4 0", "n"])]
        for _ in range(draw(st.integers(0, 2))):
            words[draw(st.integers(0, len(words) - 1))] = draw(WORDS)
        if images:
            words.append(draw(IMAGES))
        spaces = [draw(SPACES) if draw(st.booleans()) else " " for _ in words]
        lines.append("".join(f"{space}{word}" for space, word in zip(spaces, words, strict=True)))
    return end.join(lines) + (end if images else "")


def outcome(content: bytes) -> object:
    """What reading and copying gives, or the error."""
    try:
        klarf = read_klarf(content)
    except KlarfError as error:
        return str(error)
    copy = klarf.with_columns(NEW, ([row, 0.5] for row in range(klarf.num_defects)))
    return klarf.version, list(klarf.defects()), copy


@pytest.fixture(autouse=True)
def cleared() -> Iterator[None]:
    """Readers are kept by their columns."""
    rows_1_2._readers.cache_clear()
    yield
    rows_1_2._readers.cache_clear()


def check(content: bytes) -> None:
    """Compare with a reader that recognises no row."""
    found = outcome(content)
    with pytest.MonkeyPatch.context() as patch:
        for module in (rows_1_2, rows_1_8):
            patch.setattr(module, "_plain_row", lambda *_: NEVER)
            patch.setattr(module, "_after_plain", lambda _: NEVER)
        rows_1_2._readers.cache_clear()
        expected = outcome(content)
    rows_1_2._readers.cache_clear()
    assert expected == found


@pytest.mark.parametrize("content", [KLARF_1_2, KLARF_1_8])
def test_samples(content: str) -> None:
    """Files of tools."""
    check(content.encode())


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows(images=False, end="\n"))
def test_1_2(text: str) -> None:
    """Wrapped rows, strings, counts that do not fit."""
    check(small_1_2(text, COLUMNS_1_2))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows(images=True, end=";\n"))
def test_1_8(text: str) -> None:
    """Image lists of all forms, and words that look like one."""
    check(small_1_8(text, COLUMNS_1_8, text.count(";\n")))
