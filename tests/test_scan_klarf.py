"""Scans of KLARF files: only the images of defects, and the results in a copy of the file."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semsr.scan_dry_run import dry_run, dry_run_text
from service.scans.errors import ScanError, ScanMismatchError, SourceMissingError
from service.scans.klarf.klarf import read_klarf
from service.scans.klarf_source import is_klarf
from service.scans.opening import open_source
from service.scans.options import ScanRequest
from service.scans.sources import TileRef
from tests.scans import enlarged, manifest, numbered_tile, outputs, scan, settings

tifffile = pytest.importorskip("tifffile")

LOT_1_2 = """FileVersion 1 2;
InspectionStationID "MAKER" "M9" "SEM01";
LotID "LOT 7";
DeviceID "DEV";
StepID "M1";
DiePitch 1e4 5e3;
WaferID "W03";
Slot 3;
ClassLookup 1
  12 "Bridge";
DefectRecordSpec 8 DEFECTID XREL YREL XINDEX YINDEX CLASSNUMBER IMAGECOUNT IMAGELIST;
DefectList;
TiffFileName lot.tif;
DefectList
 1 1.5 2.5 -2 3 12 2 2 1 0 3 0
 2 4 5 0 0 0 0 0;
TiffFileName C:\\lots\\7\\W03\\d3.png;
DefectList
 3 6 7 1 1 0 1 1 1 0;
TiffFileName gone.png;
DefectList
 4 8 9 1 2 0 1 1 1 0;
EndOfFile;
"""

LOT_1_8 = """Record FileRecord "1.8"
{ Record LotRecord "LOT 7" { Record WaferRecord "W03" { List DefectList {
  Columns 4 { int32 DEFECTID, int32 XINDEX, int32 YINDEX, ImageList IMAGEINFO }
  Data 3 {
    1 0 1 Images 2 { "a.png" "PNG" 1 "Patch", "b.png" "PNG" 1 "Ref" };
    2 0 2 Images 1 { "a.png" "PNG" 1 "Patch" };
    3 0 3 N;
  } } } } }
EndOfFile;
"""


def write_png(path: Path, index: int) -> None:
    """Write a numbered tile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbered_tile(index)).save(path)


def write_lot_1_2(folder: Path) -> Path:
    """Write a lot with a TIFF of four images, a PNG of a defect, and one of no defect."""
    folder.mkdir()
    tiles = np.stack([numbered_tile(index) for index in range(4)])
    tifffile.imwrite(folder / "lot.tif", tiles, photometric="minisblack")
    write_png(folder / "W03" / "d3.png", 33)
    write_png(folder / "W03" / "other.png", 44)
    path = folder / "lot.klarf"
    path.write_text(LOT_1_2)
    return path


def test_only_the_images_of_defects_are_computed(tmp_path: Path) -> None:
    """Images 1 and 3 of the TIFF and the PNG; a file that is missing is a failed tile."""
    source = write_lot_1_2(tmp_path / "lot")
    sink = tmp_path / "sr"

    report = scan(source, sink)

    assert (3, 1, 4) == (report.counts.done, report.counts.failed, report.counts.total)
    assert ["1 of 4 defects name no image"] == report.notes
    [(name, error)] = report.failures
    assert "gone.png" == name
    assert "No such file" in error
    images = {name for name in outputs(sink) if not name.endswith((".json", ".klarf"))}
    assert {"W03/d3_x4.png", "lot/00000000_x4.tif", "lot/00000002_x4.tif"} == images
    assert np.array_equal(enlarged(numbered_tile(2)), tifffile.imread(sink / "lot/00000002_x4.tif"))
    with Image.open(sink / "W03/d3_x4.png") as image:
        assert np.array_equal(enlarged(numbered_tile(33)), np.asarray(image))


def test_the_manifest_names_lot_wafer_die_and_tool(tmp_path: Path) -> None:
    """And the metadata the defects of each image."""
    source = write_lot_1_2(tmp_path / "lot")

    scan(source, tmp_path / "sr")

    rows = {row["source"]: row for row in manifest(tmp_path / "sr" / "manifest.csv")}
    row = rows["lot.tif[00000002]"]
    assert ("LOT 7", "W03", "-2,3", "MAKER M9 SEM01") == tuple(
        row[name] for name in ("lot", "wafer", "die", "tool")
    )
    facts = json.loads(row["metadata"])
    assert ("DEV", "M1", 3) == (facts["device"], facts["step"], facts["slot"])
    defect = {"id": 1, "row": 0, "class": "Bridge", "x_rel_nm": 1500.0, "y_rel_nm": 2500.0}
    assert [defect] == facts["defects"]
    assert "1,1" == rows["W03/d3.png"]["die"]


def test_results_stand_next_to_the_defects(tmp_path: Path) -> None:
    """The copy is the file with more columns; positions point into the manifest."""
    source = write_lot_1_2(tmp_path / "lot")

    scan(source, tmp_path / "sr")

    copy = read_klarf(tmp_path / "sr" / "lot_sr.klarf")
    rows = {int(row["position"]): row for row in manifest(tmp_path / "sr" / "manifest.csv")}
    assert [b"1", b"0", b"1", b"2"] == list(copy.column("SEMSR_STATUS"))
    tiles = [int(value) for value in copy.column("SEMSR_TILE")]
    assert -1 == tiles[1]
    assert ["lot.tif[00000000]", "W03/d3.png", "gone.png"] == [
        rows[tiles[index]]["source"] for index in (0, 2, 3)
    ]
    images = [rows[tile] for tile in (tiles[0], tiles[0] + 1)]
    assert pytest.approx(min(float(row["consistency"]) for row in images), rel=1e-5) == float(
        next(copy.column("SEMSR_CONSISTENCY"))
    )
    assert pytest.approx(max(float(row["saturated"]) for row in images), rel=1e-5) == float(
        next(copy.column("SEMSR_SATURATED"))
    )
    assert "SEMSR_OUTPUT" not in copy.columns
    before = read_klarf(source)
    assert [defect[2:] for defect in before.defects()] == [defect[2:] for defect in copy.defects()]
    assert LOT_1_2.encode() == source.read_bytes()


def test_1_8_names_the_outputs_too(tmp_path: Path) -> None:
    """An image of two defects is one tile."""
    for index, name in enumerate(("a.png", "b.png", "not-named.png")):
        write_png(tmp_path / "lot" / name, index)
    source = tmp_path / "lot" / "lot.001"
    source.write_text(LOT_1_8)

    report = scan(source, tmp_path / "sr")

    assert (2, 0) == (report.counts.done, report.counts.failed)
    copy = read_klarf(tmp_path / "sr" / "lot_sr.001")
    assert [b'"a_x4.png|b_x4.png"', b'"a_x4.png"', b'""'] == list(copy.column("SEMSR_OUTPUT"))
    assert [b"1", b"1", b"0"] == list(copy.column("SEMSR_STATUS"))
    facts = json.loads((tmp_path / "sr" / "a_x4.json").read_text())
    assert [1, 2] == [defect["id"] for defect in facts["defects"]]
    assert ("0,1", 2) == (facts["die"], facts["num_defects"])


def test_a_stack_as_sink(tmp_path: Path) -> None:
    """The copy lies next to the stack."""
    pytest.importorskip("h5py")
    for index, name in enumerate(("a.png", "b.png")):
        write_png(tmp_path / "lot" / name, index)
    source = tmp_path / "lot" / "lot.klarf"
    source.write_text(LOT_1_8)

    scan(source, tmp_path / "sr.h5")

    copy = read_klarf(tmp_path / "sr.h5.lot_sr.klarf")
    assert [b"0", b"0", b"-1"] == list(copy.column("SEMSR_TILE"))


def test_the_sink_may_be_the_folder_of_the_file(tmp_path: Path) -> None:
    """The KLARF file itself is not overwritten, and outputs are not scanned by the next run."""
    source = write_lot_1_2(tmp_path / "lot")

    first = scan(source, tmp_path / "lot", work=tmp_path / "work")
    write_png(tmp_path / "lot" / "gone.png", 55)
    second = scan(source, tmp_path / "lot", work=tmp_path / "work")

    assert (3, 1) == (first.counts.done, first.counts.failed)
    assert (4, 1) == (second.counts.done, second.computed)
    assert second.is_complete
    assert LOT_1_2.encode() == source.read_bytes()
    copy = read_klarf(tmp_path / "lot" / "lot_sr.klarf")
    assert [b"1", b"0", b"1", b"1"] == list(copy.column("SEMSR_STATUS"))


def test_sidecars_count_as_for_a_folder(tmp_path: Path) -> None:
    """The values next to an image are more specific than those of the KLARF file."""
    source = write_lot_1_2(tmp_path / "lot")
    sidecar = tmp_path / "lot" / "W03" / "d3.json"
    sidecar.write_text('{"pixel_size_nm": 4, "tool": "T2", "stage_x": 5}')

    scan(source, tmp_path / "sr")

    facts = json.loads((tmp_path / "sr" / "W03" / "d3_x4.json").read_text())
    assert (1, "T2", 5, "LOT 7") == tuple(
        facts[name] for name in ("pixel_size_nm", "tool", "stage_x", "lot")
    )


def test_an_image_that_a_tiff_lacks_is_a_failed_tile(tmp_path: Path) -> None:
    """The message says which images there are."""
    source = write_lot_1_2(tmp_path / "lot")
    source.write_text(LOT_1_2.replace("1 0 3 0", "1 0 5 0"))

    report = scan(source, tmp_path / "sr")

    assert ("lot.tif[00000004]", "image 5 of lot.tif does not exist; expected 1 to 4") in (
        report.failures
    )


def test_the_first_image_of_a_tiff_with_several(tmp_path: Path) -> None:
    """A file that is named for its first image only is one tile, whatever else it holds."""
    source = write_lot_1_2(tmp_path / "lot")
    source.write_text(LOT_1_2.replace("2 2 1 0 3 0", "1 1 1 0"))

    scan(source, tmp_path / "sr")

    assert np.array_equal(enlarged(numbered_tile(0)), tifffile.imread(tmp_path / "sr/lot_x4.tif"))


def test_an_object_store_gives_what_a_folder_gives(tmp_path: Path) -> None:
    """It is listed once; a TIFF is copied, and its copy removed."""
    pytest.importorskip("fsspec")
    source = write_lot_1_2(tmp_path / "lot")
    (tmp_path / "lot" / "lot.tif").rename(tmp_path / "lot" / "W03" / "lot.tif")
    source.write_text(LOT_1_2.replace("lot.tif", "W03/lot.tif"))
    scan(source, tmp_path / "local")

    opened = open_source(f"local://{source}", spool=tmp_path / "spool", patience_s=1)
    bodies = [
        opened.read(TileRef(listed.name, listed.stem, listed.place, listed.size_bytes)).body
        for listed in opened.listing()
        if listed.is_tile and listed.name != "gone.png"
    ]
    assert 3 == len(bodies)
    assert not (tmp_path / "spool").exists()
    report = scan(f"local://{source}", tmp_path / "remote")

    assert (3, 1) == (report.counts.done, report.counts.failed)
    assert outputs(tmp_path / "local") == outputs(tmp_path / "remote")


def test_a_malformed_file_ends_the_scan_before_it_begins(tmp_path: Path) -> None:
    """The message names the file and the line."""
    source = write_lot_1_2(tmp_path / "lot")
    source.write_text(LOT_1_2.replace(" 2 4 5 0 0 0 0 0;", " 2 4 5 0 x 0 0 0;"))

    with pytest.raises(ScanError, match=r"lot\.klarf, line 16: found YINDEX 'x'; expected"):
        scan(source, tmp_path / "sr")
    assert not (tmp_path / "sr").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            LOT_1_2.replace(" 2 4 5 0 0 0 0 0;", " 2 4 5 0 7 0 0 0;"),
            r"since the scan began: line 16 was ' 2 4 5 0 0 0 0 0;' and is ' 2 4 5 0 7 0 0 0;'\. ",
        ),
        (
            LOT_1_2.replace(" 3 6 7 1 1 0 1 1 1 0;", " 3 6 7 1 1 0 1 1 1 0\n 5 6 7 1 1 0 0 0;"),
            r"line 19 was .* and is ' 3 6 7 1 1 0 1 1 1 0'; it had 4 defects and has 5\. ",
        ),
        (f"{LOT_1_2}\n", r"line 24 was missing and is ''\. "),
        (LOT_1_2.replace("\n", "\r"), "its line ends differ"),
    ],
)
def test_a_file_that_has_changed_is_rejected_on_resume(
    tmp_path: Path, changed: str, said: str
) -> None:
    """Its results would stand next to other defects; nothing that was written changes."""
    source = write_lot_1_2(tmp_path / "lot")
    scan(source, tmp_path / "sr")
    before = outputs(tmp_path / "sr")
    source.write_bytes(changed.encode())

    with pytest.raises(ScanMismatchError, match=said) as caught:
        scan(source, tmp_path / "sr")

    copy = tmp_path / "sr.scan" / "source.klarf.gz"
    assert f"({copy} has it, compressed by gzip)" in str(caught.value)
    assert before == outputs(tmp_path / "sr")
    report = scan(source, tmp_path / "sr", resume=False)
    assert 4 == report.counts.total
    # The copy is that of the new scan now.
    assert changed.encode() == gzip.decompress(copy.read_bytes())
    assert 4 == scan(source, tmp_path / "sr").counts.total


def test_a_damaged_copy_of_the_file(tmp_path: Path) -> None:
    """The error says what deleting it means."""
    source = write_lot_1_2(tmp_path / "lot")
    scan(source, tmp_path / "sr")
    copy = tmp_path / "sr.scan" / "source.klarf.gz"
    copy.write_bytes(copy.read_bytes()[:-9])

    with pytest.raises(ScanError, match=r"source\.klarf\.gz of lot\.klarf is damaged: .*delete it"):
        scan(source, tmp_path / "sr")
    copy.unlink()
    assert 4 == scan(source, tmp_path / "sr").counts.total


def test_two_paths_of_one_file_are_rejected(tmp_path: Path) -> None:
    """An image must not be taken for that of another wafer."""
    write_png(tmp_path / "1.png", 1)
    source = tmp_path / "lot.klarf"
    text = LOT_1_8.replace('"a.png"', '"W1/1.png"', 1).replace('"b.png"', '"W2/1.png"')
    source.write_text(text)

    with pytest.raises(ScanError, match=r"W1/1\.png and W2/1\.png, and both could be 1\.png"):
        scan(source, tmp_path / "sr")


def test_missing_files_of_one_name_are_failed_tiles(tmp_path: Path) -> None:
    """Each under its own path, without a drive."""
    write_png(tmp_path / "lot" / "c.png", 1)
    source = tmp_path / "lot" / "lot.klarf"
    text = LOT_1_8.replace('"a.png"', '"C:\\W1\\1.png"', 1).replace('"b.png"', '"/data/W2/1.png"')
    source.write_text(text.replace('"a.png"', '"c.png"'))

    report = scan(source, tmp_path / "sr")

    assert {"W1/1.png", "data/W2/1.png"} == {name for name, _ in report.failures}
    assert 1 == report.counts.done
    copy = read_klarf(tmp_path / "sr" / "lot_sr.klarf")
    assert [b"2", b"1", b"0"] == list(copy.column("SEMSR_STATUS"))


def test_paths_do_not_leave_the_folder(tmp_path: Path) -> None:
    """A path upwards is read as one of the tool's machine: only its end counts."""
    write_png(tmp_path / "secret.png", 1)
    folder = tmp_path / "lot"
    write_png(folder / "b.png", 2)
    (folder / "lot.klarf").write_text(LOT_1_8.replace("a.png", "../secret.png"))

    source = open_source(str(folder / "lot.klarf"), spool=tmp_path / "spool", patience_s=1)

    names = [listed.name for listed in source.listing()]
    assert ["secret.png", "b.png"] == names
    with pytest.raises(Exception, match="No such file"):
        source.read(TileRef("secret.png", "secret", 0, 0))


def test_dry_run(tmp_path: Path) -> None:
    """It counts the images of defects, and shows what the manifest would say about them."""
    source = write_lot_1_2(tmp_path / "lot")
    (tmp_path / "lot" / "W03" / "d3.json").write_text('{"tool": "T2"}')
    request = ScanRequest(
        source=str(source), sink=str(tmp_path / "sr"), manifest="csv", name_pattern="{tool}/d*"
    )

    row = dry_run(request, settings=settings(), work=tmp_path / "work")

    assert 4 == row["tiles"]
    assert {"tiles": 4, "values": 1, "first": ["LOT 7"]} == row["recorded"]["lot"]
    assert {"tiles": 4, "values": 3, "first": ["-2,3", "1,1", "1,2"]} == row["recorded"]["die"]
    text = dry_run_text(row).splitlines()
    assert "wafer: recorded for 4 tiles: W03" in text
    assert "tool: recorded for 4 tiles: MAKER M9 SEM01" in text
    assert "names that do not match the pattern: 3, such as lot.tif[00000000]" in text
    assert "sidecars: 1; their values take precedence" in text
    scan(source, tmp_path / "sr", name_pattern="{tool}/d*")
    rows = manifest(tmp_path / "sr" / "manifest.csv")
    done = [row for row in rows if row["status"] == "done"]
    assert ["-2,3", "-2,3", "1,1"] == sorted(row["die"] for row in done)
    assert {("LOT 7", "W03")} == {(row["lot"], row["wafer"]) for row in done}
    assert not (tmp_path / "work").exists()


def test_dry_run_with_a_pattern(tmp_path: Path) -> None:
    """Of many values the first five; of a folder without a pattern nothing is said."""
    for index in range(7):
        write_png(tmp_path / "lot" / f"L{index}_W3.png", index)
    write_png(tmp_path / "lot" / "other.png", 9)
    request = ScanRequest(
        source=str(tmp_path / "lot"), sink=str(tmp_path / "sr"), name_pattern="{lot}_W{wafer}"
    )

    text = dry_run_text(dry_run(request, settings=settings(), work=tmp_path / "work"))
    plain = dry_run_text(
        dry_run(replace(request, name_pattern=None), settings=settings(), work=tmp_path / "work")
    )

    lots, *rest = text.splitlines()[-5:]
    assert lots.startswith("lot: recorded for 7 tiles: L")
    assert lots.endswith("; and 2 more")
    assert [
        "wafer: recorded for 7 tiles: 3",
        "die: recorded for 0 tiles",
        "tool: recorded for 0 tiles",
        "names that do not match the pattern: 1, such as other.png",
    ] == rest
    assert "recorded" not in plain


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lot.klarf", True),
        ("LOT.KLA", True),
        ("lot.001", True),
        ("lot.tif", False),
        ("a.01", False),
    ],
)
def test_names(name: str, expected: bool) -> None:
    """Tools number their files."""
    assert expected is is_klarf(name)


def test_a_missing_file(tmp_path: Path) -> None:
    """It is a missing source; a folder may be named like a KLARF file."""
    with pytest.raises(SourceMissingError, match=r"lot\.001 does not exist"):
        open_source(str(tmp_path / "lot.001"), spool=tmp_path, patience_s=1)
    write_png(tmp_path / "lot.001" / "a.png", 1)

    source = open_source(str(tmp_path / "lot.001"), spool=tmp_path, patience_s=1)

    assert ["a.png"] == [listed.name for listed in source.listing()]


def test_lot_and_wafer_in_the_names(tmp_path: Path) -> None:
    """A pattern fills the manifest; a sidecar is more specific, and other names are counted."""
    for index, name in enumerate(("L7/W3_X1_Y2.png", "L7/W4_X0_Y0.png", "other.png")):
        write_png(tmp_path / "lot" / name, index)
    (tmp_path / "lot" / "L7" / "W4_X0_Y0.json").write_text('{"wafer": "four"}')

    pattern = "{lot}/W{wafer}_X{die_x}_Y{die_y}"
    report = scan(tmp_path / "lot", tmp_path / "sr", name_pattern=pattern)

    rows = manifest(tmp_path / "sr" / "manifest.csv")
    assert [("L7", "3", "1,2"), ("L7", "four", "0,0"), ("", "", "")] == [
        (row["lot"], row["wafer"], row["die"]) for row in rows
    ]
    assert [f"the names of 1 of 3 tiles do not match {pattern}, such as other.png"] == report.notes


def test_another_pattern_is_another_scan(tmp_path: Path) -> None:
    """Its facts are in the outputs, so a resume with another one is rejected."""
    write_png(tmp_path / "lot" / "a_b.png", 1)
    scan(tmp_path / "lot", tmp_path / "sr", name_pattern="{lot}_*")

    with pytest.raises(ScanError, match=r"name_pattern was '\{lot\}_\*' and is None"):
        scan(tmp_path / "lot", tmp_path / "sr")
