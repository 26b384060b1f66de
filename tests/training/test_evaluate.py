"""The evaluation table: right rows, honest comparisons, clear failures."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.config import ConfigError, Recipe, load_recipe
from training.datasets import read_grey
from training.evaluate import (
    Row,
    checkpoint_upscaler,
    evaluate_supervised,
    load_evaluation_sets,
    missed_targets,
    write_json,
    write_table,
)
from training.panels import panel, write_panels
from training.trainer import train


def nearest(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat pixels: a poor but valid upscaler."""
    return lr.repeat(4, axis=2).repeat(4, axis=3)


@pytest.fixture
def recipe(tiny_recipe: Path, data_root: Path) -> Recipe:
    """Return the tiny recipe with one held-out tile, one real pair and one defect."""
    for folder, lr_name, hr_name in [("pairs", "a_lr", "a_hr"), ("lr", "d", None)]:
        (data_root / folder).mkdir()
        hr = read_grey(data_root / "hr" / "hr_0.png")
        lr = hr.reshape(28, 4, 32, 4).mean(axis=(1, 3)).astype(np.uint8)
        Image.fromarray(lr).save(data_root / folder / f"{lr_name}.png")
        if hr_name is not None:
            Image.fromarray(hr // 2 + 30).save(data_root / folder / f"{hr_name}.png")
        else:
            (data_root / "defect_hr").mkdir()
            Image.fromarray(hr).save(data_root / "defect_hr" / f"{lr_name}.png")
    return load_recipe(
        tiny_recipe,
        overrides=[
            'data.held_out_sources=["hr/hr_3.png"]',
            "data.real_pairs=pairs",
            "data.defects_lr=lr",
            "data.defects_hr=defect_hr",
        ],
    )


def _row(rows: list[Row], set_name: str, method: str) -> Row:
    (row,) = [row for row in rows if (row["set"], row["method"]) == (set_name, method)]
    return row


def test_rows_cover_every_set_and_method(recipe: Recipe, data_root: Path) -> None:
    """Bicubic and the model, each plain, fitted, and fitted after the best Gaussian."""
    rows = evaluate_supervised(nearest, recipe=recipe, data_root=data_root, scale=4)

    methods = [
        f"{name}{fit}"
        for name in ("bicubic", "model")
        for fit in ("", " + gain/offset", " + gain/offset + Gaussian")
    ]
    assert [(s, m) for s in ("held_out", "real_pairs", "defects") for m in methods] == [
        (row["set"], row["method"]) for row in rows
    ]
    for set_name in ("held_out", "real_pairs", "defects"):
        scores = [_row(rows, set_name, method)["psnr_db"] for method in methods]
        assert scores[0] <= scores[1] <= scores[2]
        assert scores[3] <= scores[4] <= scores[5]
    # The pair's HR has half the contrast: only a fit makes it comparable.
    fitted = _row(rows, "real_pairs", "bicubic + gain/offset")["psnr_db"]
    assert fitted > _row(rows, "real_pairs", "bicubic")["psnr_db"] + 3


def test_rows_of_single_images_average_to_the_rows_of_their_set(
    recipe: Recipe, data_root: Path
) -> None:
    """On request every image has its rows too, and the set's rows stay the same."""
    wider = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(
                update={"held_out_sources": ["hr/hr_2.png", "hr/hr_3.png"], "defects_lr": None}
            )
        }
    )

    rows = evaluate_supervised(nearest, recipe=wider, data_root=data_root, scale=4)
    detailed = evaluate_supervised(
        nearest, recipe=wider, data_root=data_root, scale=4, by_image=True
    )

    assert rows == [row for row in detailed if "/" not in row["set"]]
    singles = [_row(detailed, f"held_out/hr_{n}", "model")["psnr_db"] for n in (2, 3)]
    assert _row(rows, "held_out", "model")["psnr_db"] == pytest.approx(np.mean(singles))


def test_a_perfect_upscaler_scores_perfectly(recipe: Recipe, data_root: Path) -> None:
    """An oracle that returns the reference gets infinite PSNR and correlations of 1."""
    sets = load_evaluation_sets(recipe, data_root=data_root, scale=4)
    answers = {pair.lr.tobytes(): pair.hr for pairs in sets.values() for pair in pairs}

    def oracle(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return answers[lr.tobytes()][None, None]

    only_held_out = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"real_pairs": None, "defects_lr": None})}
    )
    rows = evaluate_supervised(oracle, recipe=only_held_out, data_root=data_root, scale=4)
    model = _row(rows, "held_out", "model")

    assert float("inf") == model["psnr_db"]
    assert (1.0, 1.0) == pytest.approx((model["ssim"], model["ncc"]))
    assert 1.0 == pytest.approx(model["worst_ncc"], abs=1e-4)
    assert [] == missed_targets(rows)


@pytest.mark.parametrize(
    ("model_db", "real_db", "missed"),
    [(27.0, 26.0, []), (26.9, 26.0, ["held_out"]), (27.0, 25.9, ["real_pairs"])],
)
def test_targets_are_judged_against_the_best_baseline(
    model_db: float, real_db: float, missed: list[str]
) -> None:
    """One dB above the best baseline without a fit; on real pairs not below with the same fit."""
    rows: list[Row] = [
        {"set": "held_out", "method": "bicubic", "psnr_db": 20.0},
        {"set": "held_out", "method": "bicubic + gain/offset", "psnr_db": 25.0},
        {"set": "held_out", "method": "bicubic + gain/offset + Gaussian", "psnr_db": 26.0},
        {"set": "held_out", "method": "model", "psnr_db": model_db},
        {"set": "held_out", "method": "model + gain/offset", "psnr_db": 99.0},
        {"set": "real_pairs", "method": "bicubic + gain/offset", "psnr_db": 26.0},
        {"set": "real_pairs", "method": "model + gain/offset", "psnr_db": real_db},
    ]

    assert missed == [text.split(":")[0] for text in missed_targets(rows)]


def test_table_and_json_hold_the_same_rows(recipe: Recipe, data_root: Path) -> None:
    """People get one line a row; machines get the rows."""
    rows = evaluate_supervised(nearest, recipe=recipe, data_root=data_root, scale=4)
    table, document = io.StringIO(), io.StringIO()

    write_table(rows, file=table)
    write_json(rows, file=document)

    lines = [line for line in table.getvalue().splitlines() if line]
    assert len(rows) + 1 == len(lines)
    assert f"{rows[0]['psnr_db']:.2f}" in lines[1]
    assert rows == json.loads(document.getvalue())


def test_equal_images_give_valid_json() -> None:
    """Infinity is not JSON."""
    document = io.StringIO()

    write_json([{"set": "held_out", "psnr_db": float("inf"), "ssim": 1.0}], file=document)

    assert [{"set": "held_out", "psnr_db": None, "ssim": 1.0}] == json.loads(document.getvalue())


def test_pairs_of_another_scale_are_refused(recipe: Recipe, data_root: Path) -> None:
    """A x4 pair cannot judge a x2 model."""
    with pytest.raises(ConfigError, match=r"pair a: HR is \(112, 128\) for LR \(28, 32\); scale 2"):
        load_evaluation_sets(recipe, data_root=data_root, scale=2)


@pytest.mark.parametrize(
    "wrong",
    [lambda lr: lr, lambda lr: nearest(lr).astype(np.float32), lambda lr: nearest(lr)[0]],
    ids=["size", "type", "axes"],
)
def test_an_upscaler_that_answers_wrongly_is_named(
    recipe: Recipe, data_root: Path, wrong: object
) -> None:
    """A wrong shape or type is an error, never broadcast into a score."""
    with pytest.raises(ValueError, match=r"the upscaler answered .* expected \(1, 1, 112, 128\)"):
        evaluate_supervised(wrong, recipe=recipe, data_root=data_root, scale=4)  # pyright: ignore


def test_checkpoint_upscaler_runs_what_was_trained(
    recipe: Recipe, tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """A trained checkpoint is evaluated, and drawn, through the same callable as a bundle."""
    path = train(
        tiny_recipe,
        data_root=data_root,
        run_dir=tmp_path / "run",
        overrides=["optimization.steps=2"],
    )
    upscaler, scale, info = checkpoint_upscaler(path)
    sets = load_evaluation_sets(recipe, data_root=data_root, scale=scale)

    sr = upscaler(sets["defects"][0].lr[None, None])
    pictures = write_panels(upscaler, sets, folder=tmp_path / "panels", scale=scale)

    assert (1, 1, 112, 128) == sr.shape
    assert np.uint8 == sr.dtype
    assert "tiny" == info.training["name"]
    assert ["held_out_hr_3.png", "real_pairs_a.png", "defects_d.png"] == [p.name for p in pictures]
    with Image.open(pictures[0]) as picture:
        assert (4 * 128 + 3 * 8, 112) == picture.size


def test_panel_places_lr_bicubic_sr_and_hr_in_this_order() -> None:
    """Left to right: pixels as they are, bicubic, the result, and the reference if there is one."""
    lr = np.full((4, 5), 10, dtype=np.uint8)
    sr, hr = np.full((16, 20), 30, np.uint8), np.full((16, 20), 40, np.uint8)

    picture = panel(lr, sr, hr=hr, scale=4)

    assert [10, 10, 30, 40] == [int(picture[8, x]) for x in (5, 33, 61, 89)]
    assert (16, 3 * 20 + 2 * 8) == panel(lr, sr, hr=None, scale=4).shape
