"""The U-Net of pix2pix: published sizes, bottleneck, margins, statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models import load_generator, save_network
from models.cost import count_gmac
from models.dropout import SeededDropout, dropout_drawn_by
from models.unet import UNet, mirrored


@pytest.mark.parametrize(
    ("depth", "parameters_m", "gmac"),
    [(6, 29.2, 93.2), (7, 41.8, 94.8), (8, 54.4, 95.2), (10, 79.6, 95.3)],
)
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_published_size_and_cost(depth: int, parameters_m: float, gmac: float, norm) -> None:
    """Those of the published network with one channel, and its multiply-adds at 1024x1024 px."""
    with torch.device("meta"):
        network = UNet(scale=1, depth=depth, norm=norm)
        cost = count_gmac(network, tile=(1024, 1024))

    assert parameters_m == round(sum(p.numel() for p in network.parameters()) / 1e6, 1)
    assert gmac == round(cost, 1)


@pytest.mark.parametrize("depth", [2, 5, 6])
def test_bottleneck_is_one_pixel_for_a_crop_of_the_named_side(depth: int) -> None:
    """U-Net N halves N px to 1x1 px; the level above has 2x2 px and a norm."""
    network = UNet(scale=1, depth=depth, width=1)
    shapes: list[tuple[int, ...]] = []
    for down in network.down:
        down.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[2:])))

    network(torch.rand(1, 1, 2**depth, 2**depth))

    assert [(2**n, 2**n) for n in range(depth - 1, -1, -1)] == shapes
    norms = [isinstance(norm, nn.InstanceNorm2d) for norm in network.down_norms]
    assert [False, *[True] * (depth - 2), False] == norms


def test_a_skip_joins_every_level() -> None:
    """Each transposed convolution but the innermost takes the level's own features as well."""
    network = UNet(scale=1, depth=6, width=2)

    assert [2, 4, 8, 16, 16, 16] == [
        layer.get_parameter("weight").shape[0] for layer in network.down
    ]
    assert [16, 32, 32, 16, 8, 4] == [
        layer.get_parameter("weight").shape[0] for layer in network.up
    ]
    assert [16, 16, 8, 4, 2, 1] == [layer.get_parameter("weight").shape[1] for layer in network.up]


@pytest.mark.parametrize(("height", "width"), [(2, 2), (9, 24), (240, 25)])
def test_margins_mirror_the_image_up_to_the_multiple(height: int, width: int) -> None:
    """As NumPy reflects, however small the image is; a multiple stays as it is."""
    image = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(0))
    rows, columns = (-side % 8 for side in (height, width))

    found = mirrored(image, multiple_px=8)

    margins = [(0, 0), (0, 0), *((n // 2, n - n // 2) for n in (rows, columns))]
    assert np.array_equal(np.pad(image.numpy(), margins, mode="reflect"), found.numpy())


def test_the_margin_is_cut_off_where_it_was_added() -> None:
    """The output of an odd size is the middle of that of the mirrored image."""
    network = UNet(scale=1, depth=4, width=2)
    image = torch.rand(1, 1, 27, 40, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        whole = network(mirrored(image, multiple_px=16))
        cut = network(image)

    assert (1, 1, 32, 48) == tuple(whole.shape)
    assert torch.equal(whole[:, :, 2:29, 4:44], cut)


def test_dropout_stands_on_the_inner_levels_of_equal_width() -> None:
    """Depth - 5 of them, counted from the second innermost; never at the innermost or outermost."""
    for depth, count in ((5, 0), (6, 1), (8, 3)):
        with torch.device("meta"):
            network = UNet(scale=1, depth=depth, dropout=0.5)
        used = [
            number
            for number, layer in enumerate(network.drops)
            if isinstance(layer, SeededDropout) and layer.probability == 0.5
        ]
        assert list(range(1, 1 + count)) == used


def test_dropout_changes_training_mode_alone() -> None:
    """The published network keeps it in tests; here the output is one function of the input."""
    network = UNet(scale=1, depth=6, width=2, dropout=0.5)
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    def trained(seed: int) -> torch.Tensor:
        with torch.no_grad(), dropout_drawn_by(network, torch.Generator().manual_seed(seed)):
            return network(image)

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    network.eval()
    assert torch.equal(trained(1), trained(2))


def test_batch_norm_ships_its_running_statistics(tmp_path: Path) -> None:
    """A loaded checkpoint uses those of the training, so that one image gives one output."""
    torch.manual_seed(0)
    network = UNet(scale=1, depth=3, width=4, norm="batch")
    for _ in range(3):
        network(torch.rand(4, 1, 16, 16) * 0.2 + 0.6)
    save_network(tmp_path / "c.safetensors", network, training={})

    loaded, _ = load_generator(tmp_path / "c.safetensors")

    image = torch.rand(2, 1, 16, 16)
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(image), loaded(image))
        # Of the batch's other images nothing is seen, as it is in training mode.
        torch.testing.assert_close(loaded(image[:1]), loaded(image)[:1])
        assert float((network.train()(image) - loaded(image)).abs().max()) > 1e-4
    assert 3 == int(loaded.get_buffer("up_norms.0.num_batches_tracked"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, "depth at least 2, got 4, 64 and 1"),
        ({"norm": "layer"}, "norm must be 'instance' or 'instance_affine' or 'batch', got 'layer'"),
        ({"init": "he"}, "init must be 'normal' or 'xavier', got 'he'"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    """No silent default."""
    with pytest.raises(ValueError, match=message):
        UNet(**options)
