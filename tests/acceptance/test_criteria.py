"""The criteria of an acceptance: their limits, and what is not judged."""

from typing import Any

import pytest

from semsr.acceptance.criteria import Criterion, is_accepted, judge_criteria

NEW = "new model"
OWN = {
    "method": NEW,
    "tiles": 4,
    "spectrum_db": 1.4,
    "noise_ratio": 1.0,
    "flat_grain_db": 0.9,
    "edge_grain": 1.1,
    "outlines_lost": 0,
    "outlines_invented": 1,
    "residual_share": 0.25,
    "domain_share": 0.0,
    "detections_per_tile": None,
}
PAIR = {"method": NEW, "pairs": 4, "correlation": 0.98, "found_share": None, "extra_per_tile": None}
PARITY = {"fp32": {"max_error": 1.0, "psnr_db": 90.0, "tiles": 90}}


def figures(own: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the figures of an acceptance whose model keeps every limit."""
    bicubic = {**PAIR, "method": "bicubic", "correlation": 0.95}
    baseline = {**PAIR, "method": "default", "correlation": 0.985}
    return {
        "methods": [
            {"name": "bicubic", "role": "built-in"},
            {"name": "default", "role": "baseline"},
            {"name": NEW, "role": "candidate"},
        ],
        "figures": [{**OWN, "method": "bicubic"}, {**OWN, **(own or {})}],
        "floors": {},
        "spread": {},
        "made_pairs": [bicubic, baseline, PAIR],
        "pairs": [],
        **changes,
    }


def missed(found: dict[str, Any]) -> list[str]:
    """Return the names of the missed criteria."""
    return [item.name for item in judge(found) if item.status == "missed"]


def judge(found: dict[str, Any]) -> list[Criterion]:
    """Judge figures."""
    return judge_criteria(found, PARITY, new=NEW)


def test_a_good_model_is_accepted() -> None:
    """One of four tiles beyond the residual limit is allowed."""
    assert is_accepted(judge(figures()))


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ({"spectrum_db": 1.6}, "background spectrum"),
        ({"noise_ratio": 0.7}, "noise over that of HR"),
        ({"noise_ratio": 1.3}, "noise over that of HR"),
        ({"flat_grain_db": 1.1}, "grain of flat places"),
        ({"edge_grain": 1.4}, "grain at edges over that of flats"),
        ({"outlines_lost": 1}, "outlines of d' ≥ 11 lost"),
        ({"outlines_invented": 3}, "outlines invented, a tile"),
        ({"residual_share": 0.5}, "share of tiles beyond the residual limit"),
        ({"domain_share": 0.5}, "share of tiles beyond the domain limit"),
    ],
)
def test_each_figure_of_own_tiles_has_a_limit(own: dict[str, Any], name: str) -> None:
    """One figure beyond its limit is enough to refuse a model."""
    assert [name] == missed(figures(own))
    assert not is_accepted(judge(figures(own)))


def test_the_spread_of_hr_relaxes_the_look() -> None:
    """A model may be as far from HR as a few HR images are."""
    spread = {
        "count": 4.0,
        "spectrum_db": 3.0,
        "flat_grain_db": 2.0,
        "noise_low": 0.6,
        "noise_high": 1.5,
    }
    own = {"spectrum_db": 2.9, "flat_grain_db": 1.9, "noise_ratio": 0.65}

    assert [] == missed(figures(own, spread=spread))
    assert 3 == len(missed(figures(own)))


def test_pairs_must_beat_bicubic_and_keep_up_with_the_baseline() -> None:
    """A hundredth below the baseline is allowed, more is not."""
    rows = figures()["made_pairs"]
    worse = [rows[0], {**rows[1], "correlation": 0.995}, rows[2]]
    least = [{**rows[0], "correlation": 0.99}, {**rows[1], "correlation": 0.985}, rows[2]]

    assert ["local correlation with HR, against default"] == missed(figures(made_pairs=worse))
    assert ["local correlation with HR, above bicubic's"] == missed(figures(made_pairs=least))


def test_a_missing_figure_is_not_judged() -> None:
    """It neither passes nor fails."""
    items = {item.name: item for item in judge(figures({"edge_grain": None}))}

    assert "not judged" == items["grain at edges over that of flats"].status
    assert "–" == items["grain at edges over that of flats"].measured
    assert is_accepted(list(items.values()))


def test_own_detector_is_compared_with_hr() -> None:
    """Alarms beyond those on HR, and detections of HR that get lost, are missed criteria."""
    rows = [
        {**row, "found_share": share, "extra_per_tile": extra}
        for row, share, extra in zip(
            figures()["made_pairs"], (0.7, 0.9, 0.6), (0.0, 0.0, 0.5), strict=True
        )
    ]
    found = figures(
        {"detections_per_tile": 1.3}, floors={"detections_per_tile": 1.0}, made_pairs=rows
    )

    assert [
        "detections a tile, on held-out tiles",
        "share of HR's detections found, pairs made of held-out HR",
        "further detections a pair, pairs made of held-out HR",
    ] == missed(found)
