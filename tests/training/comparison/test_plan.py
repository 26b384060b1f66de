"""Systems as given, and the steps that fit into a budget."""

from pathlib import Path

import pytest

from training.comparison import plan
from training.comparison.plan import Data, plan_run, time_steps
from training.comparison.runs import jobs_of
from training.comparison.systems import TAKEN, System, parse_systems
from training.config.recipe import ConfigError, find_recipe
from training.evaluation.compared.methods import BICUBIC, MATCHED, TRUE_HR


def system(recipe: Path, *overrides: str) -> System:
    """Return the recipe as a system."""
    return System(name="small", kind="recipe", path=recipe, overrides=overrides)


def test_kinds_of_systems_are_told_by_their_paths(recipe: Path, tmp_path: Path) -> None:
    """A recipe may have no name; a shipped one is found by its name."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/manifest.json").touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "c.safetensors").touch()

    systems = parse_systems(
        [
            str(recipe),
            "tiny",
            f"mine={recipe}",
            f"b={tmp_path}/bundle",
            f"p={tmp_path}/pictures",
            f"c={tmp_path}/c.safetensors",
        ],
        ["optimization.seed=3", "mine:optimization.steps=4"],
    )

    kinds = ["recipe", "recipe", "recipe", "bundle", "pictures", "checkpoint"]
    assert kinds == [of.kind for of in systems]
    assert ["small", "tiny", "mine", "b", "p", "c"] == [of.name for of in systems]
    assert [(3, 40), (3, 4)] == [
        (of.recipe().optimization.seed, of.recipe().optimization.steps) for of in systems[::2][:2]
    ]


@pytest.mark.parametrize(
    ("texts", "overrides", "message"),
    [
        (["tiny", "tiny"], [], "two systems are called 'tiny'"),
        (["=x"], [], "'=x' names no system; expected RECIPE or NAME=PATH"),
        (["tiny"], ["tny:optimization.steps=4"], "names no system; there are tiny"),
        (["b=."], ["b:optimization.steps=4"], "b is not a recipe"),
        (["docs"], [], "'docs' has no name; expected NAME=docs"),
        (["../a=tiny"], [], "'../a'; expected a name without slashes"),
        (["true HR=tiny"], [], "other than bicubic, bicubic .* histogram match, true HR"),
    ],
)
def test_wrong_systems_are_refused(texts: list[str], overrides: list[str], message: str) -> None:
    """The error names the argument."""
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        parse_systems(texts, overrides)


def test_names_of_built_in_rows_are_known() -> None:
    """A system of such a name would be refused only after its training."""
    assert (BICUBIC, MATCHED, TRUE_HR) == TAKEN


def test_run_has_as_many_steps_as_fit(recipe: Path) -> None:
    """Two seconds a step: half a minute holds 15 of the recipe's 40 steps."""
    planned = plan_run(system(recipe), step_s=2.0, minutes=0.5)

    assert (15, 40) == (planned.steps, planned.whole_steps)
    assert planned.share == pytest.approx(15 / 40)
    assert planned.is_short
    assert planned.minutes == pytest.approx(0.5)
    assert planned.whole_minutes == pytest.approx(80 / 60)


@pytest.mark.parametrize("minutes", [None, 1000.0])
def test_no_run_is_longer_than_its_recipe(recipe: Path, minutes: float | None) -> None:
    """A large budget gives the whole schedule."""
    planned = plan_run(system(recipe), step_s=2.0, minutes=minutes)

    assert (40, 1.0, False) == (planned.steps, planned.share, planned.is_short)


def test_share_is_of_pixels_and_of_the_recipe_as_it_is_in_its_file(recipe: Path) -> None:
    """Half of the batch, half of the crops' side, or fewer steps are less of the schedule."""
    half = plan_run(system(recipe, "optimization.batch_size=1"), step_s=1.0, minutes=None)
    shorter = plan_run(system(recipe, "optimization.steps=10"), step_s=1.0, minutes=None)
    smaller = plan_run(system(recipe, "optimization.crop_px=8"), step_s=1.0, minutes=None)

    assert (0.25, 160) == (smaller.share, smaller.whole_steps)
    assert (0.5, 80) == (half.share, half.whole_steps)
    assert (0.25, 40) == (shorter.share, shorter.whole_steps)
    assert half.is_short
    assert shorter.is_short


def test_smaller_network_is_short_too(recipe: Path) -> None:
    """A whole schedule of a network that the recipe does not have is not its result."""
    override = "generator.hyper_parameters.channels=2"
    planned = plan_run(system(recipe, override), step_s=1.0, minutes=None)

    assert ((override,), 1.0, True) == (planned.changes, planned.share, planned.is_short)


def test_whole_schedules_need_no_timing(recipe: Path) -> None:
    """Their length is known; only the time that they take is not."""
    planned = plan_run(system(recipe), step_s=None, minutes=None)

    assert (40, 1.0) == (planned.steps, planned.share)
    assert planned.minutes is planned.whole_minutes is None


def test_trainings_come_seed_by_seed(recipe: Path, tmp_path: Path) -> None:
    """After an interruption every system has one training before any has two."""
    systems = [system(recipe), System(name="p", kind="pictures", path=tmp_path)]
    plan = [plan_run(systems[0], step_s=1.0, minutes=None)]

    jobs = jobs_of(systems, plan, seeds=2, folder=tmp_path)

    assert ["small-0", "small-1"] == [job.name for job in jobs]
    assert tmp_path / "small-1" / "checkpoint.safetensors" == jobs[1].checkpoint


def test_steps_are_timed_in_whole_periods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each eighth step of `own_tiles` compares features, and takes twice as long or longer."""
    tried: list[int] = []

    def timed(_: System, __: Data, *, steps: int) -> tuple[float, float]:
        tried.append(steps // 2)
        second_half = range(steps // 2, steps)
        return 9.0, sum(3.0 if step % 8 == 0 else 1.0 for step in second_half) / len(tried)

    monkeypatch.setattr(plan, "_timed", timed)
    own = system(find_recipe("own_tiles"))

    assert 1.25 == time_steps(own, Data(root=tmp_path))
    assert [8] == tried
    monkeypatch.setattr(plan, "TIMED_S", 11.0)
    time_steps(own, Data(root=tmp_path))
    assert all(steps % 8 == 0 for steps in tried)
