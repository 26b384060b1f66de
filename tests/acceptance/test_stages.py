"""The stages after the split, on two small folders: each alone, and the report of all."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from models import load_network, save_network
from semsr.acceptance import timing
from semsr.acceptance.checking import check
from semsr.acceptance.estimating import estimate
from semsr.acceptance.identity import asked_of
from semsr.acceptance.judging import judge
from semsr.acceptance.layout import Layout, Settings, read_json
from semsr.acceptance.planning import PlanError, learning_rate, plan, plan_line, training_overrides
from semsr.acceptance.reporting import write_report
from semsr.acceptance.splitting import split
from semsr.acceptance.training_run import train_planned
from tests.own_folders import write_folders
from training.config.recipe import find_recipe, load_recipe

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Layout]:
    """Write two folders; check, split and estimate them."""
    root = tmp_path_factory.mktemp("acceptance")
    lr, hr = write_folders(root)
    settings = Settings(
        lr=lr,
        hr=hr,
        name="own",
        recipe=find_recipe("tiny"),
        baseline=TINY_BUNDLE,
        threads=1,
        steps=4,
        tile=(64, 64),
        precisions=("fp32",),
    )
    layout = Layout(root / "out")
    check(settings, layout)
    split(settings, layout)
    estimate(settings, layout)
    return settings, layout


@pytest.fixture
def copied(prepared: tuple[Settings, Layout], tmp_path: Path) -> tuple[Settings, Layout]:
    """Copy the prepared folder, so that a test may change it."""
    settings, layout = prepared
    shutil.copytree(layout.root, tmp_path / "out")
    return settings, Layout(tmp_path / "out")


def test_the_steps_fill_the_time_that_is_left(
    copied: tuple[Settings, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine tenths of it; what was spent and what will be needed afterwards are taken off."""
    settings, layout = copied
    monkeypatch.setattr(timing, "time_steps", lambda *_: 0.5)
    monkeypatch.setattr(timing, "_judgement_s", lambda *_: (0.0, 0.0))
    settings = replace(
        settings, steps=None, minutes=10, start="fresh", overrides=("optimization.steps=5000",)
    )

    _, measured = plan(settings, layout, spent_s=70)

    steps = read_json(layout.plan)["steps"]
    assert 880 <= steps <= 0.9 * (600 - 70 - 30) / 0.5
    assert (0.5, 70) == (measured["step_s"], measured["spent_s"])
    assert 0 == read_json(layout.plan)["checkpoint_every_steps"] % 25
    assert f"plan: {steps} of the recipe's 5,000 steps, 0.50 s a step, so about 7 min" in (
        plan_line(layout, measured)
    )


def test_given_steps_are_saved_as_often(copied: tuple[Settings, Layout]) -> None:
    """A tenth of thousands of steps would be many minutes that a kill costs."""
    settings, layout = copied

    plan(replace(settings, steps=4000, start="fresh"), layout, spent_s=0)

    assert 50 == read_json(layout.plan)["checkpoint_every_steps"]


def test_a_budget_without_room_names_the_minutes_that_are_needed(
    copied: tuple[Settings, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty steps are the least."""
    settings, layout = copied
    monkeypatch.setattr(timing, "time_steps", lambda *_: 30.0)
    monkeypatch.setattr(timing, "_judgement_s", lambda *_: (0.0, 0.0))

    with pytest.raises(PlanError, match=r"--minutes is 2.*expected at least 1[2-4] minutes"):
        plan(replace(settings, steps=None, minutes=2, start="fresh"), layout, spent_s=0)


def test_shipped_weights_are_taken_only_where_they_beat_bicubic(
    copied: tuple[Settings, Layout],
) -> None:
    """The tiny bundle's random weights do not, and the reason is on record."""
    settings, layout = copied

    plan(settings, layout, spent_s=0)

    start = read_json(layout.plan)["start"]
    assert start["file"] is None
    assert start["correlation"] < start["bicubic_correlation"]
    assert "no better than bicubic" in start["why"]
    plan(replace(settings, start="shipped"), layout, spent_s=0)
    assert str(TINY_BUNDLE / "model.safetensors") == read_json(layout.plan)["start"]["file"]


def test_held_out_images_that_the_start_weights_know_are_named(
    copied: tuple[Settings, Layout], tmp_path: Path
) -> None:
    """By folder and file, or by source; also where the run before was trained on them."""
    settings, layout = copied
    sides = read_json(layout.split)["sides"]
    lr, hr = (sides[side]["held_out"][0] for side in ("lr", "hr"))
    before = {"training": {"data": {"images": [f"somewhere/{settings.hr.name}/{hr}"]}}}
    network, _ = load_network(TINY_BUNDLE / "model.safetensors")
    images = [f"{settings.lr.name}/{lr}", f"other/{sides['lr']['held_out'][1]}"]
    known = tmp_path / "known.safetensors"
    save_network(known, network, training={"data": {"images": images}, "started_from": before})

    plan(replace(settings, start=str(known)), layout, spent_s=0)

    assert [f"LR {lr}", f"HR {hr}"] == read_json(layout.plan)["seen"]
    assert "trained on 2 of the held-out images" in plan_line(layout, {})


@pytest.mark.parametrize(("side_px", "why"), [(8, "has no room for"), (71, "multiples of")])
def test_a_tile_that_cannot_be_exported_is_refused_before_the_training(
    copied: tuple[Settings, Layout], side_px: int, why: str
) -> None:
    """An export that fails after hours of training is too late."""
    settings, layout = copied
    unet = (
        "generator.name=grain_unet",
        "generator.hyper_parameters={ channels = [4, 6], blocks = [1, 1], pad = 2 }",
    )
    overrides = () if side_px == 8 else unet

    with pytest.raises(PlanError, match=f"--tile: .*{why}"):
        plan(
            replace(settings, tile=(side_px, side_px), overrides=overrides, start="fresh"),
            layout,
            spent_s=0,
        )


def test_weights_of_another_network_are_refused_where_they_were_named(
    copied: tuple[Settings, Layout],
) -> None:
    """With auto the training starts from fresh ones."""
    settings, layout = copied
    other = replace(settings, overrides=("generator.hyper_parameters.channels=6",))

    plan(other, layout, spent_s=0)
    assert "network is not that of" in read_json(layout.plan)["start"]["why"]
    with pytest.raises(PlanError, match="its generator is"):
        plan(replace(other, start="shipped"), layout, spent_s=0)


def test_fresh_weights_of_the_shipped_recipe_learn_faster(
    prepared: tuple[Settings, Layout],
) -> None:
    """Its own rate is for trained weights; a rate that was set, and other recipes', stay."""
    own = replace(prepared[0], recipe=find_recipe("own_tiles"))
    recipe = load_recipe(own.recipe)
    named = replace(own, overrides=("optimization.learning_rate=3e-4",))

    assert 2e-4 == learning_rate(own, recipe, is_fresh=False)
    assert 1e-3 == learning_rate(own, recipe, is_fresh=True)
    assert 3e-4 == learning_rate(
        named, load_recipe(named.recipe, overrides=named.overrides), is_fresh=True
    )
    assert 2e-3 == learning_rate(prepared[0], load_recipe(prepared[0].recipe), is_fresh=True)


def test_held_out_images_are_named_in_the_recipe(prepared: tuple[Settings, Layout]) -> None:
    """The training keeps them out, and the model card says so."""
    settings, layout = prepared
    overrides = training_overrides(replace(settings, window=(0, 4095)), layout)

    recipe = load_recipe(settings.recipe, overrides=overrides)

    held_out = read_json(layout.split)["sides"]["hr"]["held_out"]
    assert sorted(f"hr/{name}" for name in held_out) == sorted(recipe.data.held_out_sources)
    assert (0, 4095) == recipe.data.window
    assert "6 LR and 6 HR images" in recipe.data.statement


def test_the_report_is_whole_and_the_same_twice(
    copied: tuple[Settings, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdict, criteria, pictures and digests are in one file that asks nothing of a network."""
    monkeypatch.setattr("training.trainer.draw_curves", lambda *_, **__: None)  # a second each
    settings, layout = copied
    plan(settings, layout, spent_s=0)
    train_planned(settings, layout)
    shutil.copytree(TINY_BUNDLE, layout.bundle)  # the export has tests of its own
    judge(settings, layout)
    asked = asked_of(settings)

    pages = []
    for seconds in (1.0, 700.0):
        files, is_accepted = write_report(
            settings, layout, asked, seconds={"train": seconds}, measured={}
        )
        pages.append((layout.report_json.read_bytes(), layout.report.read_text("utf-8")))

    assert [layout.report, layout.report_json] == files
    assert pages[0][0] == pages[1][0]
    untimed = [
        re.sub(r"<!-- times -->.*<!-- end of times -->", "", page, flags=re.DOTALL)
        for _, page in pages
    ]
    assert untimed[0] == untimed[1]
    assert "11 min 40 s" in pages[1][1]
    page, document = pages[1][1], json.loads(pages[1][0])
    assert document["is_accepted"] == is_accepted
    assert ("NOT ACCEPTED" in page) != is_accepted
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "@media print" in page
    for name in document["sides"]["lr"]["held_out"]:
        assert name in page
    assert document["bundle"]["manifest_sha256"] in page
    assert str(layout.root) not in page + pages[1][0].decode()
    assert {"made", "tiles", "hr"} == {row["section"] for row in document["pictures"]}
    assert 4 == document["training"]["steps"]
