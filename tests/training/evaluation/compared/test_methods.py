"""Methods: right pictures for a tile, and clear refusals."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import build_generator, save_network
from tests.training.evaluation.scenes import save
from training.evaluation.compared.checkpoints import checkpoint_method
from training.evaluation.compared.methods import (
    BICUBIC,
    MATCHED,
    TRUE_HR,
    MethodError,
    benchmark_table,
    builtin_methods,
    check_names,
    pictures_method,
    upscaler_method,
)
from training.evaluation.folders.benchmark import load_benchmark, read_png
from training.evaluation.measures.background import histogram_distance
from training.ground.baselines import bicubic


def nearest(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat pixels: a poor but valid upscaler."""
    return lr.repeat(4, axis=2).repeat(4, axis=3)


def test_the_matched_baseline_has_the_greys_of_training_hr(benchmark_dir: Path) -> None:
    """Over the whole set its histogram is that of `train_hr`; bicubic's own is far from it."""
    benchmark = load_benchmark(benchmark_dir)
    splits = ("test_defect", "test_clean")
    methods = {
        method.name: method
        for method in builtin_methods(scale=4, table=lambda: benchmark_table(benchmark, splits))
    }
    tiles = [tile for split in splits for tile in benchmark.tiles(split)]

    def counts(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        return np.bincount(np.concatenate(pictures).ravel(), minlength=256).astype(float)

    target = counts([read_png(tile.path) for tile in benchmark.hr_tiles("train_hr")])
    rendered = {
        name: counts([method.render(tile) for tile in tiles])
        for name, method in methods.items()
        if method.render is not None
    }

    assert [BICUBIC, MATCHED, TRUE_HR] == list(methods)
    assert methods[TRUE_HR].render is None
    assert histogram_distance(rendered[MATCHED], target) < 1.5
    assert histogram_distance(rendered[BICUBIC], target) > 15


def test_an_upscaler_becomes_a_method(benchmark_dir: Path) -> None:
    """The method gives what the function gives for the tile's LR picture."""
    tile = load_benchmark(benchmark_dir).tiles("test_clean")[0]
    method = upscaler_method("nearest", nearest, scale=4)

    assert method.render is not None
    assert np.array_equal(nearest(tile.lr()[None, None])[0, 0], method.render(tile))


@pytest.mark.parametrize(
    "wrong",
    [lambda lr: lr, lambda lr: nearest(lr).astype(np.float32), lambda lr: nearest(lr)[0]],
    ids=["size", "type", "axes"],
)
def test_an_upscaler_that_answers_wrongly_is_named(benchmark_dir: Path, wrong) -> None:
    """A wrong shape or type is an error, never broadcast into a score."""
    tile = load_benchmark(benchmark_dir).tiles("test_clean")[0]
    method = upscaler_method("mine", wrong, scale=4)

    assert method.render is not None
    with pytest.raises(MethodError, match=r"mine answered .* expected \(1, 1, 256, 256\) uint8"):
        method.render(tile)


def test_finished_pictures_are_found_by_the_tiles_names(
    benchmark_dir: Path, tmp_path: Path
) -> None:
    """Other tools are judged by `<folder>/<split>/<number>.png`."""
    tile = load_benchmark(benchmark_dir).tiles("test_defect")[1]
    save(tmp_path / "test_defect" / "0001.png", np.full((256, 256), 9, np.uint8))
    method = pictures_method("other", tmp_path)

    assert method.render is not None
    assert 9 == method.render(tile).max()
    with pytest.raises(MethodError, match="does not exist"):
        pictures_method("other", tmp_path / "absent")


def test_two_methods_of_one_name_are_refused() -> None:
    """Their rows could not be told apart."""
    methods = [upscaler_method("a", nearest, scale=4), upscaler_method("a", nearest, scale=4)]

    with pytest.raises(MethodError, match="two methods are called 'a'"):
        check_names(methods)


def test_a_checkpoint_is_judged_without_export(benchmark_dir: Path, tmp_path: Path) -> None:
    """The merged network's picture, its multiply-adds and its time."""
    generator = build_generator(
        "rep_sr", {"channels": 4, "num_blocks": 1, "scale": 4, "expansion": 2}
    )
    path = tmp_path / "checkpoint.safetensors"
    save_network(path, generator, training={})
    tile = load_benchmark(benchmark_dir).tiles("test_clean")[0]

    method = checkpoint_method("mine", path, tile_px=32)

    # 3x3 convolutions 1->4, 4->4 and 4->16 on 32x32 pixels.
    assert 32 * 32 * 9 * (4 + 16 + 64) / 1e9 == pytest.approx(method.gmac)
    assert method.ms is not None
    assert method.ms > 0
    assert method.render is not None
    # Untrained it is close to nearest-neighbour enlargement, and so not far from bicubic.
    rendered = method.render(tile).astype(float)
    assert float(np.abs(rendered - bicubic(tile.lr(), scale=4)).mean()) < 8


def test_a_checkpoint_that_takes_enlarged_pictures_is_refused(tmp_path: Path) -> None:
    """It has no place for LR tiles; the message says how its pictures are judged."""
    path = tmp_path / "checkpoint.safetensors"
    save_network(path, build_generator("resnet9", {"width": 2, "scale": 1}), training={})

    with pytest.raises(MethodError, match=r"has scale 1.*semsr translate, judge by --images"):
        checkpoint_method("mine", path, tile_px=32)
