"""A fab's own tiles: figures that need no truth."""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.evaluation.scenes import BlobDetector, film, grey, lines, shrunk
from training.evaluation.compared.methods import Method, builtin_methods, upscaler_method
from training.evaluation.folders.real_folders import RealPair
from training.evaluation.report.notes import NO_DETECTOR, NO_FLAGS, NO_HR
from training.evaluation.report.report import document, rows, write_report
from training.evaluation.report.tables import standing_out, write_own
from training.evaluation.run import Options, evaluate
from training.evaluation.sets.own_tiles import OwnTiles, measure_own

Picture = np.ndarray


@pytest.fixture(scope="module")
def own() -> OwnTiles:
    """Three LR tiles, two HR pictures of another place."""
    return OwnTiles(
        lr={f"tile_{n}.tif": shrunk(lines(), seed=n) for n in range(3)},
        hr=[grey(lines(), noise=3.0, seed=10 + n) for n in range(2)],
    )


def oracle(own: OwnTiles) -> Method:
    """Answer every tile with HR's own picture, and flag the second tile."""

    def flagged(lr: Picture) -> tuple[Picture, dict[str, float]]:
        number = [tile.tobytes() for tile in own.lr.values()].index(lr.tobytes())
        return own.hr[number % 2], {"residual": 0.5 + number % 2, "domain_distance": 0.25}

    return Method(
        name="oracle",
        role="candidate",
        render=None,
        upscale=lambda lr: flagged(lr)[0],
        flagged=flagged,
        scale=4,
    )


def test_backgrounds_and_flags_are_measured_without_truth(own: OwnTiles) -> None:
    """An oracle of HR's background is within chance of it; bicubic is far too smooth."""
    report = measure_own(own, [*builtin_methods(scale=4, with_truth=False), oracle(own)])
    figures = {row.method: row for row in report.figures}

    assert (3, 2) == (report.lr_tiles, report.hr_pictures)
    assert {"spectrum_db", "border_spectrum_db", "edge_grain"} == set(report.floors)
    assert 1.0 == pytest.approx(figures["oracle"].edge_grain, abs=0.1)
    assert (0, 0, None) == (
        figures["oracle"].outlines_lost,
        figures["oracle"].outlines_invented,
        figures["oracle"].detections_per_tile,
    )
    assert figures["oracle"].spectrum_db is not None
    assert figures["bicubic"].spectrum_db is not None
    assert figures["bicubic"].spectrum_db > 8 > figures["oracle"].spectrum_db
    assert 1.0 == pytest.approx(figures["oracle"].noise_ratio, abs=0.05)
    assert figures["bicubic"].consistency > 0.95
    assert (1 / 3, 0.0, 0.25) == (
        figures["oracle"].residual_share,
        figures["oracle"].domain_share,
        figures["oracle"].domain_median,
    )
    assert figures["bicubic"].residual_share is None
    assert ["tile_1.tif"] == [tile["name"] for tile in standing_out(report)]


def test_without_hr_only_what_the_tile_itself_tells_is_judged(own: OwnTiles) -> None:
    """No distance to HR is made up: it is absent, not zero."""
    report = measure_own(OwnTiles(lr=own.lr), builtin_methods(scale=4, with_truth=False))
    [row] = report.figures

    assert row.consistency > 0.95
    assert [None] * 4 == [row.spectrum_db, row.noise_ratio, row.grey_distance, row.kernel_distance]
    assert {} == report.floors


def test_the_report_shows_own_tiles(own: OwnTiles, tmp_path: Path) -> None:
    """Tables, pictures and notes on what could not be judged, in HTML and JSON."""
    method = upscaler_method("nearest", lambda lr: lr.repeat(4, axis=2).repeat(4, axis=3), scale=4)
    report = evaluate(
        [method], Options(out=tmp_path, own=OwnTiles(lr=own.lr), limit=None), judge=None
    )
    page = write_report(report, tmp_path).read_text(encoding="utf-8")

    assert [NO_DETECTOR, NO_HR, NO_FLAGS] == list(report.notes)
    assert "Your own tiles" in page
    assert "tile_0.tif" in page
    assert {f"pictures/own_0{n}.png" for n in range(3)} == {item.file for item in report.pictures}
    assert all((tmp_path / item.file).is_file() for item in report.pictures)
    assert ["bicubic", "nearest"] == [row["method"] for row in rows(report)]
    assert 3 == rows(report)[1]["own"]["tiles"]
    assert 3 == document(report)["own"]["lr_tiles"]


def test_a_name_that_is_not_utf8_costs_no_report(own: OwnTiles, tmp_path: Path) -> None:
    """Its bytes are written with backslashes, in JSON, HTML and table."""
    name = os.fsdecode(b"tile_\xff.tif")
    pixels = list(own.lr.values())
    renamed = OwnTiles(lr={"tile_0.tif": pixels[0], name: pixels[1]}, hr=own.hr)
    report = evaluate([oracle(renamed)], Options(out=tmp_path, own=renamed), judge=None)

    page = write_report(report, tmp_path).read_text(encoding="utf-8")
    saved = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    table = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    assert report.own is not None
    write_own(report.own, file=table)

    shown = r"tile_\xff.tif"
    assert shown in page
    assert shown in {tile["name"] for tile in saved["own"]["tiles"]}
    table.seek(0)
    assert shown in table.read()


def test_the_table_for_people_names_what_stands_out(
    own: OwnTiles, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a method; what lacks a figure has a dash; suspicious tiles by name."""
    measured = measure_own(own, [oracle(own)])
    write_own(measured, file=sys.stdout)
    lines_out = capsys.readouterr().out.splitlines()

    assert lines_out[0].split()[:3] == ["method", "tiles", "consistency"]
    assert lines_out[1].startswith("oracle")
    assert "–" in lines_out[1]
    assert "answers beyond a limit of their bundle: 1" == lines_out[2]
    assert "tile_1.tif: residual 1.50, domain distance 0.25" in lines_out[3]


def test_pairs_and_an_own_detector_are_judged() -> None:
    """What the detector finds in HR must be found in the answer; more of it is counted."""
    scene = film(blobs=[(128, 128, 80.0), (60, 60, 80.0)])
    blank = film(blobs=[])
    pair = RealPair(name="a", lr=shrunk(scene, seed=1), hr=grey(scene, noise=2.0))
    other = RealPair(name="b", lr=shrunk(blank, seed=2), hr=grey(blank, noise=2.0))
    own = OwnTiles(lr={"a": pair.lr}, hr=[other.hr], pairs=[pair, other])
    answers = {pair.lr.tobytes(): pair.hr, other.lr.tobytes(): grey(scene, noise=2.0)}
    wrong = Method(
        name="wrong",
        role="candidate",
        render=None,
        upscale=lambda lr: answers[lr.tobytes()],
        scale=4,
    )

    report = measure_own(own, [wrong], detector=BlobDetector())

    [figures], [row] = report.figures, report.pairs
    assert 2.0 == figures.detections_per_tile
    assert 0.0 == report.floors["detections_per_tile"]
    assert (1.0, 1.0) == (row.found_share, row.extra_per_tile)
    assert 2 == row.pairs
    assert 0 == row.reference_lost
    without = measure_own(own, [wrong])
    assert (None, None) == (without.pairs[0].found_share, without.figures[0].detections_per_tile)
