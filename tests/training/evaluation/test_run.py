"""The whole evaluation on a tiny benchmark: figures, report, cache, processes."""

import json
import pickle
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.evaluation.scenes import BlobDetector, film, grey
from training.detector import Detector
from training.detector.network import DetectorNetwork
from training.evaluation.compared.methods import (
    BICUBIC,
    MATCHED,
    TRUE_HR,
    Method,
    builtin_methods,
    upscaler_method,
)
from training.evaluation.figures import FIGURES
from training.evaluation.folders.benchmark import Tile, load_benchmark
from training.evaluation.report.report import Report, document, rows, write_report
from training.evaluation.run import EvaluationError, Options, evaluate
from training.evaluation.sets.measurement import Judge, measure_tile
from training.evaluation.sets.measuring import MeasurementCache, measure_split


class Page(HTMLParser):
    """Collects a page's words and pictures, and checks that its elements are closed."""

    void = frozenset({"meta", "br", "img", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.pictures: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Note an element and what it points to."""
        if tag not in self.void:
            self.open.append(tag)
        for name, value in attrs:
            if name == "src" and value is not None:
                self.pictures.append(value)
            if name == "href" and value is not None:
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Note a word."""
        self.words.append(data.strip())


def _wiped() -> Method:
    """Return a method that finds every tile blank: the sharpest pictures, and no defect."""
    blank = grey(film(blobs=[]), noise=3.0)
    return upscaler_method("wiped <b>", lambda lr: blank[None, None].copy(), scale=4, version="1")


@pytest.fixture(scope="module")
def report(benchmark_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """Evaluate once; return the report and its folder."""
    out = tmp_path_factory.mktemp("report")
    options = Options(out=out, benchmark=benchmark_dir, draws=50)
    return evaluate([_wiped()], options, judge=Judge(detector=BlobDetector())), out


def test_figures_tell_a_perfect_method_from_one_that_wipes_defects(
    report: tuple[Report, Path],
) -> None:
    """True HR finds all; the wiped pictures none, though their background is right."""
    figures = {name: item.figures for name, item in report[0].summaries.items()}

    assert [BICUBIC, MATCHED, "wiped <b>", TRUE_HR] == list(figures)
    truth, wiped = figures[TRUE_HR], figures["wiped <b>"]
    assert (1.0, 1.0, 0.0) == (
        truth["recall"].value,
        truth["froc_area"].value,
        truth["alarms_per_tile"].value,
    )
    assert 0.0 == wiped["recall"].value
    assert (1.0, 1.0) == pytest.approx(
        (truth["contrast_ratio"].value, truth["correlation_min"].value)
    )
    assert 0.0 == pytest.approx(wiped["contrast_ratio"].value, abs=0.05)
    assert figures[BICUBIC]["spectrum_db"].value > 5 > truth["spectrum_db"].value
    assert truth["edge_placement_px"].value < 0.2
    assert abs(truth["cd_bias_px"].value) < 0.1
    assert (1.0, 8.0) == (wiped["lost_edges"].value, wiped["edge_placement_px"].value)
    assert 1.0 == pytest.approx(truth["noise_ratio"].value, abs=0.05)
    # A quarter of the defects reaches into the border, and was found there.
    assert 1.0 == truth["recall_border"].value
    assert report[0].summaries[TRUE_HR].recall_by_kind == {
        "particle": (1.0, 2),
        "scratch": (1.0, 2),
    }


def test_the_targets_fail_a_method_that_loses_defects(report: tuple[Report, Path]) -> None:
    """Recall and FROC area are missed; GMAC is unknown, and so not applicable."""
    status = {target.name: target.status for target in report[0].targets}

    assert "missed" == status["recall of unseen kinds, of that on true HR"]
    assert "missed" == status["FROC area above bicubic"]
    assert "passed" == status["false alarms a tile beyond those on true HR"]
    assert "not applicable" == status["GMAC a tile"]


def test_the_page_names_every_method_and_shows_every_picture(
    report: tuple[Report, Path],
) -> None:
    """Well-formed, without addresses of other machines, and names are escaped."""
    path = write_report(*report)
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))

    assert [] == page.open
    for name in report[0].summaries:
        assert name in page.words
    assert [] == page.links
    assert {entry.file for entry in report[0].pictures} == set(page.pictures)
    assert all((report[1] / file).is_file() for file in page.pictures)
    assert any("kernel distance was left out" in word for word in page.words)


def test_the_json_holds_what_the_page_shows(report: tuple[Report, Path]) -> None:
    """Figures with intervals and paired differences; nothing that JSON does not have."""
    write_report(*report)
    values = json.loads((report[1] / "report.json").read_text(encoding="utf-8"))

    assert (1, "semsr-evaluation") == (values["format_version"], values["kind"])
    assert document(report[0]) == values
    methods = {method["name"]: method for method in values["methods"]}
    recall = methods[TRUE_HR]["figures"]["recall"]
    assert recall["low"] <= recall["value"] <= recall["high"]
    difference = methods["wiped <b>"]["figures"]["correlation"]["minus_bicubic"]
    assert difference["value"] < 0
    assert methods[BICUBIC]["figures"]["recall"]["minus_bicubic"] is None
    assert 4 == values["benchmark"]["defects"]
    assert [0.0] == [row["recall"] for row in rows(report[0]) if row["role"] == "candidate"]


def test_measurements_are_kept_and_found_again(benchmark_dir: Path, tmp_path: Path) -> None:
    """A second run renders nothing; another judge, version or limit measures anew."""
    tiles = load_benchmark(benchmark_dir).tiles("test_clean")[:2]
    calls = []

    def upscaler(lr: np.ndarray) -> np.ndarray:
        calls.append(lr.shape)
        return lr.repeat(4, axis=2).repeat(4, axis=3)

    def measure(version: str | None, judge_version: str, count: int = 2) -> object:
        method = upscaler_method("mine", upscaler, scale=4, version=version)
        cache = MeasurementCache(tmp_path, judge_version=judge_version)
        return measure_split(tiles[:count], [method], Judge(detector=BlobDetector()), cache=cache)

    first = repr(measure("1", "judge"))
    assert 2 == len(calls)
    assert first == repr(measure("1", "judge"))
    assert 2 == len(calls)
    for version, judge_version, count in (("2", "judge", 2), ("1", "other", 2), ("1", "judge", 1)):
        before = len(calls)
        measure(version, judge_version, count)
        assert before + count == len(calls)
    before = len(calls)
    measure(None, "judge")
    measure(None, "judge")
    assert before + 4 == len(calls)


def test_what_travels_to_other_processes_can(benchmark_dir: Path) -> None:
    """Detector, tile and measurements survive pickling, and answer the same.

    The pool pickles what it sends to its own processes, which nobody could show without doing so
    here; no file is ever unpickled. The slow test below takes the same way through real processes.
    """
    [tile] = load_benchmark(benchmark_dir).tiles("test_defect")[:1]
    torch.manual_seed(0)
    judge = Judge(detector=Detector(DetectorNetwork(), 0.5))
    travelled: tuple[Judge, Tile] = pickle.loads(pickle.dumps((judge, tile)))  # noqa: S301 - made in this line

    here = measure_tile(tile, {TRUE_HR: None}, judge)
    there = measure_tile(travelled[1], {TRUE_HR: None}, travelled[0])

    assert here == pickle.loads(pickle.dumps(there))  # noqa: S301 - made in this line


@pytest.mark.slow
def test_processes_measure_what_one_does(benchmark_dir: Path) -> None:
    """The shipped kind of detector travels to other processes, and answers the same there."""
    tiles = load_benchmark(benchmark_dir).tiles("test_defect")[:1]
    judge = Judge(detector=Detector(DetectorNetwork(), 0.5))
    methods = builtin_methods(scale=4)

    alone = measure_split(tiles, methods, judge, jobs=1)
    together = measure_split(tiles, methods, judge, jobs=2)

    assert repr(alone) == repr(together)


def test_a_method_of_another_scale_is_named(benchmark_dir: Path, tmp_path: Path) -> None:
    """A x2 method on a x4 benchmark is an error that says whose."""
    half = upscaler_method("half", lambda lr: lr.repeat(2, 2).repeat(2, 3), scale=2)
    options = Options(out=tmp_path, benchmark=benchmark_dir)

    with pytest.raises(ValueError, match=r"half gave \(128, 128\) uint8 for test_defect/0000"):
        evaluate([half], options, judge=Judge(detector=BlobDetector()))


def test_what_cannot_run_is_said(benchmark_dir: Path, tmp_path: Path) -> None:
    """Nothing to evaluate on, no such split, no detector."""
    judge = Judge(detector=BlobDetector())
    with pytest.raises(EvaluationError, match="neither a benchmark nor real tiles"):
        evaluate([], Options(out=tmp_path), judge=judge)
    with pytest.raises(EvaluationError, match="no split 'million'"):
        evaluate([], Options(out=tmp_path, benchmark=benchmark_dir, split="million"), judge=judge)
    with pytest.raises(EvaluationError, match="needs a detector"):
        evaluate([], Options(out=tmp_path, benchmark=benchmark_dir), judge=None)


def test_every_measured_figure_has_its_column(report: tuple[Report, Path]) -> None:
    """What is measured is shown; without a network and on straight lines some are left out."""
    measured = {key for item in report[0].summaries.values() for key in item.figures}
    absent = {"kernel_distance", "border_kernel_distance", "gmac", "ms", "roughness_ratio"}

    assert {figure.key for figure in FIGURES} - absent == measured
