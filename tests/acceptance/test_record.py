"""The record of an acceptance: what counts as finished, and which changes it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from semsr.acceptance.layout import Layout
from semsr.acceptance.record import Record, RecordError
from semsr.acceptance.stages import FolderError, only_here, prepare_folder

ASKED: dict[str, Any] = {
    "options": {"--seed": 0, "--window": None},
    "budget": {"--steps": 20},
    "bundle": {"--precision": ["fp32", "fp16"]},
    "detector": {"--detector": None},
    "files": {"--sources": None, "--baseline": "b" * 64},
    "recipe": {"optimization": {"batch_size": 2}},
    "LR": {"a.png": "1", "b.png": "2"},
    "HR": {"c.png": "3"},
    "pairs": {},
    "code": {"sha256": "x"},
    "versions": {"torch": "2"},
}


def changed(section: str, **values: object) -> dict[str, Any]:
    """Return what is asked with another section."""
    return {**ASKED, section: {**ASKED[section], **values}}


def finished(tmp_path: Path) -> Record:
    """Return a record with two finished stages."""
    record = Record(tmp_path / "accept.json", ASKED)
    for stage in ("check", "split"):
        (tmp_path / f"{stage}.json").write_text(stage)
        record.begin(stage)
        record.finish(stage, [tmp_path / f"{stage}.json"], seconds=1.5)
    return record


def test_finished_stages_survive_a_restart(tmp_path: Path) -> None:
    """The times too."""
    finished(tmp_path)

    again = Record(tmp_path / "accept.json", ASKED)

    assert again.is_finished("check")
    assert again.is_finished("split")
    assert not again.is_finished("estimate")
    assert {"check": 1.5, "split": 1.5} == again.seconds


def test_nothing_is_on_record_before_the_first_stage_is_finished(tmp_path: Path) -> None:
    """Refused images may be exchanged."""
    Record(tmp_path / "accept.json", ASKED).begin("check")

    assert not (tmp_path / "accept.json").exists()
    Record(tmp_path / "accept.json", changed("LR", **{"b.png": "9"})).begin("check")


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_stage_whose_file_changed_runs_again_with_those_after_it(
    tmp_path: Path, damage: str
) -> None:
    """A stage's output is the input of the next."""
    record = finished(tmp_path)
    path = tmp_path / "check.json"
    if damage == "changed":
        path.write_text("other")
    else:
        path.unlink()

    assert not record.is_finished("check")
    record.begin("check")
    path.write_text("other")
    record.finish("check", [path], seconds=1.0)
    assert not record.is_finished("split")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (changed("options", **{"--seed": 1}), "--seed was 0, is 1"),
        (changed("options", **{"--window": [0, 9]}), "--window was not given, is [0, 9]"),
        (changed("LR", **{"b.png": "9"}), "LR: b.png has changed"),
        (changed("LR", **{"z.png": "9"}), "LR: z.png is new"),
        ({**ASKED, "HR": {}}, "HR: c.png is missing"),
        (changed("files", **{"--sources": "d" * 64}), "--sources: the file was not given"),
        (changed("files", **{"--baseline": "e" * 64}), "--baseline: the file differs"),
        (changed("recipe", optimization={"batch_size": 4}), "optimization.batch_size was 2, is 4"),
        (changed("code", sha256="y"), "source files differ"),
        (changed("versions", torch="3"), "package torch was 2, is 3"),
    ],
)
def test_a_change_is_refused_by_name(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    """The error says what differs, and how to start again."""
    finished(tmp_path)

    with pytest.raises(RecordError, match="--overwrite") as error:
        Record(tmp_path / "accept.json", asked)

    assert message in str(error.value)


def test_the_budget_may_change_until_the_plan_is_made(tmp_path: Path) -> None:
    """A budget that was too small needs no second check of the images."""
    finished(tmp_path)
    larger = changed("budget", **{"--steps": 30})

    record = Record(tmp_path / "accept.json", larger)
    assert record.is_finished("split")
    record.begin("plan")
    record.finish("plan", [], seconds=1.0)

    assert Record(tmp_path / "accept.json", larger).is_finished("plan")
    with pytest.raises(RecordError, match="--steps was 30, is 20"):
        Record(tmp_path / "accept.json", ASKED)


@pytest.mark.parametrize(
    ("stage", "section", "values", "message"),
    [
        ("export", "bundle", {"--precision": ["fp32"]}, "--precision was ['fp32'], is"),
        ("evaluate", "detector", {"--detector": "d" * 64}, "--detector: the file is not given now"),
    ],
)
def test_what_follows_the_training_may_change_until_then(
    tmp_path: Path, stage: str, section: str, values: dict[str, object], message: str
) -> None:
    """A graph beyond its gate or a detector that fails must not cost hours of training."""
    record = finished(tmp_path)
    for name in ("plan", "train"):
        record.begin(name)
        record.finish(name, [], seconds=1.0)
    other = changed(section, **values)

    record = Record(tmp_path / "accept.json", other)
    assert record.is_finished("train")
    record.begin(stage)
    record.finish(stage, [], seconds=1.0)

    with pytest.raises(RecordError) as error:
        Record(tmp_path / "accept.json", ASKED)
    assert message in str(error.value)


def test_many_changes_are_counted(tmp_path: Path) -> None:
    """Of a hundred new files the first few are named."""
    finished(tmp_path)
    many = changed("LR", **{f"{number}.png": "0" for number in range(100)})

    with pytest.raises(RecordError, match="and 92 more"):
        Record(tmp_path / "accept.json", many)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "not a record"),
        ('{"kind": "semsr-comparison"}', "has kind 'semsr-comparison'"),
        ('{"kind": "semsr-acceptance", "format_version": 9}', "has format_version 9"),
        ('{"kind": "semsr-acceptance", "format_version": 1}', "lacks or misstates"),
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Nothing is guessed."""
    (tmp_path / "accept.json").write_text(text)

    with pytest.raises(RecordError, match=message):
        Record(tmp_path / "accept.json", ASKED)


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second is refused while the first is at work, and let in afterwards."""
    layout = Layout(tmp_path / "out")
    with (
        only_here(layout),
        pytest.raises(FolderError, match="another semsr accept"),
        only_here(layout),
    ):
        pass
    with only_here(layout):
        pass


def test_a_start_that_was_killed_before_its_first_record_is_no_obstacle(tmp_path: Path) -> None:
    """What it left is removed."""
    layout = Layout(tmp_path)
    (layout.data / "training").mkdir(parents=True)
    layout.check.write_text("{}")

    prepare_folder(layout, overwrite=False)

    assert [] == list(tmp_path.iterdir())


def test_other_files_are_never_removed(tmp_path: Path) -> None:
    """A folder of something else is refused; --overwrite removes what semsr accept wrote."""
    layout = Layout(tmp_path / "out")
    layout.root.mkdir()
    (layout.root / "mine.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"mine\.txt"):
        prepare_folder(layout, overwrite=True)

    layout.record.write_text(json.dumps({}))
    (layout.run / "samples").mkdir(parents=True)
    (layout.root / ".0123456789abcdef.part.json").write_text("cut")
    prepare_folder(layout, overwrite=True)

    assert ["mine.txt"] == [path.name for path in layout.root.iterdir()]
