"""Verdicts on made figures: what counts as better, and what does not count."""

import numpy as np
import pytest
from pydantic import ValidationError

from training.comparison.expectations import (
    Claim,
    Expectation,
    check,
    load_expectations,
)
from training.comparison.verdicts import Outcome, judge
from training.config.recipe import RECIPES
from training.evaluation.compared.methods import BICUBIC, TRUE_HR
from training.evaluation.figures import BY_KEY
from training.evaluation.judging.bootstrap import Estimate
from training.evaluation.judging.summary import MethodSummary
from training.evaluation.measures.detection import Scores

DRAWS = 400


def summary(**figures: tuple[float, float]) -> MethodSummary:
    """Make a method's figures: value and deviation of each, samples drawn independently."""
    made = {
        key: Estimate(
            value=value,
            samples=value + spread * np.random.default_rng(len(key)).standard_normal(DRAWS),
        )
        for key, (value, spread) in figures.items()
    }
    nothing = np.zeros(0)
    scores = Scores(
        hits=nothing,
        alarms=nothing,
        hit_tiles=nothing.astype(int),
        alarm_tiles=nothing.astype(int),
        num_hit_tiles=0,
        num_alarm_tiles=0,
    )
    return MethodSummary(figures=made, recall_by_kind={}, scores=scores, spectra={})


def outcome(
    key: str, ours: float, theirs: float, *, short: tuple[str, ...] = (), truth: float = 1.0
) -> Outcome:
    """Judge one figure without noise of the tiles."""
    summaries = {
        "ours": summary(**{key: (ours, 0.0)}),
        "theirs": summary(**{key: (theirs, 0.0)}),
        TRUE_HR: summary(**{key: (truth, 0.0)}),
    }
    [verdict] = judge(["ours", "theirs"], summaries, short=short)
    assert (ours, theirs) == (verdict.first, verdict.value)
    return verdict.outcome


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("recall_unseen", 0.9, 0.8),  # more is better
        ("spectrum_db", 0.5, 3.0),  # less is better
        ("contrast_ratio", 1.05, 0.8),  # near 1 is better
        ("cd_bias_px", -0.1, 0.3),  # near 0 is better
    ],
)
def test_better_is_what_the_figure_says(key: str, good: float, bad: float) -> None:
    """More, less, or nearer to the wanted value."""
    assert ("better", "worse") == (outcome(key, good, bad), outcome(key, bad, good))
    assert "undecided" == outcome(key, good, good)


def test_short_training_is_never_beaten_but_can_win() -> None:
    """A longer one might be better; it would not be worse for certain."""
    assert "not judged" == outcome("recall_unseen", 0.9, 0.5, short=("theirs",))
    assert "not judged" == outcome("recall_unseen", 0.9, 0.9, short=("theirs",))
    assert "worse" == outcome("recall_unseen", 0.5, 0.9, short=("theirs",))


def test_the_first_system_is_not_beaten_either_when_its_training_was_short() -> None:
    """Of two short ones, neither is beaten."""
    assert "not judged" == outcome("recall_unseen", 0.5, 0.9, short=("ours",))
    assert "better" == outcome("recall_unseen", 0.9, 0.5, short=("ours",))
    for ours, theirs in ((0.5, 0.9), (0.9, 0.5)):
        assert "not judged" == outcome("recall_unseen", ours, theirs, short=("ours", "theirs"))


def test_figures_that_are_no_numbers_decide_nothing() -> None:
    """A figure that could not be measured is neither better nor worse."""
    assert "undecided" == outcome("recall_unseen", float("nan"), 0.5)
    assert "undecided" == outcome("grey_distance", 0.5, float("nan"))


def test_difference_within_the_noise_of_the_tiles_is_undecided() -> None:
    """The interval of the paired difference includes zero."""
    rng = np.random.default_rng(1)
    summaries = {
        name: MethodSummary(
            figures={
                "froc_area": Estimate(value=value, samples=value + 0.05 * rng.normal(size=DRAWS))
            },
            recall_by_kind={},
            scores=summary().scores,
            spectra={},
        )
        for name, value in (("ours", 0.82), ("theirs", 0.80), (TRUE_HR, 0.99))
    }
    [verdict] = judge(["ours", "theirs"], summaries, short=())
    assert "undecided" == verdict.outcome
    assert verdict.advantage.low < 0 < verdict.advantage.value < verdict.advantage.high


def status(is_: str, ours: float, theirs: float, *, within: float = 0.0) -> str:
    """Check one claim about the recall of two systems."""
    claim = Claim.model_validate(
        {"figure": "recall_unseen", "than": "b", "is": is_, "within": within}
    )
    expectation = Expectation(system="a", thesis="words", claims=[claim])
    summaries = {
        "a #1": summary(recall_unseen=(ours, 0.0)),
        "b": summary(recall_unseen=(theirs, 0.0)),
        TRUE_HR: summary(recall_unseen=(1.0, 0.0)),
    }
    [checked] = check([expectation], summaries, rows={"a": "a #1", "b": "b"}, short={"b"})
    assert checked.is_short
    return checked.status


@pytest.mark.parametrize(
    ("is_", "ours", "theirs", "expected"),
    [
        ("better", 0.9, 0.8, "confirmed"),
        ("better", 0.8, 0.9, "refuted"),
        ("better", 0.8, 0.8, "not decided"),
        ("worse", 0.8, 0.9, "confirmed"),
        ("worse", 0.9, 0.8, "refuted"),
        ("near", 0.85, 0.8, "confirmed"),
        ("near", 0.95, 0.8, "refuted"),
        ("near", 0.65, 0.8, "refuted"),
    ],
)
def test_claims_are_confirmed_or_refuted(
    is_: str, ours: float, theirs: float, expected: str
) -> None:
    """By the paired interval."""
    assert expected == status(is_, ours, theirs, within=0.1 if is_ == "near" else 0.0)


def test_claims_about_absent_systems_are_left_out() -> None:
    """A comparison of two systems says nothing about the others."""
    assert [] == check(load_expectations(), {}, rows={}, short=())


def test_shipped_verdicts_name_recipes_and_figures_that_exist() -> None:
    """A claim about a misspelt name would never be checked."""
    recipes = {path.stem for path in RECIPES.glob("*.toml")}
    pictures = {"zssr", "pix2pix_zssr_n1", "pix2pix_zssr_unet128"}
    for expectation in load_expectations():
        for claim in expectation.claims:
            assert {expectation.system, claim.than} <= recipes | pictures | {BICUBIC}
            assert claim.figure in BY_KEY


def test_malformed_verdicts_are_refused() -> None:
    """An unknown word is an error."""
    with pytest.raises(ValidationError):
        Claim.model_validate({"figure": "recall", "than": "b", "is": "bigger"})
    with pytest.raises(ValidationError, match="not contrast_ratio"):
        Claim.model_validate({"figure": "contrast_ratio", "than": "b", "is": "near"})
