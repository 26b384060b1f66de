"""The measured halo: tiles and one whole pass give the same image; off the grid they would not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bundle_format.bundle import load_bundle
from engines.batches import run_batch
from engines.protocol import EngineOptions
from engines.registry import load_engine
from export.exporter import export_bundle
from export.preflight import ExportError
from export.seams import MAX_SEAM, measure_halo, seam_images, seen_px
from export.to_onnx import GreyLevels
from models import Generator, build_generator, save_network
from service.images.tiling import plan

TILE = (96, 96)
SIZES = [(110, 97), (96, 192), (97, 61), (240, 131)]
SHIPPED_SIZES = [(300, 517), (241, 240), (480, 480), (700, 1000)]

Picture = npt.NDArray[np.uint8]


def wide_generator() -> Generator:
    """A U-Net of four levels with random weights, so strong that cuts are seen 30 px far."""
    torch.manual_seed(0)
    generator = build_generator(
        "grain_unet",
        {"channels": [8, 8, 8, 8], "blocks": [1, 1, 1, 1], "pad": 4, "smooth_grain": True},
    )
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return generator


def upscaler(generator: Generator) -> Callable[[Picture], Picture]:
    """Run a generator on grey levels."""
    network = GreyLevels(generator)

    def upscale(image: Picture) -> Picture:
        with torch.inference_mode():
            return network(torch.from_numpy(image.copy())[None, None])[0][0, 0].numpy()

    return upscale


def seam(
    upscale: Callable[[Picture], Picture],
    image: Picture,
    *,
    tile: tuple[int, int],
    halo_px: int,
    grid_px: int,
) -> int:
    """Return the largest difference of the tiled answer from one whole pass, grey levels."""
    tile_plan = plan(*image.shape, tile=tile, halo_px=halo_px, grid_px=grid_px)
    tiled = tile_plan.merge([upscale(part) for part in tile_plan.split(image)], scale=4)
    return int(np.abs(tiled.astype(np.int16) - upscale(image)).max())


def scene(size: tuple[int, int], *, seed: int) -> Picture:
    """Lines of one pitch under the noise of a fast scan."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    grey = np.where((columns + rows // 3) % (7 + seed) < 4, 130.0, 60.0)
    return np.clip(grey + 8.0 * rng.standard_normal(size), 0, 255).astype(np.uint8)


def test_halo_is_measured_and_below_the_exact_view() -> None:
    """A multiple of the grid, beyond which nothing differs by more than a grey level."""
    generator = wide_generator()
    radius_px = generator.receptive_radius_px
    assert radius_px is not None

    halo_px, seams = measure_halo(generator, tile=TILE, radius_px=radius_px)

    assert halo_px % generator.grid_px == 0
    assert 2 * generator.grid_px < halo_px < radius_px
    assert seams.max_error <= MAX_SEAM
    assert (4, radius_px) == (seams.images, seams.radius_px)


def test_tiles_give_what_one_whole_pass_gives() -> None:
    """Sizes on the grid and off it, and images that are smaller than a tile on one side."""
    generator = wide_generator()
    radius_px = generator.receptive_radius_px
    assert radius_px is not None
    halo_px, _ = measure_halo(generator, tile=TILE, radius_px=radius_px)
    upscale = upscaler(generator)

    worst = [
        # The side that is smaller than the tile is mirrored to it, tiled or not.
        seam(
            upscale,
            np.pad(image, ((0, 0), (0, max(0, TILE[1] - image.shape[1]))), mode="reflect"),
            tile=TILE,
            halo_px=halo_px,
            grid_px=generator.grid_px,
        )
        for image in (scene(size, seed=seed) for seed, size in enumerate(SIZES))
    ]

    assert max(worst) <= MAX_SEAM, worst


def test_tiles_off_the_grid_would_differ() -> None:
    """The test before can fail: starts that are not multiples of the grid change the whole tile."""
    generator = wide_generator()
    image = scene((109, 97), seed=0)  # in two windows each way, 13 px and 1 px apart

    off_grid = seam(upscaler(generator), image, tile=TILE, halo_px=40, grid_px=1)

    assert off_grid > 5 * MAX_SEAM


def test_halo_too_small_is_seen() -> None:
    """Half of the measured halo leaves seams of several grey levels."""
    generator = wide_generator()

    worst = seam(upscaler(generator), scene((200, 200), seed=1), tile=TILE, halo_px=16, grid_px=8)

    assert worst > 2 * MAX_SEAM


def test_distance_is_the_farthest_that_is_seen() -> None:
    """An error that fades and comes back counts to its last place."""
    assert 4 == seen_px(np.array([9, 3, 1, 2, 1, 0]))
    assert 0 == seen_px(np.array([1, 1, 0]))


def test_real_tiles_are_measured_too() -> None:
    """A few of those that are given, mirrored to two tiles."""
    given = [np.full((8, 8), grey, np.uint8) for grey in range(10)]

    images = seam_images((8, 8), given)

    assert {(16, 16)} == {image.shape for image in images}
    assert [0, 3, 6, 9] == [int(image[0, 0]) for image in images[4:]]


@pytest.mark.slow
def test_bundle_carries_grid_halo_and_figures(tmp_path: Path) -> None:
    """The service reads them from the manifest, people from the card."""
    checkpoint = tmp_path / "checkpoint.safetensors"
    torch.manual_seed(0)
    generator = build_generator(
        "grain_unet", {"channels": [8, 8], "blocks": [1, 0], "pad": 1, "smooth_grain": True}
    )
    save_network(checkpoint, generator, training={})

    manifest = export_bundle(checkpoint, tmp_path / "unet", tile=(32, 32)).bundle.manifest

    assert 2 == manifest.grid_px
    assert manifest.seams is not None
    assert manifest.halo_px <= manifest.seams.radius_px == generator.receptive_radius_px
    assert "tiles start at multiples of 2" in (tmp_path / "unet" / "MODEL_CARD.md").read_text()


def test_tile_that_does_not_end_on_the_grid_is_refused(tmp_path: Path) -> None:
    """Every tile would end in pixels that are made up."""
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_network(checkpoint, wide_generator(), training={})
    with pytest.raises(ExportError, match=r"100x96 px; .* both sides must be multiples of 8"):
        export_bundle(checkpoint, tmp_path / "bundle", tile=(100, 96))


@pytest.mark.slow
@pytest.mark.parametrize("size", SHIPPED_SIZES)
def test_shipped_bundle_gives_what_one_whole_pass_gives(size: tuple[int, int]) -> None:
    """The weights and the graph that users get, at sizes of real images."""
    bundle = load_bundle(Path("bundles/default"))
    manifest = bundle.manifest
    engine = load_engine("onnx", bundle, EngineOptions(precision="fp32", threads=1))

    worst = seam(
        lambda image: run_batch(engine, np.ascontiguousarray(image)[None, None]).sr[0, 0],
        scene(size, seed=3),
        tile=manifest.tile,
        halo_px=manifest.halo_px,
        grid_px=manifest.grid_px,
    )

    assert worst <= MAX_SEAM
