"""The time of reading and writing grows with the number of defects, and not faster."""

import time
from collections.abc import Callable

import pytest

from service.scans.klarf.klarf import read_klarf
from service.scans.klarf.table import NewColumn
from tests.service.scans.klarf.samples import small_1_2, small_1_8

VALUES = "99987.065674 7257.768708 1 -2 12"
COLUMNS = ("XREL", "YREL", "XINDEX", "YINDEX", "CLASSNUMBER")


def one_list_1_2(count: int) -> bytes:
    """All defects in one list, with the images of one file."""
    names = " ".join(("DEFECTID", *COLUMNS, "IMAGECOUNT", "IMAGELIST"))
    rows = "\n".join(f"{row} {VALUES} 1 1 {row} 0" for row in range(count))
    return small_1_2(rows, f"{len(names.split())} {names}")


def many_lists_1_2(count: int) -> bytes:
    """Each defect in a list of its own, after the name of its image."""
    content = one_list_1_2(count).decode()
    return content.replace(" 0\n", " 0;\nTiffFileName a.jpg;\nDefectList\n").encode()


def one_list_1_8(count: int) -> bytes:
    """All defects in one list, each with an image."""
    names = ", ".join(f"int32 {name}" for name in ("DEFECTID", *COLUMNS))
    images = 'Images 1 { "a/b.jpg" "JPG" 1 "Patch" }'
    rows = "\n".join(f"{row} {VALUES} {images};" for row in range(count))
    return small_1_8(rows, f"{len(COLUMNS) + 2} {{ {names}, ImageList IMAGEINFO }}", count)


def many_wafers_1_8(count: int) -> bytes:
    """Each defect on a wafer of its own."""
    wafer = (
        'Record WaferRecord "%d" { List DefectList { Columns 1 { int32 DEFECTID } Data 1 { 1; } } }'
    )
    wafers = "\n".join(wafer % row for row in range(count))
    return (
        f'Record FileRecord "1.8" {{ Record LotRecord "L" {{\n{wafers}\n}} }}\nEndOfFile;'.encode()
    )


def seconds(content: bytes, count: int) -> float:
    """Shorter time of two round trips with two new columns."""
    times: list[float] = []
    for _ in range(2):
        started_s = time.process_time()
        columns = [NewColumn("STATUS", "int32"), NewColumn("RESIDUAL", "float")]
        written = read_klarf(content).with_columns(columns, ([1, 0.5] for _ in range(count)))
        times.append(time.process_time() - started_s)
        assert len(written) > len(content)
    return min(times)


@pytest.mark.parametrize(
    ("make", "few"),
    [(one_list_1_2, 800), (many_lists_1_2, 800), (one_list_1_8, 800), (many_wafers_1_8, 200)],
)
def test_time_is_linear(make: Callable[[int], bytes], few: int) -> None:
    """Eight times as many defects take about eight times as long; quadratic would be 64 times."""
    many = 8 * few

    ratio = seconds(make(many), many) / seconds(make(few), few)

    assert ratio < 20
