"""Both versions through one interface: lot, wafer, dies, defects, images."""

import pytest

from service.scans.klarf.klarf import read_klarf
from service.scans.klarf.values import ImageRef
from tests.service.scans.klarf.samples import KLARF_1_2, KLARF_1_8, small_1_2, small_1_8


@pytest.mark.parametrize(("text", "orientation"), [(KLARF_1_2, "DOWN"), (KLARF_1_8, "0")])
def test_the_wafer_is_read_alike(text: str, orientation: str) -> None:
    """Lengths of 1.2 are micrometres, those of 1.8 nanometres; both become nanometres."""
    wafer = read_klarf(text.encode()).wafers[0]

    assert ("LOT 7", "W03", 3) == (wafer.lot, wafer.wafer, wafer.slot)
    assert ("DEV", "M1_CMP", "RECIPE_A") == (wafer.device, wafer.step, wafer.recipe)
    assert "MAKER Model 9 SEM01" == wafer.tool
    assert orientation == wafer.orientation
    assert pytest.approx((1e7, 5.5e6)) == wafer.die_pitch_nm
    assert (0, 0) == wafer.die_origin_nm
    assert pytest.approx((-2e4, 2.75e6)) == wafer.centre_nm
    assert {0: "Unclassified", 12: "Bridge"} == dict(wafer.classes)


@pytest.mark.parametrize("text", [KLARF_1_2, KLARF_1_8])
def test_defects_are_read_alike(text: str) -> None:
    """Id, die, position and class of each defect."""
    defects = list(read_klarf(text.encode()).defects())[:4]

    assert [1, 2, 3, 4] == [defect.id for defect in defects]
    assert ["-2,-1", "0,0", "0,1", "0,1"] == [defect.die for defect in defects]
    assert pytest.approx([4958616, 4539866, 759606, 905126]) == [d.x_rel_nm for d in defects]
    assert pytest.approx([1483252, 1485720, 4444340, 2023128]) == [d.y_rel_nm for d in defects]
    assert ["Bridge", "Unclassified", "Bridge", None] == [d.class_name for d in defects]
    assert pytest.approx([500, 7800, 14000]) == [defects[row].size_nm for row in (0, 1, 3)]
    assert all(defect.x_size_nm is None and defect.area_nm2 is None for defect in defects)
    assert [0, 1, 2, 3] == [defect.row for defect in defects]


def test_images_of_1_2() -> None:
    """The file is the one named last; rows may be wrapped before and within their images."""
    defects = list(read_klarf(KLARF_1_2.encode()).defects())

    assert [
        (ImageRef("lot 7.tif", 1, "0"), ImageRef("lot 7.tif", 2, "0")),
        (),
        (ImageRef("lot 7.tif", 39, "1"),),
        (ImageRef("W03/d4.png", 1, "0"),),
    ] == [defect.images for defect in defects]


def test_images_of_1_8() -> None:
    """Each image names its file; `N`, or nothing at the end of a row, means no images."""
    defects = list(read_klarf(KLARF_1_8.encode()).defects())

    assert [
        (ImageRef("a/1.jpg", 1, "Patch"), ImageRef("a/2.jpg", 2, "Ref")),
        (),
        (ImageRef("d3.png", 1, "24"),),
        (),
        (),
    ] == [defect.images for defect in defects]
    assert None is defects[2].size_nm


def test_defects_belong_to_their_wafer() -> None:
    """Fields of the lot that follow its wafers count for them."""
    in_1_8 = read_klarf(KLARF_1_8.encode())
    in_1_2 = read_klarf(
        b'FileVersion 1 2;\nLotID L;\nWaferID "A";\nSlot 1;\nDefectRecordSpec 1 DEFECTID;\n'
        b'DefectList\n1\n2;\nWaferID "B";\nDefectList\n1;\nEndOfFile;\n'
    )

    assert ["W03"] * 4 + ["W04"] == [defect.wafer.wafer for defect in in_1_8.defects()]
    assert "M1_CMP" == in_1_8.wafers[1].step
    assert [("A", 1), ("A", 1), ("B", None)] == [
        (defect.wafer.wafer, defect.wafer.slot) for defect in in_1_2.defects()
    ]
    assert ["L", "L"] == [wafer.lot for wafer in in_1_2.wafers]


@pytest.mark.parametrize(
    ("rows", "numbers"),
    [
        ("1 2 2 7 0 8 0\n2 0 0\n3 1 1 9 0", [[7, 8], [], [9]]),  # the list states its number
        ("1 2 2 7 0 8 0\n2 0\n3 1 1 9 0", [[7, 8], [], [9]]),  # none at all for 0 images
        ("1 2 7 0 8 0\n2 0\n3 1 9 0", [[7, 8], [], [9]]),  # the list states no number
        ("1 2 7 0 8 0\n2 0\n3 1 1 0", [[7, 8], [], [1]]),
        ("1 1 0", [[]]),  # IMAGECOUNT counts a file, the list has no image of it
    ],
)
def test_variants_of_the_image_list(rows: str, numbers: list[list[int]]) -> None:
    """Tools disagree about the number in front of an image list; the one that fits is taken."""
    klarf = read_klarf(small_1_2(rows, "3 DEFECTID IMAGECOUNT IMAGELIST"))

    assert numbers == [[image.number for image in defect.images] for defect in klarf.defects()]


def test_columns_after_the_image_list() -> None:
    """They are found in both versions."""
    in_1_2 = read_klarf(small_1_2("1 1 7 0 -3\n2 0 5", "3 DEFECTID IMAGELIST XINDEX"))
    in_1_8 = read_klarf(
        small_1_8(
            '1 Images 1 { "a" "JPG" 7 "0" } -3;\n2 N 5;',
            "3 { int32 DEFECTID, ImageList IMAGES, int32 XINDEX }",
            2,
        )
    )

    for klarf in (in_1_2, in_1_8):
        assert [-3, 5] == [defect.x_index for defect in klarf.defects()]
        assert [[7], []] == [[image.number for image in d.images] for d in klarf.defects()]


def test_values_as_written() -> None:
    """Any column is available as it was written."""
    klarf = read_klarf(KLARF_1_8.encode())

    assert [b"1", b"2", b"3", b"4", b"7"] == list(klarf.column("defectid"))
    with pytest.raises(KeyError, match="NOTE"):
        list(klarf.column("NOTE"))


def test_a_file_without_defects() -> None:
    """It still has a wafer."""
    klarf = read_klarf(b'FileVersion 1 1;\nWaferID "A";\nEndOfFile;')

    assert ("1.1", 0, ()) == (klarf.version, klarf.num_defects, klarf.columns)
    assert ["A"] == [wafer.wafer for wafer in klarf.wafers]


def test_classes_with_a_code() -> None:
    """Some tools write the code of 1.8 after the name."""
    klarf = read_klarf(b'FileVersion 1 2;\nClassLookup 2\n 0 "a" "A"\n 7 "b" "B";\nEndOfFile;')

    assert {0: "a", 7: "b"} == dict(klarf.wafers[0].classes)
