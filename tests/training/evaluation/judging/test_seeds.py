"""Seeds: spread, share of the way from bicubic to true HR, and the worst of them."""

import pytest

from tests.training.evaluation.judging.test_targets import _summary
from training.evaluation.compared.methods import BICUBIC, TRUE_HR, Method
from training.evaluation.judging.seeds import seed_spreads


def _method(name: str, group: str | None = None) -> Method:
    return Method(name=name, role="candidate", render=None, group=group)


def test_spread_share_and_worst_of_each_figure() -> None:
    """Worst is the smallest recall, the largest distance, the bias farthest from zero."""
    figures = {
        BICUBIC: {"recall": 0.4, "spectrum_db": 18.0, "cd_bias_px": 2.5, "thinness": 0.4},
        "a": {"recall": 0.90, "spectrum_db": 1.5, "cd_bias_px": -0.4, "thinness": 0.58},
        "b": {"recall": 0.85, "spectrum_db": 2.0, "cd_bias_px": 0.2, "thinness": 0.70},
        "alone": {"recall": 0.1},
        TRUE_HR: {"recall": 0.9, "spectrum_db": 0.5, "cd_bias_px": 0.0, "thinness": 0.6},
    }
    methods = [
        _method(BICUBIC),
        _method("a", "g"),
        _method("b", "g"),
        _method("alone", "h"),
        _method(TRUE_HR),
    ]

    spreads = seed_spreads(methods, {name: _summary(item) for name, item in figures.items()})

    found = {item.key: item for item in spreads}
    assert {"g"} == {item.group for item in spreads}
    assert {"recall", "spectrum_db", "cd_bias_px", "thinness"} == set(found)
    assert (0.05, 0.10, 0.85) == pytest.approx(
        (found["recall"].spread, found["recall"].share, found["recall"].worst)
    )
    assert (0.5 / 17.5, 2.0) == pytest.approx(
        (found["spectrum_db"].share, found["spectrum_db"].worst)
    )
    assert (-0.4, 0.70) == (found["cd_bias_px"].worst, found["thinness"].worst)
