"""The record of a comparison: what is kept, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from training.comparison.plan import plan_run
from training.comparison.record import Record, RecordError, asked_of
from training.comparison.systems import System


def asked(recipe: Path, *names: str, minutes: float | None = 5.0, **overrides: str) -> dict:
    """Describe a comparison of the recipe under several names."""
    systems = [
        System(name=name, kind="recipe", path=recipe, overrides=tuple(overrides.values()))
        for name in names
    ]
    return asked_of(systems, minutes=minutes, seeds=1, data=recipe.parent)


def test_second_start_knows_the_plan_and_the_finished_runs(recipe: Path, tmp_path: Path) -> None:
    """Failures are forgotten, so that they are tried again; systems may be added."""
    record = Record(tmp_path / "out", asked(recipe, "a"))
    planned = plan_run(System(name="a", kind="recipe", path=recipe), step_s=0.5, minutes=0.1)
    record.add_plan(planned)
    record.add_run("a-0", 1.234)
    record.add_failure("a-1", "NonFiniteLossError: step 3")
    assert {"a-1": "NonFiniteLossError: step 3"} == record.failed

    again = Record(tmp_path / "out", asked(recipe, "a", "b"))

    assert [planned] == again.plan
    assert ({"a-0": 1.23}, {}) == (again.minutes, again.failed)
    assert {"a", "b"} == set(json.loads(again.path.read_text())["asked"]["recipes"])
    # A start that leaves a system out does not forget it.
    assert [planned] == Record(tmp_path / "out", asked(recipe, "b")).plan


def test_other_budget_or_recipe_is_refused(recipe: Path, tmp_path: Path) -> None:
    """Trainings of different budgets must not stand in one table."""
    Record(tmp_path / "out", asked(recipe, "a"))
    with pytest.raises(RecordError, match=r"another minutes; .*--overwrite"):
        Record(tmp_path / "out", asked(recipe, "a", minutes=6.0))
    with pytest.raises(RecordError, match=r"another recipe of a;"):
        Record(tmp_path / "out", asked(recipe, "a", seed="optimization.seed=4"))
    assert [] == Record(tmp_path / "out", asked(recipe, "a", minutes=6.0), overwrite=True).plan


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format_version": 2}, "format_version 2; expected 1"), ({"kind": "x"}, "kind 'x'")],
)
def test_unknown_record_is_refused(
    recipe: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """Formats are checked, never guessed."""
    record = Record(tmp_path, asked(recipe, "a"))
    document = json.loads(record.path.read_text())
    record.path.write_text(json.dumps({**document, **change}))
    with pytest.raises(RecordError, match=message):
        Record(tmp_path, asked(recipe, "a"))
    record.path.write_text("{")
    with pytest.raises(RecordError, match="is not JSON"):
        Record(tmp_path, asked(recipe, "a"))


def test_damaged_record_is_refused(recipe: Path, tmp_path: Path) -> None:
    """A plan with other fields, or none at all, is a clear error."""
    record = Record(tmp_path, asked(recipe, "a"))
    document = json.loads(record.path.read_text())
    for change in ({"plan": {"a": {"name": "a", "size": 3}}}, {"asked": {}}, {"runs": 3}):
        record.path.write_text(json.dumps({**document, **change}))
        with pytest.raises(RecordError, match="lacks or misstates"):
            Record(tmp_path, asked(recipe, "a"))


def test_plan_survives_the_file(recipe: Path, tmp_path: Path) -> None:
    """Every fact of a planned run comes back."""
    record = Record(tmp_path, asked(recipe, "a"))
    planned = plan_run(System(name="a", kind="recipe", path=recipe), step_s=0.5, minutes=None)
    planned = replace(planned, changes=("generator.name=grain_sr",))
    record.add_plan(planned)
    assert [planned] == Record(tmp_path, asked(recipe, "a")).plan
