"""Crops: pairs that fit, batches that repeat, structure that is planted in both images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training.config.added_structure import AddedStructureConfig
from training.config.degradation import DegradationConfig
from training.config.recipe import ConfigError
from training.data.degradation.visibility import CoarseScan
from training.data.images import SourceImage, read_grey
from training.data.pair_samplers import CropSampler, ToolSampler
from training.data.plain_samplers import PlainSampler

NEUTRAL = DegradationConfig(
    spot_sigma_px=(0, 0), lag_decay=(0, 0), noise_var_base=(0, 0), noise_var_slope=(0, 0)
)


def _sampler(pixels: np.ndarray, *, degradation: DegradationConfig, seed: int = 0) -> CropSampler:
    image = SourceImage(name="a", source="a", pixels=pixels)
    return CropSampler(
        [image], degradation=degradation, scale=4, crop_px=16, batch_size=6, seed=seed
    )


def test_lr_crop_is_the_area_mean_of_its_hr_crop(data_root: Path) -> None:
    """Both crops of a pair show the same field, margins cut alike."""
    pixels = read_grey(data_root / "hr" / "hr_0.png")

    batch = _sampler(pixels, degradation=NEUTRAL).batch(0)
    lr, hr = batch.lr, batch.hr

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

    assert torch.equal(expected.lr, again.lr)
    assert torch.equal(expected.hr, again.hr)
    assert not torch.equal(expected.hr, sampler.batch(4).hr)
    assert not torch.equal(expected.hr, other_seed.hr)


def test_autocast_changes_no_pair(data_root: Path) -> None:
    """A worker process makes the same pairs as the trainer, whose steps run in BF16."""
    pixels = read_grey(data_root / "hr" / "hr_0.png")
    sampler = _sampler(pixels, degradation=DegradationConfig())
    expected = sampler.batch(3)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sampler.batch(3)

    assert torch.equal(expected.lr, found.lr)
    assert torch.float32 == found.lr.dtype


def test_crops_come_in_all_eight_orientations() -> None:
    """Turns and flips before the degradation: the pattern may lie any way, the scan may not."""
    y, x = np.mgrid[:96, :96]
    pixels = (x + 0.25 * y).astype(np.uint8)
    sampler = _sampler(pixels, degradation=NEUTRAL)

    seen = set()
    for step in range(30):
        for crop in sampler.batch(step).hr[:, 0]:
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
        hr = sampler.batch(0).hr
        return int((hr.amax(dim=(1, 2, 3)) > hr.amin(dim=(1, 2, 3))).sum())

    assert with_edge(8) > 3 * with_edge(1) > 0


def test_crop_candidates_leave_every_image_its_share() -> None:
    """An image of little contrast comes as often as one of much: candidates are of one image."""
    y, x = np.mgrid[:200, :200]
    images = [
        SourceImage(
            name=name, source=name, pixels=(100 + step * ((x + y) // 16 % 2)).astype(np.uint8)
        )
        for name, step in (("faint", 4), ("strong", 100))
    ]

    sampler = CropSampler(
        images,
        degradation=NEUTRAL,
        scale=4,
        crop_px=16,
        batch_size=200,
        seed=0,
        crop_candidates=4,
    )

    contrast = 255 * sampler.batch(0).hr.std(dim=(1, 2, 3))
    assert 70 < int((contrast < 10).sum()) < 130


def test_images_smaller_than_a_crop_are_refused() -> None:
    """The message says how large they must be."""
    with pytest.raises(ConfigError, match=r"smaller than a crop of 96 px: \['a'\]"):
        _sampler(np.zeros((95, 200), dtype=np.uint8), degradation=NEUTRAL)


def test_planted_structure_is_in_both_images_and_in_the_mask(data_root: Path) -> None:
    """What is planted in HR is degraded with it; outside the mask the crops stay as they were."""
    pixels = read_grey(data_root / "hr" / "hr_0.png")
    image = SourceImage(name="a", source="a", pixels=pixels)

    def draw(planted: tuple[int, int]) -> CropSampler:
        return CropSampler(
            [image],
            degradation=NEUTRAL,
            scale=4,
            crop_px=16,
            batch_size=4,
            seed=3,
            added=AddedStructureConfig(planted=planted, patch_share=0.0, min_detectability=0.0),
        )

    batch = draw((2, 3)).batch(0)

    assert (4, 1, 64, 64) == tuple(batch.mask.shape)
    assert {0.0, 1.0} == set(batch.mask.unique().tolist())
    assert float((batch.lr - torch.nn.functional.avg_pool2d(batch.hr, 4)).abs().max()) < 0.51 / 255
    assert 0 == float(draw((0, 0)).batch(0).mask.max())


def test_added_structure_is_as_faint_as_was_drawn() -> None:
    """With d' drawn from one value, the crops' changes have it; kinds are those of the recipe."""
    grey = np.full((128, 128), 60, dtype=np.uint8)
    image = SourceImage(name="film", source="film", pixels=grey)
    degradation = NEUTRAL.model_copy(update={"noise_var_base": (25.0, 25.0)})
    batch = CropSampler(
        [image],
        degradation=degradation,
        scale=4,
        crop_px=20,
        batch_size=16,
        seed=0,
        added=AddedStructureConfig(
            planted=(1, 1),
            kinds=("stain",),
            patch_share=0.0,
            min_detectability=9.0,
            max_detectability=9.0,
            faint_share=1.0,
        ),
    ).batch(0)

    scan = CoarseScan(degradation=degradation, scale=4)
    before = np.full(batch.hr.shape[2:], 60.0)
    reached = [
        scan.detectability(before, 255 * hr[0].numpy().astype(float))
        for hr, mask in zip(batch.hr, batch.mask, strict=True)
        # Where the margin, which is cut away, holds nothing of it.
        if mask.any()
        and not (mask[0, :8].any() or mask[0, -8:].any())
        and not (mask[0, :, :8].any() or mask[0, :, -8:].any())
    ]

    assert len(reached) > 3
    # Grey levels are whole numbers in the image.
    assert 9.0 == pytest.approx(float(np.median(reached)), rel=0.1)


def test_detectability_that_cannot_be_drawn_is_refused() -> None:
    """The greatest d' is not below the least where one is drawn."""
    with pytest.raises(ValueError, match=r"max_detectability is 5\.0, expected at least"):
        AddedStructureConfig(min_detectability=8.0, max_detectability=5.0, faint_share=0.5)


def test_own_patches_show_the_images_where_they_do_not_belong() -> None:
    """A crop of the blank image gets stripes, which only the other image has."""
    y, _ = np.mgrid[:96, :96]
    stripes = np.where(y // 8 % 2, 160, 80).astype(np.uint8)
    blank = np.full((96, 96), 120, dtype=np.uint8)
    images = [
        SourceImage(name=name, source=name, pixels=pixels)
        for name, pixels in (("stripes", stripes), ("blank", blank))
    ]

    batch = CropSampler(
        images,
        degradation=NEUTRAL,
        scale=4,
        crop_px=16,
        batch_size=60,
        seed=0,
        added=AddedStructureConfig(
            planted=(0, 0),
            min_detectability=0.0,
            patch_share=1.0,
            patch_sides_px=(48.0, 64.0),
            own_patch_share=1.0,
        ),
    ).batch(0)

    grey = 255 * batch.hr.numpy()
    foreign = batch.foreign.numpy() > 0
    patched = [
        crop[where]
        for crop, where in zip(grey, foreign, strict=True)
        if where.any() and not where.all() and set(np.rint(crop[~where])) == {120.0}
    ]
    # Blank patches on blank crops are flat; striped ones show two levels about equally often.
    striped = [patch for patch in patched if patch.std() > 5.0]
    assert len(striped) > 5
    assert all(0.25 < float((patch > patch.mean()).mean()) < 0.75 for patch in striped)


def test_lr_crops_are_flipped_along_the_scan_axis_only(data_root: Path) -> None:
    """A detector's lag is to the right in every crop, as in the images."""
    y, x = np.mgrid[:40, :50]
    pixels = (3 * x + y).astype(np.uint8)
    image = SourceImage(name="a", source="a", pixels=pixels)
    sampler = PlainSampler([image], crop_px=12, batch_size=20, seed=0)

    batch = sampler.batch(0)

    right = batch[:, 0, 0, -1] - batch[:, 0, 0, 0]
    down = batch[:, 0, -1, 0] - batch[:, 0, 0, 0]
    assert bool((right > 0).all())
    assert bool((down > 0).any())
    assert bool((down < 0).any())
    assert torch.equal(batch, sampler.batch(0))
    assert not torch.equal(batch, sampler.batch(1))


def test_flips_can_be_switched_off() -> None:
    """Every crop then keeps the orientation of its image, at the same places as with flips."""
    y, x = np.mgrid[:40, :50]
    image = SourceImage(name="a", source="a", pixels=(3 * x + y).astype(np.uint8))
    flipped = PlainSampler([image], crop_px=12, batch_size=20, seed=0).make(0)

    kept = PlainSampler([image], crop_px=12, batch_size=20, seed=0, flips="none").make(0)

    assert bool((kept[:, -1, 0] > kept[:, 0, 0]).all())
    for one, other in zip(kept, flipped, strict=True):
        assert np.array_equal(one, other) or np.array_equal(one[::-1], other)


def test_each_tool_degrades_its_own_crops() -> None:
    """Dark images become brighter by one tool, bright ones darker by the other; shares hold."""
    images = {
        grey: SourceImage(
            name=str(grey), source=str(grey), pixels=np.full((96, 96), grey, np.uint8)
        )
        for grey in (40, 160)
    }

    def sampler(grey: int, gain: float) -> CropSampler:
        degradation = NEUTRAL.model_copy(update={"gain": (gain, gain)})
        return CropSampler(
            [images[grey]], degradation=degradation, scale=4, crop_px=16, batch_size=8, seed=grey
        )

    both = ToolSampler([sampler(40, 2.0), sampler(160, 0.5)], [0.75, 0.25], seed=0)
    batches = [both.batch(step) for step in range(100)]

    pairs = [
        (round(255 * float(hr.mean())), round(255 * float(lr.mean())))
        for batch in batches
        for hr, lr in zip(batch.hr, batch.lr, strict=True)
    ]
    assert {(40, 80), (160, 80)} == set(pairs)
    assert 800 == len(pairs)
    assert 0.7 < sum(hr == 40 for hr, _ in pairs) / 800 < 0.8
    assert torch.equal(batches[7].hr, both.batch(7).hr)


def test_degrading_in_the_training_process_changes_no_bit_on_the_cpu(data_root: Path) -> None:
    """What a worker would return is small: grey levels and flags, degraded when it is used."""
    image = SourceImage(name="a", source="a", pixels=read_grey(data_root / "hr" / "hr_0.png"))

    def sampler(degrade_on: torch.device | None) -> CropSampler:
        return CropSampler(
            [image],
            degradation=DegradationConfig(line_jitter_px=(0.1, 0.2), line_gain_sigma=(0, 0.02)),
            scale=4,
            crop_px=16,
            batch_size=3,
            seed=1,
            added=AddedStructureConfig(planted=(1, 1), patch_share=1.0, min_detectability=0.0),
            degrade_on=degrade_on,
        )

    there, here = sampler(torch.device("cpu")), sampler(None)
    made = there.make(4)

    assert made.lr is None
    assert {np.dtype(np.uint8)} == {made.hr.dtype, made.flags.dtype}
    for name in ("lr", "hr", "mask", "foreign"):
        actual = getattr(there.finish(made), name)
        assert torch.equal(getattr(here.batch(4), name), actual), name
