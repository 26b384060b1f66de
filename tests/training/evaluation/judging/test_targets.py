"""Targets: on either side of every limit, and where their figures are missing."""

import io
from dataclasses import replace

import numpy as np
import pytest

from training.evaluation.compared.methods import BICUBIC, MATCHED, TRUE_HR, Method, Role
from training.evaluation.judging.bootstrap import Estimate
from training.evaluation.judging.comparison import compare_methods
from training.evaluation.judging.summary import MethodSummary
from training.evaluation.judging.targets import Target, judge_targets, missed
from training.evaluation.measures.detection import Scores
from training.evaluation.report.tables import write_comparisons, write_kinds, write_targets

SCORES = Scores(
    hits=np.zeros(0),
    hit_tiles=np.zeros(0, int),
    alarms=np.zeros(0),
    alarm_tiles=np.zeros(0, int),
    num_hit_tiles=0,
    num_alarm_tiles=0,
)
GOOD = {
    "recall_unseen": 0.90,
    "alarms_per_tile": 0.25,
    "froc_area": 0.9,
    "spectrum_db": 1.0,
    "border_spectrum_db": 0.6,
    "contrast_ratio": 0.85,
    "correlation_min": 0.5,
    "edge_placement_px": 0.2,
    "cd_bias_px": -0.1,
    "roughness_ratio": 0.9,
}


def _summary(figures: dict[str, float], *, noise: float = 0.01) -> MethodSummary:
    samples = noise * np.linspace(-1, 1, 101)
    return MethodSummary(
        figures={key: Estimate(value=v, samples=v + samples) for key, v in figures.items()},
        recall_by_kind={},
        scores=SCORES,
        spectra={},
    )


def _judge(
    change: dict[str, float] | None = None,
    *,
    gmac: float = 10.0,
    baseline_area: float = 0.6,
    seeds: tuple[dict[str, float], ...] = (),
) -> list[Target]:
    figures = {
        BICUBIC: {"froc_area": 0.4, "correlation_min": 0.4},
        MATCHED: {"froc_area": 0.5, "recall_at_0.1": 0.7},
        "old": {"froc_area": baseline_area},
        "mine": GOOD | (change or {}),
        TRUE_HR: {"recall_unseen": 0.98, "alarms_per_tile": 0.1, "recall_at_0.1": 0.96},
    }
    figures |= {f"mine {n}": GOOD | other for n, other in enumerate(seeds)}
    methods = [
        Method(
            name=name,
            role="candidate" if "mine" in name else "baseline" if name == "old" else "built-in",
            render=None,
            group="mine" if seeds and "mine" in name else None,
            gmac=gmac,
        )
        for name in figures
    ]
    return judge_targets(methods, {name: _summary(values) for name, values in figures.items()})


def test_a_good_method_passes_everything() -> None:
    """Fourteen targets of the method, three comparisons among them, and two of the benchmark."""
    targets = _judge()

    assert ["passed"] * 16 == [target.status for target in targets]
    assert [] == missed(targets)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"recall_unseen": 0.88}, "recall of unseen kinds, of that on true HR"),
        ({"alarms_per_tile": 0.31}, "false alarms a tile beyond those on true HR"),
        ({"froc_area": 0.89}, "FROC area"),
        ({"spectrum_db": 1.01}, "background spectrum distance"),
        ({"border_spectrum_db": 0.61}, "background spectrum distance, outer 16 px"),
        ({"contrast_ratio": 0.84}, "defect contrast ratio, median"),
        ({"contrast_ratio": 1.16}, "defect contrast ratio, median"),
        ({"correlation_min": 0.39}, "worst local correlation of a defect"),
        ({"edge_placement_px": 0.21}, "edge placement error, median"),
        ({"cd_bias_px": -0.11}, "CD bias"),
        ({"cd_bias_px": 0.11}, "CD bias"),
        ({"roughness_ratio": 0.84}, "roughness of edges over the true one"),
        ({"roughness_ratio": 1.16}, "roughness of edges over the true one"),
    ],
)
def test_each_limit_can_be_missed(change: dict[str, float], name: str) -> None:
    """Just beyond a limit, that target alone is missed."""
    assert [name] == [target.name for target in missed(_judge(change))]


def test_the_network_may_cost_fifteen_gmac() -> None:
    """More is missed."""
    assert [] == missed(_judge(gmac=15.0))
    assert ["GMAC a tile"] == [target.name for target in missed(_judge(gmac=15.1))]


def test_named_baselines_must_be_beaten_beyond_chance() -> None:
    """A tie with a baseline is a miss, by name."""
    assert ["FROC area above old"] == [t.name for t in missed(_judge(baseline_area=0.95))]


def test_the_worst_seed_stands_for_all() -> None:
    """One seed of several that misses a target misses it for the method."""
    targets = _judge(seeds=({}, {"spectrum_db": 3.0}))

    assert [("mine 1", "background spectrum distance")] == [
        (target.subject, target.name) for target in missed(targets)
    ]
    assert 16 == len(targets)


def test_figures_that_are_missing_are_not_applicable() -> None:
    """Without line scenes there are no edges to judge, which is no failure."""
    targets = judge_targets(
        [Method(name="mine", role="candidate", render=None)], {"mine": _summary({})}
    )

    assert {"not applicable"} == {target.status for target in targets}


def test_targets_are_written_one_a_line() -> None:
    """Status first, then what was measured and required."""
    file = io.StringIO()

    write_targets(_judge({"spectrum_db": 3.0}), file=file)

    lines = file.getvalue().splitlines()
    assert 16 == len(lines)
    [line] = [line for line in lines if line.startswith("missed")]
    assert "mine: background spectrum distance: 3.000 [2.990, 3.010] dB (required: ≤ 1 dB)" in line


def test_recall_is_written_by_kind_of_defect() -> None:
    """One row a method, one column a kind with its number of defects; nothing without defects."""
    rows = {
        name: replace(_summary({}), recall_by_kind={"drying_ring": (recall, 88), "void": (1.0, 2)})
        for name, recall in (("mine", 0.75), (TRUE_HR, 1.0))
    }
    file, empty = io.StringIO(), io.StringIO()

    write_kinds(rows, file=file)
    write_kinds({"mine": _summary({})}, file=empty)

    head, mine, truth = (line.split("  ") for line in file.getvalue().splitlines())
    assert ["recall by kind", "drying_ring (88)", "void (2)"] == head
    assert ["mine", "0.75", "1.00"] == [cell.strip() for cell in mine if cell.strip()]
    assert [TRUE_HR, "1.00", "1.00"] == [cell.strip() for cell in truth if cell.strip()]
    assert "" == empty.getvalue()


def test_a_cheaper_network_may_be_asked_for() -> None:
    """`--max-gmac 4` judges `fast` by its own limit."""
    methods = [Method(name="mine", role="candidate", render=None, gmac=4.1)]
    summaries = {"mine": _summary(GOOD)}

    for limit, expected in ((4.0, "missed"), (5.0, "passed")):
        status = {t.name: t.status for t in judge_targets(methods, summaries, max_gmac=limit)}
        assert expected == status["GMAC a tile"]


def test_other_methods_are_compared_with_the_first_candidate() -> None:
    """Paired differences: what both share cancels, and true HR and bicubic are left out."""
    names: dict[str, Role] = {
        "fast": "candidate",
        "default": "candidate",
        "old": "baseline",
        "bicubic": "built-in",
    }
    methods = [Method(name=name, role=role, render=None) for name, role in names.items()]
    figures = {"recall_unseen": 0.80, "alarms_per_tile": 0.3}
    summaries = {name: _summary(figures) for name in names}
    summaries["default"] = _summary({"recall_unseen": 0.83, "alarms_per_tile": 0.1})

    found = compare_methods(methods, summaries)
    file = io.StringIO()
    write_comparisons(found, file=file)

    assert [("default", "recall_unseen"), ("default", "alarms_per_tile")] == [
        (item.method, item.key) for item in found[:2]
    ]
    assert {"default", "old"} == {item.method for item in found}
    assert {"fast"} == {item.first for item in found}
    assert 0.03 == pytest.approx(found[0].difference.value)
    assert 0.03 == pytest.approx(found[0].difference.low)
    lines = file.getvalue().splitlines()
    assert (
        "default less fast: recall, unseen kinds: +0.030 [+0.030, +0.030] (value 0.830)" == lines[0]
    )
    assert [] == compare_methods(methods[2:], summaries)
