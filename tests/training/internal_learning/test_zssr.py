"""ZSSR on small tiles: it learns, it is reproducible, and tiles that learn together stay apart."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.ground.baselines import bicubic
from training.ground.quality import noise_sigma, psnr
from training.internal_learning.networks import TileNetworks
from training.internal_learning.noise import estimate_tile_noise, lost_deviation
from training.internal_learning.options import Options, make_options
from training.internal_learning.rendering import back_project, render
from training.internal_learning.resize import enlarge, shrink
from training.internal_learning.zssr import TileError, enlarge_tiles


def scene(height: int, width: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Draw a grid of two pitches with steep edges, (H, W) in 0..1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    angle, pitch = rng.uniform(0, 0.4), rng.uniform(18, 26)
    along = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / pitch)
    across = np.sin(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / (1.4 * pitch))
    return 0.5 + 0.2 * np.tanh(6 * along) + 0.15 * np.tanh(6 * across)


def pair(side_px: int, factor: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray]:
    """Return an ideal tile, shrunk by the cubic and rounded, and its HR in grey levels."""
    hr = torch.from_numpy(scene(factor * side_px, factor * side_px, seed=seed))
    lr = torch.round(255 * shrink(hr, factor).clamp(0, 1)).to(torch.uint8)
    return lr.numpy(), 255 * hr.numpy()


def quick(configuration: str, **changes: object) -> Options:
    """Return options of a few narrow steps."""
    small = {"steps": 12, "crop_px": 32, "width": 4, "layers": 4}
    return make_options(configuration, **{**small, **changes})


def network(*, seed: int = 0, strength: float = 1.0) -> TileNetworks:
    """Draw one untrained network in float64."""
    drawn = TileNetworks.drawn(
        [np.random.default_rng(seed)],
        layers=4,
        width=6,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    return TileNetworks([strength * weight for weight in drawn.weights])


@pytest.mark.parametrize("factor", [2, 4])
def test_back_projection_leaves_nothing_of_the_tile_out(factor: int) -> None:
    """After ten corrections the shrunk picture is the tile, at more than 60 dB."""
    lr = torch.from_numpy(pair(48, factor)[0] / 255.0)
    start = torch.rand((48 * factor, 48 * factor), dtype=torch.float64)
    rough = 0.9 * enlarge(lr, factor, (48 * factor, 48 * factor)) + 0.05 * start

    def distance(picture: torch.Tensor) -> float:
        return psnr(255 * shrink(picture, factor).numpy(), 255 * lr.numpy())

    assert distance(rough) < 40
    assert distance(back_project(rough, lr, factor, 10)) > 60
    assert distance(render(network(), lr, factor, make_options("ideal"))) > 60


def test_the_ensemble_turns_with_the_tile() -> None:
    """With eight views the picture of a turned or mirrored tile is the turned picture."""
    lr = torch.from_numpy(pair(36, 4)[0][:32] / 255.0)
    options = make_options("ideal")
    picture = render(network(), lr, 4, options)

    for turns in (1, 2, 3):
        turned = render(network(), torch.rot90(lr, turns), 4, options)
        assert torch.allclose(torch.rot90(picture, turns), turned, atol=1e-9)
    mirrored = render(network(), lr.flip(0), 4, options)
    assert torch.allclose(picture.flip(0), mirrored, atol=1e-9)
    alone = make_options("ideal", views=1)
    turned = render(network(), torch.rot90(lr), 4, alone)
    assert not torch.allclose(torch.rot90(render(network(), lr, 4, alone)), turned, atol=1e-3)


def test_four_views_are_the_mirror_images() -> None:
    """The measured configuration mirrors and never turns; the median of four is their middle."""
    lr = torch.from_numpy(pair(32, 4)[0] / 255.0)
    options, one = make_options("measured"), make_options("measured", views=1)

    picture = render(network(), lr, 4, options)

    sides: list[list[int]] = [[], [0], [1], [0, 1]]
    views = [render(network(), lr.flip(side), 4, one).flip(side) for side in sides]
    middle = torch.stack(views).sort(dim=0).values[1:3].mean(dim=0)
    assert torch.allclose(middle, picture, atol=1e-12)


def test_it_learns_more_than_interpolation() -> None:
    """In 150 narrow steps a periodic tile gains 1 dB over bicubic, and more with corrections."""
    lr, hr = pair(64, 2)
    base = psnr(bicubic(lr, scale=2), hr)
    options = make_options(
        "ideal", scales=(2,), steps=150, crop_px=32, width=16, views=1, back_projections=0
    )

    [alone] = enlarge_tiles([lr], options)
    [corrected] = enlarge_tiles([lr], options.model_copy(update={"back_projections": 10}))

    assert psnr(alone.picture, hr) > base + 1.0
    assert psnr(corrected.picture, hr) > psnr(alone.picture, hr)


@pytest.mark.slow
def test_the_published_network_gains_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubled in 700 steps of 64 px: 1.5 dB over bicubic, 2 dB over corrected bicubic with all."""
    lr, hr = pair(128, 2)
    tile = torch.from_numpy(lr / 255.0)
    base = enlarge(tile, 2, (256, 256))
    options = make_options("ideal", scales=(2,), steps=700, crop_px=64)
    plain = options.model_copy(update={"views": 1, "back_projections": 0})
    results: list[torch.Tensor] = []

    def keep(network: TileNetworks, lr: torch.Tensor, factor: int, _: Options) -> torch.Tensor:
        results.append(render(network, lr, factor, plain))
        return render(network, lr, factor, options)

    monkeypatch.setattr("training.internal_learning.zssr.render", keep)
    [whole] = enlarge_tiles([lr], options)

    def quality(picture: torch.Tensor) -> float:
        return psnr(255 * picture.numpy(), hr)

    assert quality(results[0]) > quality(base) + 1.5
    assert psnr(whole.picture, hr) > quality(back_project(base, tile, 2, 10)) + 2.0


@pytest.mark.parametrize("configuration", ["measured", "ideal"])
def test_equal_seeds_give_equal_pictures(configuration: str) -> None:
    """A picture depends on seed and tile: the same bits again, others with another seed."""
    tiles = [pair(40, 4, seed=seed)[0] for seed in (0, 1)]
    options = quick(configuration)

    first, other = (enlarge_tiles([tile], options)[0].picture for tile in tiles)
    again = enlarge_tiles([tiles[0]], options)[0].picture
    reseeded = enlarge_tiles([tiles[0]], quick(configuration, seed=1))[0].picture

    assert np.array_equal(first, again)
    assert not np.array_equal(first, reseeded)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("configuration", ["measured", "ideal"])
@pytest.mark.parametrize("scales", [(4,), (2, 4)])
def test_tiles_that_learn_together_are_as_alone(
    configuration: str, scales: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unrounded pictures differ by less than 1e-5, in any order of the tiles."""
    finished: list[torch.Tensor] = []

    def keep(*arguments: object) -> torch.Tensor:
        finished.append(render(*arguments))  # pyright: ignore[reportArgumentType]
        return finished[-1]

    monkeypatch.setattr("training.internal_learning.zssr.render", keep)
    tiles = [pair(36, 4, seed=seed)[0] for seed in range(3)]
    options = quick(configuration, scales=scales, steps=15)

    alone = []
    for tile in tiles:
        enlarge_tiles([tile], options, dtype=torch.float64)
        alone.append(finished[-1])
    enlarge_tiles(tiles[::-1], options, dtype=torch.float64)
    together = finished[-3:][::-1]

    for one, same in zip(alone, together, strict=True):
        assert float((one - same).abs().max()) < 1e-5


def test_a_tile_that_ends_early_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles stop at their own steps by their own rates, and their pictures are those alone."""
    for interval, steps in (("MEASURE_EVERY", 2), ("CHECK_EVERY", 3), ("WAIT", 8)):
        monkeypatch.setattr(f"training.internal_learning.rate.{interval}", steps)
    tiles = [pair(36, 2, seed=seed)[0] for seed in range(4)]
    options = quick("ideal", scales=(2,), steps=36, start_rate=0.02, stop=0.01, views=1)

    alone = [enlarge_tiles([tile], options, dtype=torch.float64)[0] for tile in tiles]
    together = enlarge_tiles(tiles, options, dtype=torch.float64)

    assert len({answer.steps for answer in alone}) > 1
    for one, same in zip(alone, together, strict=True):
        assert one.steps == same.steps
        assert one.last_rate == same.last_rate
        assert np.abs(one.picture.astype(int) - same.picture).max() <= 1


@pytest.mark.parametrize(
    ("sides", "scales"), [((32, 45), (4,)), ((33, 37), (2, 4)), ((40, 32), (2,))]
)
@pytest.mark.parametrize("configuration", ["measured", "ideal"])
def test_any_size_is_enlarged(
    sides: tuple[int, int], scales: tuple[int, ...], configuration: str
) -> None:
    """Odd and uneven sides become exactly s times as large; flat greys stay."""
    flat = np.full(sides, 100, np.uint8)

    [answer] = enlarge_tiles([flat], quick(configuration, scales=scales, steps=3))

    assert (scales[-1] * sides[0], scales[-1] * sides[1]) == answer.picture.shape
    assert np.uint8 == answer.picture.dtype
    assert (3,) * len(scales) == answer.steps
    assert abs(float(answer.picture.mean()) - 100) < 25


@pytest.mark.parametrize("factor", [2, 4])
def test_sons_are_as_noisy_as_the_tile(factor: int) -> None:
    """Shrinking takes noise away, and the measured noise gives it back, at every grey."""
    rng = np.random.default_rng(4)
    greys = np.repeat([60.0, 180.0], 200)[:, None].repeat(400, axis=1)
    clean = greys + 10 * np.sin(np.arange(400) / 50)
    tile = np.clip(np.rint(clean + rng.normal(size=clean.shape) * np.sqrt(9 + 0.2 * clean)), 0, 255)
    tile = tile.astype(np.uint8)
    noise = estimate_tile_noise(tile)
    son = shrink(torch.from_numpy(tile / 255.0), factor)

    [lost] = lost_deviation(son[None], tiles=[noise], fathers=[noise], factor=factor)
    noisy = 255 * (son + lost * torch.from_numpy(rng.standard_normal(tuple(son.shape)))).numpy()

    half = len(noisy) // 2
    for part, grey in ((noisy[: half - 4], 60.0), (noisy[half + 4 :], 180.0)):
        assert (9 + 0.2 * grey) ** 0.5 == pytest.approx(noise_sigma(part), rel=0.1)
        assert noise_sigma(part) > 1.5 * noise_sigma(255 * son.numpy()[: half - 4])


def test_a_small_tile_has_one_noise_for_all_greys() -> None:
    """Without enough flat pixels of one grey, second differences of the whole tile decide."""
    rng = np.random.default_rng(0)
    tile = np.clip(128 + rng.normal(0, 6, (32, 32)) + 60 * np.sign(np.arange(32) - 15.5), 0, 255)

    noise = estimate_tile_noise(tile.astype(np.uint8))

    assert 0 == noise.slope
    assert 6 == pytest.approx(noise.base**0.5, rel=0.2)


def test_progress_is_reported() -> None:
    """The caller learns the step and the loss."""
    reports: list[tuple[int, float]] = []

    enlarge_tiles(
        [pair(32, 4)[0]],
        quick("measured", steps=25),
        report=lambda step, loss: reports.append((step, loss)),
    )

    assert [10, 20] == [step for step, _ in reports]
    assert all(0 < loss < 1 for _, loss in reports)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([(31, 40)], "a tile is 40x31 px, expected at least 32 px"),
        ([(32, 32), (32, 40)], "one size"),
    ],
)
def test_tiles_that_cannot_be_learned_from_are_refused(
    sizes: list[tuple[int, int]], words: str
) -> None:
    """Before any step, with the size and what was expected."""
    with pytest.raises(TileError, match=words):
        enlarge_tiles([np.zeros(size, np.uint8) for size in sizes], quick("measured"))
