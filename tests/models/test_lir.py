"""LIR's networks: published sizes, and what a style code can and cannot carry."""

from typing import Any, get_args

import pytest
import torch

from models.cost import count_gmac
from models.lir import Lir, LirStyle
from models.lir_parts import (
    ContentDecoder,
    ContentEncoder,
    Norm,
    StyledDecoder,
    StyleEncoder,
    StylePool,
)

POOLS: tuple[StylePool, ...] = get_args(StylePool)


def count(network: torch.nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in network.parameters())


def draws(seed: int = 0) -> torch.Generator:
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def test_sizes_and_cost_are_the_published_ones() -> None:
    """11.1 million weights for the path as published, 29.1 for the re-modelled one; 987 GMAC."""
    lir = Lir(norm="batch")

    # Convolutions without the biases that batch norm removes, plus its gains and offsets.
    encoder = 49 * 64 + 16 * 64 * 128 + 16 * 128 * 256 + 8 * 9 * 256**2
    norms = 2 * (64 + 128 + 256 + 8 * 256)
    assert encoder + norms == count(lir.encoder)
    ups = 25 * 256 * 128 + 25 * 128 * 64 + 3 * (128 + 64) + 49 * 64 + 1
    assert 8 * 9 * 256**2 + 2 * 8 * 256 + ups == count(lir.decoder)
    assert pytest.approx(11.1e6, rel=0.005) == count(lir)
    assert pytest.approx(29.1e6, rel=0.005) == count(LirStyle(norm="batch"))
    # A hundredth of a tile.
    assert pytest.approx(987, abs=1) == 100 * count_gmac(lir, tile=(24, 24))


def test_codes_and_images_have_the_published_shapes() -> None:
    """Codes are maps of 4w channels at a quarter of the size; a pooled style is a vector."""
    images = torch.rand(2, 1, 32, 24, generator=draws())
    content = ContentEncoder(width=3, num_blocks=2, norm="batch")(images)
    style = StyleEncoder(width=3, norm="batch")(images)
    pooled = StyleEncoder(width=3, norm="batch", pool="mean")(images)

    assert (2, 12, 8, 6) == tuple(content.shape) == tuple(style.shape)
    assert (2, 12, 1, 1) == tuple(pooled.shape)
    for pool, code in zip(POOLS, (style, pooled), strict=True):
        decoder = StyledDecoder(width=3, num_blocks=2, norm="batch", pool=pool)
        assert (2, 1, 32, 24) == tuple(decoder(content, code).shape)
    assert (2, 1, 32, 24) == tuple(
        ContentDecoder(channels=12, num_blocks=2, norm="batch")(content).shape
    )


@pytest.mark.parametrize(("pool", "expected"), [("none", "2, 4, 4, 4"), ("mean", "2, 4, 1, 1")])
def test_a_style_code_of_another_shape_is_refused(pool: StylePool, expected: str) -> None:
    """A swapped or half code must not broadcast into a picture."""
    decoder = StyledDecoder(width=1, num_blocks=1, norm="instance", pool=pool)

    with pytest.raises(ValueError, match=rf"\(2, 4, 3, 3\), expected \({expected}\)"):
        decoder(torch.rand(2, 4, 4, 4), torch.rand(2, 4, 3, 3))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_blocks_start_near_the_scale_of_their_input(norm: Norm) -> None:
    """Kaiming weights and norms keep codes of order 1 and pictures off the ends of the tanh."""
    torch.manual_seed(0)
    network = Lir(width=8, norm=norm)
    lr = torch.rand(4, 1, 12, 12, generator=draws())

    code, sr = network.encoder(network.upsample(lr)), network(lr)

    assert 0.5 < float(code.detach().std()) < 5
    assert 0.05 < float(sr.detach().std()) < 0.45


def test_a_reference_gives_style_and_a_map_of_it_also_places() -> None:
    """Moving a blob in the reference changes what a map gives there, and no pooled output."""
    lr = torch.rand(1, 1, 16, 16, generator=draws())
    reference = torch.full((1, 1, 64, 64), 0.3)
    moved = reference.clone()
    reference[:, :, 8:16, 8:16] = 0.9
    moved[:, :, 40:48, 40:48] = 0.9
    other = 1.0 - reference
    changes = {}
    for pool in POOLS:
        torch.manual_seed(1)
        network = LirStyle(width=4, num_blocks=1, style_pool=pool).eval()
        with torch.no_grad():
            given = network(lr, reference)
            changes[pool] = [float((network(lr, x) - given).abs().max()) for x in (moved, other)]

    assert changes["none"][0] > 0.05
    assert changes["mean"][0] < 0.1 * changes["mean"][1]
    assert changes["mean"][1] > 1e-3


def test_one_reference_serves_a_batch_and_tiles_smaller_than_itself() -> None:
    """The code is computed once; a larger reference is cut to its upper left corner."""
    network = LirStyle(width=2, num_blocks=1).eval()
    lr, reference = torch.rand(3, 1, 8, 10), torch.rand(1, 1, 48, 48)

    with torch.no_grad():
        together = network(lr, reference)
        alone = network.decode(lr[1:2], network.style(reference))

    assert (3, 1, 32, 40) == tuple(together.shape)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-5)


def test_a_reference_that_is_too_small_is_refused_unless_it_is_pooled() -> None:
    """Without pooling there is a place of the reference for each place of the output."""
    lr, reference = torch.rand(1, 1, 8, 10), torch.rand(1, 1, 32, 36)

    with pytest.raises(ValueError, match="32x36 px, expected at least 32x40 px"):
        LirStyle(width=2, num_blocks=1)(lr, reference)
    pooled = LirStyle(width=2, num_blocks=1, style_pool="mean")(lr, reference)
    assert (1, 1, 32, 40) == tuple(pooled.shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 2}, "scale is 2, expected a multiple of 4"),
        ({"width": 0}, "width and num_blocks are 0 and 4, expected at least 1"),
        ({"norm": "layer"}, "norm is 'layer', expected 'batch' or 'instance'"),
        ({"style_pool": "max"}, "style_pool is 'max', expected 'none' or 'mean'"),
    ],
)
def test_bad_hyper_parameters_are_named(arguments: dict[str, Any], message: str) -> None:
    """Name, value, and what was expected."""
    with pytest.raises(ValueError, match=message):
        LirStyle(**arguments)
