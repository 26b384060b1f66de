"""The list of figures: complete, explained and documented."""

import re
from pathlib import Path

from training.evaluation.figures import FIGURES, SECTIONS

PAGE = Path(__file__).parents[3] / "docs" / "evaluation.md"


def test_every_figure_is_explained_and_documented() -> None:
    """In the report by a line, on the page by its key; and the page names no other."""
    keys = [figure.key for figure in FIGURES]
    page = PAGE.read_text(encoding="utf-8")
    explained = page[page.index("## Detection") : page.index("## Seeds")]
    documented = set(re.findall(r"`([a-z][a-z0-9_.]+)`", explained)) - {"reference_hr"}

    assert len(set(keys)) == len(keys)
    assert set(keys) == documented
    assert [] == [figure.key for figure in FIGURES if not figure.meaning]


def test_every_figure_has_a_table_and_an_aim() -> None:
    """A table without a column would never be shown."""
    assert all(section.figures for section in SECTIONS)
    assert {figure.better for figure in FIGURES} <= {"high", "low", "0", "1", "true HR"}
