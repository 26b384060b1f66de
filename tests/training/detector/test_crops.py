"""Batches: reproducible, aligned with their labels, balanced."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from training.detector.crops import CropSampler, cell_weights
from training.detector.tiles import LabelledTile

Draw = Callable[..., LabelledTile]


def _sampler(tiles: list[LabelledTile], **changes: int) -> CropSampler:
    options = {"crop_px": 96, "batch_size": 16, "seed": 3, **changes}
    return CropSampler(
        tiles,
        crop_px=options["crop_px"],
        batch_size=options["batch_size"],
        seed=options["seed"],
    )


def test_batches_follow_from_seed_and_step(drawn_tile: Draw) -> None:
    """The same step gives the same crops in any order; another step or seed gives others."""
    tiles = [drawn_tile(seed=n, defects=3) for n in range(3)]
    sampler = _sampler(tiles)

    later, first = sampler.batch(7), sampler.batch(0)

    assert (16, 1, 96, 96) == tuple(first.image.shape)
    assert (16, 1, 24, 24) == tuple(first.target.shape) == tuple(first.weight.shape)
    assert torch.float32 == first.image.dtype == first.target.dtype == first.weight.dtype
    assert torch.equal(later.image, _sampler(tiles).batch(7).image)
    assert not torch.equal(first.image, later.image)
    assert not torch.equal(first.image, _sampler(tiles, seed=4).batch(0).image)


def test_labels_stay_on_their_defects_however_a_crop_is_turned(drawn_tile: Draw) -> None:
    """In every crop the cells of defects are the bright ones."""
    tiles = [drawn_tile(seed=n, defects=4) for n in range(2)]

    batch = _sampler(tiles).batch(0)

    means = torch.nn.functional.avg_pool2d(batch.image, 4) * 255
    assert batch.target.sum() > 50
    assert means[batch.target == 1].min() > 95 > means[batch.target == 0].max()


def test_tone_hardly_varies_and_clean_tiles_are_seen(drawn_tile: Draw) -> None:
    """Crops keep the tile's tone within some per cent, and clean crops stand beside others."""
    tiles = [drawn_tile(seed=0, defects=1), drawn_tile(seed=1, defects=0)]

    batch = _sampler(tiles, batch_size=64).batch(0)

    means = batch.image.mean(dim=(1, 2, 3)) * 255
    assert 46 < means.min() < means.max() < 54
    with_defect = (batch.target.amax(dim=(1, 2, 3)) > 0).float().mean()
    assert 0.5 < with_defect < 0.9


def test_small_and_large_defects_weigh_alike() -> None:
    """Within the limits the weights of a defect's cells have one sum; rims have none."""
    cells = np.zeros((40, 40), dtype=np.uint8)
    cells[4:8, 4:8], cells[20:28, 20:28], cells[35, 35] = 1, 2, 3

    weight = cell_weights(cells)

    assert [30.0, 30.0, 5.0] == [pytest.approx(weight[cells == k].sum()) for k in (1, 2, 3)]
    assert 0.0 == weight[3, 3] == weight[28, 28]
    assert 1.0 == weight[2, 2] == weight[0, 39]


@pytest.mark.parametrize("crop_px", [0, 50, 224])
def test_crops_that_do_not_fit_are_refused(drawn_tile: Draw, crop_px: int) -> None:
    """A crop is a multiple of 32 and no larger than the tiles."""
    with pytest.raises(ValueError, match=rf"least side of a tile, 192; got {crop_px}"):
        _sampler([drawn_tile(seed=0, defects=1)], crop_px=crop_px)
