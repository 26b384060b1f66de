"""The benchmark: plan, folder, truth, repeatability, and folders that hold something else."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semsr.cli import main
from semsr.commands import simulate
from semsr.commands.options import EXIT_USAGE
from training.evaluation.folders.benchmark import SPLITS as JUDGED_SPLITS
from training.simulator import draw_recipe, simulate_tile, write_benchmark
from training.simulator.benchmark import BenchmarkError
from training.simulator.capture import INSPECTION, MODES, REVIEW
from training.simulator.defects.registry import DEFECTS, GROUPS
from training.simulator.recipes import TileRecipe, substitutes
from training.simulator.scenes.registry import SCENES
from training.simulator.splits import DEFAULT_SPLITS, SPLITS, plan_tile, render_split_tile

SMALL = {
    name: replace(split, tiles=2, tile_px=64 if split.has_defects else 48)
    for name, split in SPLITS.items()
}
"""The splits with two small tiles each."""

PAIRS = ("train_pairs", *(name for name in SPLITS if name.startswith(("aei", "cucmp"))))
"""Splits of aligned pairs to train on."""


def test_splits_are_those_of_the_contract() -> None:
    """Numbers and sizes of tiles are fixed."""
    assert {
        "train_lr": 20,
        "train_hr": 20,
        "reference_hr": 70,
        "test_defect": 64,
        "test_clean": 200,
        "thousand_defect": 500,
        "thousand_clean": 500,
        "unknown_defect": 84,
        "train_pairs": 20,
        "aei_x4": 18,
        "aei_x2": 18,
        **{f"cucmp_x{scale}": 21 for scale in (2, 4)},
        **{f"cucmp_x{scale}_validation": 7 for scale in (2, 4)},
        **{f"cucmp_x{scale}_top": 14 for scale in (2, 4)},
    } == {name: split.tiles for name, split in SPLITS.items() if not name.startswith("x")}
    assert (244, 4) == (SPLITS["x4_244"].tile_px, SPLITS["x4_244"].scale)
    assert (232, 2) == (SPLITS["x2_232"].tile_px, SPLITS["x2_232"].scale)
    assert set(DEFAULT_SPLITS) < set(SPLITS)


def test_commands_name_the_splits_that_there_are() -> None:
    """What `semsr simulate` offers is the whole list, and `semsr evaluate` judges parts of it."""
    assert DEFAULT_SPLITS == simulate.DEFAULT_SPLITS
    assert set(SPLITS) == {*simulate.DEFAULT_SPLITS, *simulate.FURTHER_SPLITS}
    assert set(SPLITS) >= {name for pair in JUDGED_SPLITS.values() for name in pair}
    defect, clean = JUDGED_SPLITS["unknown"]
    assert (("unknown",), False) == (SPLITS[defect].groups, SPLITS[clean].has_defects)


def test_streams_of_splits_never_meet() -> None:
    """Every split has a stream of its own, and not that of a single tile of any seed."""
    assert len({split.stream for split in SPLITS.values()}) == len(SPLITS)
    small = {name: SMALL[name] for name in ("train_lr", "train_hr", "test_clean")}
    tiles = [render_split_tile(split, seed=1, number=0).lr for split in small.values()]
    tiles.append(simulate_tile(TileRecipe("dense_lines"), seed=1, number=0, tile_px=48).lr)
    tiles.append(render_split_tile(SMALL["train_lr"], seed=2, number=0).lr)
    for place, first in enumerate(tiles):
        for second in tiles[:place]:
            assert np.abs(first - second).mean() > 3


def test_test_split_holds_enough_defects_of_both_groups() -> None:
    """64 tiles plan 250 defects or more, 3 to 6 a tile, of every kind, half of them unseen."""
    plan = [plan_tile(SPLITS["test_defect"], seed=1, number=number) for number in range(64)]
    kinds = [kind for recipe in plan for kind in recipe.defects]
    assert {3, 4, 5, 6} == {len(recipe.defects) for recipe in plan}
    assert len(kinds) >= 250
    known = {kind for kind, spec in DEFECTS.items() if spec.group in GROUPS}
    assert known == set(kinds)
    unseen = sum(DEFECTS[kind].group == "unseen" for kind in kinds)
    assert 0.4 < unseen / len(kinds) < 0.6
    assert min(kinds.count(kind) for kind in known) >= 10
    assert all(recipe.scene in DEFECTS[kind].scenes for recipe in plan for kind in recipe.defects)


@pytest.mark.parametrize(
    ("name", "digest"),
    [("test_defect", "c2c5dd531d07050e"), ("thousand_defect", "81c2bd582e51a203")],
)
def test_plans_of_seed_11_stay_as_they_were(name: str, digest: str) -> None:
    """Kinds that are added to the simulator change no tile of the benchmark that results are of."""
    plan = [plan_tile(SPLITS[name], seed=11, number=n) for n in range(SPLITS[name].tiles)]
    text = "\n".join(f"{recipe.scene}:{','.join(recipe.defects)}" for recipe in plan)
    assert digest == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_unknown_split_holds_forty_of_each_unknown_kind_and_nothing_else() -> None:
    """Its plan names kinds of that group alone, in every kind of scene."""
    split = SPLITS["unknown_defect"]
    plan = [plan_tile(split, seed=11, number=number) for number in range(split.tiles)]
    kinds = [kind for recipe in plan for kind in recipe.defects]
    unknown = {kind for kind, spec in DEFECTS.items() if spec.group == "unknown"}
    assert unknown == set(kinds)
    assert 40 <= min(kinds.count(kind) for kind in unknown)
    assert set(SCENES) == {recipe.scene for recipe in plan}


def test_unknown_kinds_and_others_never_stand_in_for_each_other() -> None:
    """A kind without a place gives way to one of the same side: no split gets a stranger."""
    for kind, spec in DEFECTS.items():
        for scene in spec.scenes:
            others = {DEFECTS[other].group for other in substitutes(scene, kind)}
            assert others <= (set(GROUPS) if spec.group in GROUPS else {"unknown"})


def test_both_sides_of_training_have_the_same_scenes_and_no_defects() -> None:
    """Unaligned, but of one mix; every split shows every kind of scene in turn."""
    mixes = {
        name: [plan_tile(SPLITS[name], seed=1, number=number) for number in range(20)]
        for name in ("train_lr", "train_hr")
    }
    assert mixes["train_lr"] == mixes["train_hr"]
    assert all(recipe.defects == () for recipe in mixes["train_lr"])
    assert set(SCENES) == {recipe.scene for recipe in mixes["train_lr"][: len(SCENES)]}


def test_drawn_recipes_fit_their_scene() -> None:
    """Kinds are those that the scene takes, in the numbers that were asked for."""
    rng = np.random.default_rng(2)
    recipes = [draw_recipe(rng, defects=(2, 4)) for _ in range(200)]
    assert {2, 3, 4} == {len(recipe.defects) for recipe in recipes}
    assert set(SCENES) == {recipe.scene for recipe in recipes}
    assert all(
        recipe.scene in DEFECTS[kind].scenes for recipe in recipes for kind in recipe.defects
    )
    with pytest.raises(ValueError, match=r"got \(4, 2\)"):
        draw_recipe(rng, defects=(4, 2))


def test_kind_without_a_place_gives_way_to_another_of_its_group() -> None:
    """Wide lines cannot be broken within the limits: where that is allowed another is planted."""
    recipe = TileRecipe("iso_lines", ("break",), can_substitute=True)
    tile = simulate_tile(recipe, seed=1, number=1, tile_px=64)
    assert ["planted"] == [defect.group for defect in tile.defects]
    assert "break" != tile.defects[0].kind
    with pytest.raises(ValueError, match="'iso_lines' scene has no free place"):
        simulate_tile(replace(recipe, can_substitute=False), seed=1, number=1, tile_px=64)


def test_folder_is_that_of_the_contract(tmp_path: Path) -> None:
    """Every split's pictures, the truth of the tests alone, one header and one index."""
    header = write_benchmark(tmp_path, seed=5, splits=tuple(SMALL), jobs=1, plan=SMALL)
    document = _read(header)
    assert dict.fromkeys(SMALL, 2) == document.pop("splits")
    assert {
        "format_version": 1,
        "kind": "semsr-benchmark",
        "seed": 5,
        "scale": 4,
        "tile_px": 240,
        "lr_pixel_nm": 4.0,
    } == document
    expected = {"benchmark.json", "truth/index.json"}
    for folder in (
        *("train_lr", "train_hr", "reference_hr", "test_defect/lr", "test_clean/lr"),
        *("thousand_defect/lr", "thousand_clean/lr", "x4_244/lr", "x4_244/hr", "x2_232/lr"),
        *("x2_232/hr", "truth/test_defect/hr", "truth/test_defect/mask", "truth/test_clean/hr"),
        *("unknown_defect/lr", "truth/unknown_defect/hr", "truth/unknown_defect/mask"),
        *("truth/test_clean/noise_free", "truth/thousand_defect/hr", "truth/thousand_defect/mask"),
        "truth/thousand_clean/hr",
        *(f"{name}/{side}" for name in PAIRS for side in ("lr", "hr")),
    ):
        expected |= {f"{folder}/0000.png", f"{folder}/0001.png"}
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert expected == found
    assert (48, 192) == (
        _side(tmp_path / "train_lr/0000.png"),
        _side(tmp_path / "train_hr/0001.png"),
    )
    assert (48, 96) == (
        _side(tmp_path / "x2_232/lr/0000.png"),
        _side(tmp_path / "x2_232/hr/0000.png"),
    )
    index = _read(tmp_path / "truth/index.json")
    assert 1 == index["format_version"]
    assert {mode.name for mode in MODES} == set(index["modes"])
    assert {f"{name}/{number:04d}" for name in SMALL for number in range(2)} == set(index["tiles"])
    for key, tile in index["tiles"].items():
        assert tile["scene"] in SCENES
        assert bool(tile["defects"]) == ("defect" in key)
    _assert_masks_match(tmp_path, index, "test_defect")
    _assert_aligned(tmp_path)


def test_other_layer_has_the_contrast_of_its_materials_inverted() -> None:
    """Both pictures of an odd pair: alike in themselves, and unlike those of the other pairs."""

    def bright_is_bright(name: str) -> list[float]:
        tile = render_split_tile(SMALL[name], seed=1, number=0)
        signal = tile.hr_noise_free[::4, ::4]
        emission = tile._signal[48:-48, 48:-48][::4, ::4]
        return [
            float(np.corrcoef(picture.ravel(), emission.ravel())[0, 1])
            for picture in (signal, tile.lr_noise_free)
        ]

    assert min(bright_is_bright("cucmp_x4")) > 0.5
    assert max(bright_is_bright("cucmp_x4_top")) < -0.5


def test_folder_of_before_a_mode_was_added_can_be_added_to(tmp_path: Path) -> None:
    """Modes that it knows must be the same; further ones are added."""
    write_benchmark(tmp_path, seed=6, splits=("train_lr",), jobs=1, plan=SMALL)
    index = _read(tmp_path / "truth/index.json")
    del index["modes"]["top_review"]
    (tmp_path / "truth/index.json").write_text(json.dumps(index))
    write_benchmark(tmp_path, seed=6, splits=("cucmp_x4_top",), jobs=1, plan=SMALL)
    after = _read(tmp_path / "truth/index.json")
    assert {"train_lr/0000", "cucmp_x4_top/0000"} < set(after["tiles"])
    assert "top_review" in after["modes"]


def test_same_seed_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    """Splits written at once by two processes, or one after the other by one, are the same."""
    splits = ("train_lr", "train_hr")
    write_benchmark(tmp_path / "a", seed=6, splits=splits, jobs=2, plan=SMALL)
    for split in reversed(splits):
        write_benchmark(tmp_path / "b", seed=6, splits=(split,), jobs=1, plan=SMALL)
    write_benchmark(tmp_path / "c", seed=7, splits=splits, jobs=1, plan=SMALL)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert 6 == len(files)
    for file in files:
        if file.name == "benchmark.json":
            assert _read(tmp_path / "a" / file) == _read(tmp_path / "b" / file)
        else:
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        if file.suffix == ".png":
            assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()


def test_interrupted_run_has_no_header_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished before it is kept; what was not is written anew."""
    write_benchmark(tmp_path, seed=8, splits=("train_lr",), jobs=1, plan=SMALL)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("training.simulator.benchmark.render_split_tile", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_benchmark(tmp_path, seed=8, splits=("train_hr",), jobs=1, plan=SMALL)
    assert not (tmp_path / "benchmark.json").exists()
    header = write_benchmark(tmp_path, seed=8, splits=("train_hr",), jobs=1, plan=SMALL)
    assert {"train_lr": 2, "train_hr": 2} == _read(header)["splits"]
    assert 4 == len(_read(tmp_path / "truth/index.json")["tiles"])
    assert not list(tmp_path.glob("*unfinished*"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 10}, r"has seed 9; expected 10"),
        ({"splits": ("tests",)}, r"unknown split 'tests'; expected one of train_lr, "),
        ({"seed": -1}, r"seed >= 0.* got -1"),
        ({"jobs": 0}, r"jobs >= 1.* got 9, 0"),
    ],
)
def test_other_benchmarks_and_wrong_arguments_are_refused(
    tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    """A folder keeps one seed; the message names what was given and what was expected."""
    arguments: dict[str, Any] = {"seed": 9, "splits": ("train_lr",), "jobs": 1, "plan": SMALL}
    (tmp_path / "benchmark.json").write_text(
        json.dumps(
            {"format_version": 1, "kind": "semsr-benchmark", "seed": 9, "splits": {"train_lr": 2}}
        ),
        encoding="utf-8",
    )
    with pytest.raises(ValueError, match=match):
        write_benchmark(tmp_path, **{**arguments, **change})
    assert [tmp_path / "benchmark.json"] == list(tmp_path.iterdir())


def test_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    """A folder of other files is not written into."""
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"is not empty and holds no benchmark\.json"):
        write_benchmark(tmp_path, seed=1, splits=("train_lr",), jobs=1, plan=SMALL)


@pytest.mark.parametrize(
    "arguments", [["--splits", "nope"], ["--scale", "2"], ["--tiles", "1", "--jobs", "2"]]
)
def test_command_refuses_arguments_that_do_not_go_together(
    tmp_path: Path, arguments: list[str]
) -> None:
    """Wrong usage ends with 2 and writes nothing."""
    out = tmp_path / "out"
    assert EXIT_USAGE == main(["simulate", "--out", str(out), "--seed", "1", *arguments])
    assert not out.exists()


def _assert_masks_match(folder: Path, index: dict[str, Any], name: str) -> None:
    """Compare boxes, centres, sizes and contrasts of the index with the mask files."""
    for number in range(SMALL[name].tiles):
        mask = _image(folder / f"truth/{name}/mask/{number:04d}.png")
        defects = index["tiles"][f"{name}/{number:04d}"]["defects"]
        assert {0, *(defect["number"] for defect in defects)} == set(np.unique(mask).tolist())
        for defect in defects:
            rows, columns = np.nonzero(mask == defect["number"])
            left, top, right, bottom = defect["box_hr_px"]
            assert (left, right) == (columns.min(), columns.max() + 1)
            assert (top, bottom) == (rows.min(), rows.max() + 1)
            assert [(left + right) / 2, (top + bottom) / 2] == defect["center_hr_px"]
            assert 6 <= min(right - left, bottom - top) <= defect["size_hr_px"] + 0.1
            assert defect["size_hr_px"] <= max(right - left, bottom - top) <= 60
            assert 1.5 <= defect["contrast_to_noise"] <= 12
            assert DEFECTS[defect["kind"]].group == defect["group"]


def _assert_aligned(folder: Path) -> None:
    """LR, and its HR made as coarse, show one scene; the noise-free picture is HR without noise."""
    for low, high in (("test_clean/lr", "truth/test_clean/hr"), ("x4_244/lr", "x4_244/hr")):
        lr, hr = _image(folder / low / "0000.png"), _image(folder / high / "0000.png")
        coarse = hr.reshape(len(lr), 4, len(lr), 4).mean(axis=(1, 3))
        assert np.corrcoef(lr.ravel(), coarse.ravel())[0, 1] > 0.9
    hr = _image(folder / "truth/test_clean/hr/0000.png")
    clean = _image(folder / "truth/test_clean/noise_free/0000.png")
    noise = (hr - clean) / np.sqrt(REVIEW.noise_variance(clean))
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert INSPECTION.tone_gain > REVIEW.tone_gain


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _image(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(image, dtype=float)


def _side(path: Path) -> int:
    with Image.open(path) as image:
        assert ("L", image.width) == (image.mode, image.height)
        return image.width
