"""Images and tiles: hold-out by source, bad files named, evaluation pairs that repeat."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config.degradation import DegradationConfig
from training.config.recipe import ConfigError, DataConfig
from training.data.datasets import (
    degraded_pairs,
    load_held_out_tiles,
    load_lr_images,
    load_training_images,
)
from training.data.images import ImageFileError, SourceImage, read_grey


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

    training = load_training_images(config, [config.hr], data_root=indexed_root)[0]
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

    [images] = load_training_images(config, [config.hr], data_root=indexed_root)
    assert ["hr/hr_3.png"] == [image.name for image in images]
    assert ["hr/hr_2.png"] == [t.name for t in load_held_out_tiles(config, data_root=indexed_root)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"held_out_sources": ["hr/hr_9.png"]}, r"match no image: \['hr/hr_9.png'\]"),
        ({"hr": ["hr/*.tif"]}, r"hr/\*.tif: no image file matches"),
        (
            {"excluded_sources": [f"hr/hr_{n}.png" for n in range(4)]},
            "no training image of .* is left",
        ),
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

    with pytest.raises((ConfigError, ImageFileError), match=message):
        load_training_images(config, [config.hr], data_root=data_root)


def test_held_out_sources_without_tiles_are_an_error(data_root: Path) -> None:
    """Holding out what is never evaluated is a mistake in the recipe."""
    config = DataConfig(
        hr=["hr/*.png"], held_out_tiles=["hr/hr_1.png"], held_out_sources=["hr/hr_0.png"]
    )

    with pytest.raises(ConfigError, match="no tile comes from"):
        load_held_out_tiles(config, data_root=data_root)


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


def test_lr_images_of_mixed_sizes_are_loaded(data_root: Path) -> None:
    """A folder is enough; without one there are none."""
    (data_root / "lr").mkdir()
    for side in (20, 31):
        pixels = np.full((side, side + 3), side, dtype=np.uint8)
        Image.fromarray(pixels).save(data_root / "lr" / f"{side}.bmp")

    images = load_lr_images(DataConfig(hr=["hr"], lr=["lr"]), data_root=data_root)

    assert [(20, 23), (31, 34)] == [image.pixels.shape for image in images]
    assert [] == load_lr_images(DataConfig(hr=["hr"]), data_root=data_root)
