"""Reading and writing changes no byte; writing columns changes no other byte."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scans.klarf.klarf import read_klarf
from service.scans.klarf.table import NewColumn
from tests.service.scans.klarf.samples import KLARF_1_2, KLARF_1_8, small_1_2, small_1_8

SPACE = st.text(" \t", min_size=1, max_size=3)
WORD = st.from_regex(r"[A-Za-z0-9_.:/+-]{1,8}", fullmatch=True)
INTEGER = st.integers(-999, 999).map(str)
FLOAT = st.floats(-1e6, 1e6).flatmap(
    lambda value: st.sampled_from(
        [f"{value:.3f}", f"{value:.6e}", f"{value:+.2E}", f"{value:.0f}."]
    )
)
STRING = st.text(
    st.characters(codec="utf-8", exclude_characters='"\r\n\0', exclude_categories=["Cs", "Cc"]),
    max_size=8,
).map(lambda text: f'"{text}"')
NEW_COLUMNS = (
    NewColumn("SEMSR_STATUS", "int32"),
    NewColumn("SEMSR_RESIDUAL", "float"),
    NewColumn("SEMSR_OUTPUT", "string"),
)


@st.composite
def files_1_2(draw: st.DrawFn) -> tuple[bytes, int]:
    """A file of 1.2 and the number of its defects."""
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    values = st.lists(st.one_of(WORD, INTEGER, FLOAT, STRING), min_size=1, max_size=4)

    def record() -> str:
        name = draw(st.from_regex(r"Odd[A-Za-z]{1,6}", fullmatch=True))
        return name + "".join(draw(SPACE) + value for value in draw(values)) + " ;" + end

    odd = [record() for _ in range(draw(st.integers(0, 3)))]
    extra = draw(st.lists(WORD, max_size=3, unique_by=str.upper))
    names = ["DEFECTID", "XREL", *(f"C{name.upper()}" for name in extra)]
    has_images = draw(st.booleans())
    columns = [*names, *(["IMAGECOUNT", "IMAGELIST"] if has_images else [])]
    count = draw(st.integers(0, 5))
    rows: list[str] = []
    for _ in range(count):
        row = [draw(INTEGER), draw(FLOAT), *(draw(st.one_of(FLOAT, STRING)) for _ in extra)]
        if has_images:
            images = draw(st.integers(0, 3))
            row += [str(images), str(images), *(draw(INTEGER) for _ in range(2 * images))]
        space = st.one_of(SPACE, st.just(f"{end}  ")) if draw(st.booleans()) else SPACE
        rows.append("".join(draw(space if at else SPACE) + word for at, word in enumerate(row)))
    text = (
        f"FileVersion 1 2;{end}{''.join(odd)}# comment;{end}"
        f"DefectRecordSpec {len(columns)} {' '.join(columns)};{end}"
        f"DefectList{end}{end.join(rows)};{end}EndOfFile;{draw(st.sampled_from(['', end]))}"
    )
    return text.encode(), count


@st.composite
def files_1_8(draw: st.DrawFn) -> tuple[bytes, int]:
    """A file of 1.8 and the number of its defects."""
    end = draw(st.sampled_from(["\n", "\r\n", " "]))
    value = st.one_of(INTEGER, FLOAT, STRING)
    fields = [
        f"Field Odd{at} {len(values)} {{{draw(SPACE).join(f'{v},' for v in values)[:-1]}}}{end}"
        for at, values in enumerate(
            draw(st.lists(st.lists(value, min_size=1, max_size=3), max_size=3))
        )
    ]
    extra = draw(st.integers(0, 2))
    has_images = draw(st.booleans())
    columns = ["int32 DEFECTID", "int32 XREL", *(f"float C{at}" for at in range(extra))]
    columns += ["ImageList IMAGEINFO"] if has_images else []
    count = draw(st.integers(0, 5))
    rows: list[str] = []
    for _ in range(count):
        row = [draw(INTEGER), draw(FLOAT), *(draw(value) for _ in range(extra))]
        if has_images:
            names = draw(st.lists(STRING, max_size=2))
            images = ", ".join(f'{name} "JPG" 1 "0"' for name in names)
            row.append(f"Images {len(names)} {{ {images} }}" if names else "N")
        rows.append(
            "".join(draw(SPACE) + word for word in row) + draw(st.sampled_from([";", " ;"]))
        )
    text = (
        f'Record FileRecord "1.8"{end}{{{end}Record LotRecord "L" {{{end}{"".join(fields)}'
        f'Record WaferRecord "W"{end}{{List DefectList {{ Columns {len(columns)} {{'
        f"{f', {end}'.join(columns)} }} Data {count} {{{end}{end.join(rows)}{end}}} }} }} }} }}"
        f"{end}EndOfFile;"
    )
    return text.encode(), count


FILES = st.one_of(files_1_2(), files_1_8())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("text", [KLARF_1_2, KLARF_1_8])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_nothing_changes(text: str, end: str, mark: bytes) -> None:
    """Comments, unknown records, spaces, numbers and line ends stay."""
    content = mark + text.replace("# a comment\n", "\n").replace("\n", end).encode()

    klarf = read_klarf(content)

    assert content == klarf.to_bytes()
    assert content == klarf.with_columns([], ([] for _ in range(klarf.num_defects)))


@pytest.mark.parametrize("content", [small_1_2("1 2"), small_1_8("1 2;")])
def test_latin_1_and_utf_8_stay(content: bytes) -> None:
    """Texts of either encoding are read, and are written as they were."""
    for label in ("Prüfling", "日本"):
        for codec in ("utf-8", "latin-1"):
            if label == "日本" and codec == "latin-1":
                continue
            if content.startswith(b"File"):
                text = content.replace(
                    b"DefectRec", b'LotID "%b";\nDefectRec' % label.encode(codec), 1
                )
            else:
                text = content.replace(b'"L"', b'"%b"' % label.encode(codec))
            klarf = read_klarf(text)
            assert text == klarf.to_bytes()
            assert label == klarf.wafers[0].lot


@settings(max_examples=40, deadline=None)
@given(FILES)
def test_any_file_is_written_as_it_was_read(file: tuple[bytes, int]) -> None:
    """Bytes out are bytes in, and every defect is found."""
    content, count = file

    klarf = read_klarf(content)

    assert content == klarf.to_bytes()
    assert count == len(list(klarf.defects())) == klarf.num_defects


@settings(max_examples=40, deadline=None)
@given(FILES, st.data())
def test_columns_add_bytes_and_remove_none(file: tuple[bytes, int], data: st.DataObject) -> None:
    """Without the new texts the file is what it was; the new values and the old ones are read."""
    content, count = file
    outputs = [f"tile {index}_x4.png" for index in range(count)]
    statuses = [data.draw(st.integers(0, 2)) for _ in range(count)]
    before = read_klarf(content)

    written = before.with_columns(
        NEW_COLUMNS, ([statuses[row], 0.125 * row, outputs[row]] for row in range(count))
    )

    after = read_klarf(written)
    assert [d[2:] for d in before.defects()] == [d[2:] for d in after.defects()]
    assert statuses == [int(value) for value in after.column("SEMSR_STATUS")]
    assert [0.125 * row for row in range(count)] == list(map(float, after.column("SEMSR_RESIDUAL")))
    assert [f'"{name}"'.encode() for name in outputs] == list(after.column("SEMSR_OUTPUT"))
    bare = re.sub(rb' \d \d+(\.\d+)? "tile \d+_x4\.png"', b"", written)
    bare = re.sub(rb",? (int32 |float |string )?SEMSR_(STATUS|RESIDUAL|OUTPUT)", b"", bare)
    number = rb"(DefectRecordSpec|Columns) (\d+)"
    bare = re.sub(number, lambda m: b"%b %d" % (m[1], int(m[2]) - 3), bare)
    assert content == bare


@settings(max_examples=20, deadline=None)
@given(FILES)
def test_columns_are_overwritten(file: tuple[bytes, int]) -> None:
    """Writing twice gives what writing the last values gives; the file does not grow."""
    content, count = file
    klarf = read_klarf(content)

    once = klarf.with_columns(NEW_COLUMNS, ([1, 2.5, "b"] for _ in range(count)))
    first = klarf.with_columns(NEW_COLUMNS, ([2, 1e-9, "a much longer text"] for _ in range(count)))
    twice = read_klarf(first).with_columns(NEW_COLUMNS, ([1, 2.5, "b"] for _ in range(count)))

    assert once == twice
