"""Two models side by side: outcomes, intervals, speed, pictures and the last line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tests.training.evaluation.scenes import BlobDetector, film, grey, lines, shrunk
from training.comparison.two_models.conclusion import conclude
from training.comparison.two_models.pictures import coloured, most_different
from training.comparison.two_models.report import (
    DifferentTile,
    ModelComparison,
    ModelFacts,
    document,
    text_table,
    write_model_comparison,
)
from training.comparison.two_models.rows import (
    MIN_TILES,
    NO_DIRECTION,
    Row,
    compare_figure,
)
from training.comparison.two_models.speed import Speed, measure_speed
from training.comparison.two_models.tiles import (
    OwnComparison,
    TileDifference,
    compare_own,
    difference_of,
    flag_rows,
)
from training.evaluation.compared.methods import Method
from training.evaluation.figure import Figure
from training.evaluation.folders.real_folders import RealPair
from training.evaluation.judging.bootstrap import Estimate, Interval
from training.evaluation.sets.own_tiles import OwnTiles
from training.ground.baselines import bicubic

SPEED = Speed(first_ms=20.0, second_ms=10.0, ratio=Interval(value=2.0, low=1.9, high=2.1), turns=15)


def model(
    name: str,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda sr: sr,
    *,
    residual: float | None = None,
) -> Method:
    """Make a model that changes the bicubic picture."""

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return change(np.clip(np.rint(bicubic(lr, scale=4)), 0, 255).astype(np.uint8))

    method = Method(name=name, role="candidate", render=None, upscale=upscale, scale=4)
    if residual is None:
        return method
    return replace(method, flagged=lambda lr: (upscale(lr), {"residual": residual}))


def blurred(sr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lose all structure."""
    return ndimage.uniform_filter(sr, 61).astype(np.uint8)


def differ(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> dict[str, float]:
    """Measure a difference."""
    return {"edges": float(np.abs(first.astype(int) - second).mean())}


def own_tiles(count: int, *, with_hr: bool = False) -> OwnTiles:
    """Draw tiles with lines and a blob."""
    scenes = [lines(offset_px=3 * n) + film(blobs=[(128, 128, 80.0)]) - 60 for n in range(count)]
    lr = {f"tile {n}.png": shrunk(scene, seed=n) for n, scene in enumerate(scenes)}
    hr = [grey(scene, noise=3.0, seed=50 + n) for n, scene in enumerate(scenes)]
    pairs = [
        RealPair(name=name, lr=tile, hr=picture)
        for (name, tile), picture in zip(lr.items(), hr, strict=True)
    ]
    return OwnTiles(lr=lr, hr=hr, pairs=pairs) if with_hr else OwnTiles(lr=lr)


def compared(first: Method, second: Method, own: OwnTiles) -> OwnComparison:
    """Compare on own tiles with a detector of blobs."""
    return compare_own(own, first, second, compare=differ, detector=BlobDetector())


def row(better: str, first: float, second: float, *, tiles: int = 20, spread: float = 0.1) -> Row:
    """Compare a figure whose draws spread around both values."""
    draws = spread * np.random.default_rng(0).standard_normal(200)
    return compare_figure(
        Figure("figure", "figure", "", better=better),
        Estimate(value=first, samples=first + draws),
        Estimate(value=second, samples=second + draws + spread / 10),
        tiles=tiles,
    )


class TestOutcome:
    """`compare_figure`."""

    @pytest.mark.parametrize(
        ("better", "first", "second", "outcome"),
        [
            ("high", 1.0, 2.0, "better"),
            ("low", 1.0, 2.0, "worse"),
            ("1", 2.0, 1.2, "better"),
            ("1", 1.2, 2.0, "worse"),
            (NO_DIRECTION, 1.0, 2.0, "not judged"),
        ],
    )
    def test_the_wanted_direction_decides(
        self, better: str, first: float, second: float, outcome: str
    ) -> None:
        """More, less, nearer to a value, or nothing."""
        assert row(better, first, second).outcome == outcome

    def test_few_tiles_and_intervals_with_zero_decide_nothing(self) -> None:
        """The interval of a handful of tiles is too narrow."""
        assert row("high", 1.0, 2.0, tiles=MIN_TILES - 1).outcome == "not judged"
        unsure = compare_figure(
            Figure("figure", "figure", ""),
            Estimate(value=1.0, samples=np.array([0.0, 2.0])),
            Estimate(value=1.1, samples=np.array([2.0, 0.0])),
            tiles=20,
        )
        assert unsure.outcome == "undecided"
        no_interval = compare_figure(
            Figure("figure", "figure", ""), Estimate(value=1.0), Estimate(value=2.0), tiles=20
        )
        assert no_interval.outcome == "undecided"


class TestOwnTiles:
    """`compare_own`."""

    def test_a_model_that_loses_structure_is_worse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On the tile, against HR, on pairs, and by the fab's detector."""
        monkeypatch.setattr("training.comparison.two_models.tiles.SET_DRAWS", 60)
        found = compared(model("a"), model("b", blurred), own_tiles(MIN_TILES, with_hr=True))
        rows = {item.key: item for item in found.rows}
        assert rows["consistency"].outcome == "worse"
        assert rows["consistency"].difference.high < 0
        assert rows["correlation"].outcome == "worse"
        assert rows["found_share"].second == 0
        assert rows["found_share"].first > 0.9
        assert rows["spectrum_db"].outcome == "worse"
        assert rows["psnr_db"].outcome == "not judged"
        assert {"detections_per_tile", "noise_ratio", "grey_distance"} <= rows.keys()

    def test_equal_models_differ_in_nothing(self) -> None:
        """Every difference is 0 and none is decided; without HR no figure needs it."""
        found = compared(model("a"), model("b"), own_tiles(MIN_TILES))
        assert {item.outcome for item in found.rows} <= {"undecided", "not judged"}
        assert {item.difference.value for item in found.rows} == {0.0}
        assert "spectrum_db" not in {item.key for item in found.rows}
        assert [tile.differences["edges"] for tile in found.tiles] == [0.0] * MIN_TILES

    def test_flag_rates_are_compared_where_both_have_them(self) -> None:
        """Each is over its own limit, so that no rate is better."""
        calm, flagged = model("a", residual=0.5), model("b", residual=2.0)
        lr = np.zeros((8, 8), np.uint8)
        both, _, _ = difference_of("tile", lr, calm, flagged, differ)
        one, _, _ = difference_of("tile", lr, model("c"), flagged, differ)
        [flags] = flag_rows([both])
        assert (flags.first, flags.second, flags.outcome) == (0.0, 1.0, "not judged")
        assert flag_rows([one]) == []


def test_speeds_are_measured_in_turns() -> None:
    """A machine that slows down slows both: the ratio stays."""
    now_s = 0.0
    calls = 0

    def clock() -> float:
        return now_s

    def timed(seconds: float) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
        def run(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
            nonlocal now_s, calls
            calls += 1
            now_s += seconds * (1 + calls // 8)
            return lr

        return run

    slow, fast = (
        Method(name=name, role="candidate", render=None, upscale=timed(seconds))
        for name, seconds in (("slow", 0.4), ("fast", 0.1))
    )
    speed = measure_speed(slow, fast, np.zeros((8, 8), np.uint8), turns=9, clock=clock)
    assert speed.ratio.low <= speed.ratio.value == pytest.approx(4.0)
    assert speed.ratio.high >= 4.0
    assert speed.first_ms > speed.second_ms


class TestConclusion:
    """The last line."""

    @pytest.mark.parametrize(
        ("rows", "advice"),
        [
            ([row("high", 1.0, 2.0)], "Recommendation: b."),
            ([row("low", 1.0, 2.0)], "Recommendation: keep a."),
            ([row("low", 1.0, 2.0), row("high", 1.0, 2.0)], "each model is better in some"),
            ([row("high", 1.0, 1.0, spread=0.0)], "no interval excludes zero."),
        ],
    )
    def test_it_recommends_only_what_the_intervals_show(self, rows: list[Row], advice: str) -> None:
        """A trade-off and a draw are named as such."""
        line = conclude(["a", "b"], rows, SPEED, tiles=20)
        assert advice in line
        assert "2.00 times as fast (1.90 to 2.10)" in line

    def test_few_tiles_are_named(self) -> None:
        """Instead of a recommendation."""
        line = conclude(["a", "b"], [row("high", 1.0, 2.0, tiles=3)], SPEED, tiles=3)
        assert "No recommendation: 3 tiles are too few, expected at least 8." in line


class TestPictures:
    """The window and the colours of a difference."""

    def test_the_window_shows_the_place_that_changed_not_the_grain(self) -> None:
        """In a picture larger than the window."""
        rng = np.random.default_rng(0)
        first = rng.integers(60, 100, (1200, 1000), dtype=np.uint8)
        second = rng.integers(60, 100, (1200, 1000), dtype=np.uint8)
        second[1100:1160, 900:960] += 90
        rows, columns = most_different(first, second, scale=4)
        assert rows.start <= 1100
        assert rows.stop >= 1160
        assert columns.start <= 900
        assert columns.stop >= 960
        assert (rows.stop - rows.start, columns.stop - columns.start) == (480, 480)

    def test_colours_tell_brighter_from_darker(self) -> None:
        """White where nothing has changed."""
        first = np.full((1, 3), 100, np.uint8)
        shown = coloured(first, np.array([[100, 200, 0]], np.uint8))
        assert [[255, 255, 255], [255, 0, 0], [0, 0, 255]] == shown[0].tolist()


def test_the_report_escapes_names_and_holds_no_nan(tmp_path: Path) -> None:
    """One document, three files; a file name is text in each of them."""
    name = "<b>tile|1.png"
    tile = TileDifference(
        name=name, differences={"edges": float("nan")}, first_flags={}, second_flags={}
    )
    facts = ModelFacts(
        name="a|b", path="p", sha256="0" * 64, size_bytes=1, gmac=None, engine="onnx/fp32"
    )
    comparison = ModelComparison(
        models=[facts, replace(facts, name="<i>")],
        data={"kind": "own tiles", "folder": "f", "tiles": 1},
        rows=[row("high", 1.0, 2.0)],
        flags=[],
        speed=SPEED,
        tiles=[tile],
        most_different=[DifferentTile(tile=tile, picture="pictures/different_01.png")],
    )
    page = write_model_comparison(comparison, tmp_path)
    html, text = page.read_text(), (tmp_path / "models.md").read_text()
    assert "<b>" not in html
    assert "<i>" not in html
    assert "a\\|b" in text
    values = json.loads((tmp_path / "models.json").read_text())
    assert values == document(comparison)
    assert values["kind"] == "semsr-model-comparison"
    assert values["format_version"] == 1
    assert values["recommendation"] == "none"
    assert values["tiles"][0]["differences"] == {"edges": None}
    assert values["conclusion"] in html.replace("&lt;", "<").replace("&gt;", ">")
    assert "figure" in text_table(comparison)
