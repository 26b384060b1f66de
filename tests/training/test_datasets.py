"""Crops and tiles: hold-out by source, pairs that fit, batches that repeat."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import ConfigError, DataConfig, DegradationConfig
from training.datasets import (
    CropSampler,
    SourceImage,
    degraded_pairs,
    load_held_out_tiles,
    load_pairs,
    load_training_images,
    read_grey,
)

NEUTRAL = DegradationConfig(
    spot_sigma_px=(0, 0), lag_decay=(0, 0), noise_var_base=(0, 0), noise_var_slope=(0, 0)
)


@pytest.fixture
def indexed_root(data_root: Path) -> Path:
    """Add an index: hr_0 and hr_1 were cut from one capture, which lies there too."""
    captures = data_root / "run"
    captures.mkdir()
    for name in ("A", "B"):
        Image.fromarray(np.full((120, 120), 90, dtype=np.uint8)).save(captures / f"{name}.png")
    (data_root / "index.csv").write_text(
        "folder,file,src\nhr,hr_0.png,run/A.png\nhr,hr_1.png,run/A.png\nhr,hr_2.png,run/B.png\n"
    )
    return data_root


def test_hold_out_takes_the_source_and_all_its_tiles(indexed_root: Path) -> None:
    """Neither the held-out capture nor any tile cut from it is trained on."""
    config = DataConfig(
        hr=["hr/*.png", "run/*.png"],
        index="index.csv",
        held_out_tiles=["hr/*.png"],
        held_out_sources=["run/A.png"],
    )

    training = load_training_images(config, data_root=indexed_root)
    held_out = load_held_out_tiles(config, data_root=indexed_root)

    assert ["hr/hr_2.png", "hr/hr_3.png", "run/B.png"] == sorted(i.name for i in training)
    assert ["hr/hr_0.png", "hr/hr_1.png"] == [tile.name for tile in held_out]
    assert {i.source for i in training}.isdisjoint({tile.source for tile in held_out})


def test_excluded_sources_are_neither_trained_nor_evaluated_on(indexed_root: Path) -> None:
    """Exclusion works through the index like hold-out."""
    config = DataConfig(
        hr=["hr/*.png"],
        index="index.csv",
        held_out_tiles=["hr/*.png"],
        held_out_sources=["run/B.png"],
        excluded_sources=["run/A.png"],
    )

    assert ["hr/hr_3.png"] == [i.name for i in load_training_images(config, data_root=indexed_root)]
    assert ["hr/hr_2.png"] == [t.name for t in load_held_out_tiles(config, data_root=indexed_root)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"held_out_sources": ["hr/hr_9.png"]}, r"match no image: \['hr/hr_9.png'\]"),
        ({"hr": ["hr/*.tif"]}, r"no image matches 'hr/\*.tif'"),
        ({"excluded_sources": [f"hr/hr_{n}.png" for n in range(4)]}, "no training image is left"),
        ({"index": "none.csv"}, r"no index at .*none\.csv"),
        ({"index": "hr/bad.csv"}, "must have the columns folder, file and src"),
    ],
)
def test_mistakes_in_the_data_section_are_named(
    data_root: Path, values: dict[str, object], message: str
) -> None:
    """A misspelt held-out source in particular must not train on it silently."""
    (data_root / "hr" / "bad.csv").write_text("a,b\n1,2\n")
    config = DataConfig.model_validate({"hr": ["hr/*.png"], **values})

    with pytest.raises(ConfigError, match=message):
        load_training_images(config, data_root=data_root)


def test_held_out_sources_without_tiles_are_an_error(data_root: Path) -> None:
    """Holding out what is never evaluated is a mistake in the recipe."""
    config = DataConfig(
        hr=["hr/*.png"], held_out_tiles=["hr/hr_1.png"], held_out_sources=["hr/hr_0.png"]
    )

    with pytest.raises(ConfigError, match="no tile comes from"):
        load_held_out_tiles(config, data_root=data_root)


def test_rows_below_the_limit_are_never_read(tmp_path: Path) -> None:
    """The data bar at the bottom is cut before anything else sees the image."""
    pixels = np.zeros((20, 10), dtype=np.uint8)
    pixels[15:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")

    assert np.array_equal(np.zeros((15, 10)), read_grey(tmp_path / "a.png", max_rows_px=15))


def _sampler(pixels: np.ndarray, *, degradation: DegradationConfig, seed: int = 0) -> CropSampler:
    image = SourceImage(name="a", source="a", pixels=pixels)
    return CropSampler(
        [image], degradation=degradation, scale=4, crop_px=16, batch_size=6, seed=seed
    )


def test_lr_crop_is_the_area_mean_of_its_hr_crop(data_root: Path) -> None:
    """Both crops of a pair show the same field, margins cut alike."""
    pixels = read_grey(data_root / "hr" / "hr_0.png")

    lr, hr = _sampler(pixels, degradation=NEUTRAL).batch(0)

    assert (6, 1, 16, 16) == tuple(lr.shape)
    assert (6, 1, 64, 64) == tuple(hr.shape)
    assert float((lr - torch.nn.functional.avg_pool2d(hr, 4)).abs().max()) < 0.51 / 255


def test_a_batch_is_a_function_of_seed_and_step(data_root: Path) -> None:
    """Any step can be repeated without the steps before it; other steps and seeds differ."""
    pixels = read_grey(data_root / "hr" / "hr_0.png")
    sampler = _sampler(pixels, degradation=DegradationConfig())
    expected = sampler.batch(5)
    sampler.batch(6)

    again = _sampler(pixels, degradation=DegradationConfig()).batch(5)
    other_seed = _sampler(pixels, degradation=DegradationConfig(), seed=1).batch(5)

    assert torch.equal(expected[0], again[0])
    assert torch.equal(expected[1], again[1])
    assert not torch.equal(expected[1], sampler.batch(4)[1])
    assert not torch.equal(expected[1], other_seed[1])


def test_crops_come_in_all_eight_orientations() -> None:
    """Turns and flips before the degradation: the pattern may lie any way, the scan may not."""
    y, x = np.mgrid[:96, :96]
    pixels = (x + 0.25 * y).astype(np.uint8)
    sampler = _sampler(pixels, degradation=NEUTRAL)

    seen = set()
    for step in range(30):
        for crop in sampler.batch(step)[1][:, 0]:
            down, right = float(crop[-1, 0] - crop[0, 0]), float(crop[0, -1] - crop[0, 0])
            seen.add((down > 0, right > 0, abs(down) > abs(right)))

    assert 8 == len(seen)


def test_crop_candidates_prefer_contrast() -> None:
    """With more candidates, crops of a mostly flat image show its one edge more often."""
    pixels = np.full((96, 2000), 50, dtype=np.uint8)
    pixels[:, 1000:] = 150
    image = SourceImage(name="a", source="a", pixels=pixels)

    def with_edge(candidates: int) -> int:
        sampler = CropSampler(
            [image],
            degradation=NEUTRAL,
            scale=4,
            crop_px=16,
            batch_size=200,
            seed=0,
            crop_candidates=candidates,
        )
        hr = sampler.batch(0)[1]
        return int((hr.amax(dim=(1, 2, 3)) > hr.amin(dim=(1, 2, 3))).sum())

    assert with_edge(8) > 3 * with_edge(1) > 0


def test_images_smaller_than_a_crop_are_refused() -> None:
    """The message says how large they must be."""
    with pytest.raises(ConfigError, match=r"smaller than a crop of 96 px: \['a'\]"):
        _sampler(np.zeros((95, 200), dtype=np.uint8), degradation=NEUTRAL)


def test_degraded_pairs_repeat_and_cut_to_the_scale(data_root: Path) -> None:
    """The evaluation set is fixed by its seed; HR loses the rows that do not fill an LR pixel."""
    tile = SourceImage(
        name="a", source="a", pixels=read_grey(data_root / "hr" / "hr_0.png")[:110, :111]
    )

    def make(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return degraded_pairs([tile], degradation=DegradationConfig(), scale=4, seed=seed)[0]

    lr, hr = make(0)
    assert (27, 27) == lr.shape
    assert np.array_equal(tile.pixels[:108, :108], hr)
    assert np.array_equal(lr, make(0)[0])
    assert not np.array_equal(lr, make(1)[0])


def test_pairs_on_disk_are_matched_by_name(tmp_path: Path) -> None:
    """`x_lr.png` belongs to `x_hr.png`; a missing partner is an error."""
    for name, level in (("b_lr", 1), ("b_hr", 2), ("a_lr", 3), ("a_hr", 4)):
        Image.fromarray(np.full((4, 4), level, dtype=np.uint8)).save(tmp_path / f"{name}.png")

    pairs = load_pairs(tmp_path, tmp_path, lr_suffix="_lr", hr_suffix="_hr")

    assert [("a", 3, 4), ("b", 1, 2)] == [(n, int(lr[0, 0]), int(hr[0, 0])) for n, lr, hr in pairs]
    (tmp_path / "a_hr.png").unlink()
    with pytest.raises(ConfigError, match=r"a_lr\.png has no HR partner"):
        load_pairs(tmp_path, tmp_path, lr_suffix="_lr", hr_suffix="_hr")
    with pytest.raises(ConfigError, match="no pair of images"):
        load_pairs(tmp_path, tmp_path, lr_suffix="_none")
