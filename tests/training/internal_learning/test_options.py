"""Options and presets: what is short, what contradicts, what the command copies."""

from typing import Any

import pytest

from semsr.commands import internal_sr
from training.evaluation.folders.benchmark import SPLITS
from training.internal_learning.options import SCALES, Options, OptionsError, make_options


def test_the_presets_are_those_of_the_publication() -> None:
    """Ideal as the paper and the thesis; measured as the published code for real images."""
    ideal, measured = make_options("ideal"), make_options("measured")

    assert (3000, 128, 8, 64) == (ideal.steps, ideal.crop_px, ideal.layers, ideal.width)
    assert (8, 10, 0.5, 0.25, 0.1) == (
        ideal.views, ideal.back_projections, ideal.min_scale, ideal.shape_sigma, ideal.shear_sigma,
    )  # fmt: skip
    assert ("none", "measured") == (ideal.noise, measured.noise)
    assert (0, False, 1.0) == (measured.back_projections, measured.turns, measured.min_scale)
    assert (9e-6, "size", (4,)) == (ideal.stop, ideal.draw, ideal.scales)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"steps": 4000, "crop_px": 160}, ""),
        ({"steps": 300}, "short: 10 % of the published training, 8 of 8 views"),
        ({"crop_px": 64}, "short: 25 % of the published training, 8 of 8 views"),
        ({"views": 1}, "short: 100 % of the published training, 1 of 8 views"),
    ],
)
def test_less_than_published_is_short(changes: dict[str, Any], words: str) -> None:
    """Fewer steps, smaller crops or fewer views."""
    options = make_options("ideal", **changes)

    assert options.summary.startswith("ZSSR x4, ideal configuration")
    assert options.summary.endswith(words or "configuration")
    assert bool(words) == options.is_short


def test_the_short_preset_is_a_twentieth() -> None:
    """600 of 3,000 steps on a quarter of the pixels; single options still count."""
    summary = make_options("ideal", is_short=True).summary
    assert summary.endswith("short: 5 % of the published training, 1 of 8 views")
    assert 50 == make_options("ideal", is_short=True, steps=50).steps


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scales": (3,)}, "scales are \\(3,\\), expected one of"),
        ({"scales": (4, 2)}, "expected one of"),
        ({"stop": 0.01}, "stop is 0.01, expected less than the start rate 0.001"),
        ({"crop_px": 16}, "crop_px: Input should be greater than or equal to 32"),
        ({"turns": False}, "8 views rotate the tile"),
        ({"stepz": 3}, "stepz"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], words: str) -> None:
    """The error names the option, its value and what was expected."""
    with pytest.raises(OptionsError, match=words):
        make_options("ideal", **changes)


def test_factors_are_relative() -> None:
    """2 and then 4 is twice a doubling."""
    assert [(2,), (4,), (2, 2)] == [
        make_options("measured", scales=scales).factors for scales in SCALES.values()
    ]


def test_every_option_has_a_description() -> None:
    """An option without words is of no use."""
    assert [] == [name for name, field in Options.model_fields.items() if not field.description]


def test_the_command_copies_what_it_names() -> None:
    """The choices of the command are those of the evaluation and of the method."""
    assert (tuple(SPLITS), tuple(SCALES)) == (internal_sr.SPLITS, internal_sr.SCALES)
