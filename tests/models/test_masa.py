"""MASA: sizes, promises of a network with a reference, and its layers' closed forms."""

from pathlib import Path
from typing import Any

import pytest
import torch

from export.exporter import export_bundle
from models import (
    REFERENCE_NETWORKS,
    ReferenceNetwork,
    UnknownGeneratorError,
    build_network,
    load_generator,
    load_network,
    save_network,
)
from models.masa import Masa
from models.masa_layers import DualResidualAggregation, SpatialAdaptation
from models.masa_matching import match

SMALL: dict[str, Any] = {
    "channels": 4,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "blocks": [1, 1, 1],
}


def random_masa(seed: int = 0) -> Masa:
    """Build a small network whose parameters are away from their initial values."""
    torch.manual_seed(seed)
    network = Masa(**SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


def test_registry_says_what_it_is_for() -> None:
    """A list of the networks shows that this one does not serve."""
    spec = REFERENCE_NETWORKS["masa"]
    assert spec.build is Masa
    assert spec.summary.endswith("for comparison, not for serving")


@pytest.mark.parametrize(
    ("lr", "reference"),
    [
        ((2, 16, 24), (2, 64, 96)),
        ((2, 13, 9), (1, 51, 70)),
        ((1, 8, 8), (1, 200, 16)),
        ((1, 3, 1), (1, 5, 4)),
        ((3, 17, 31), (3, 30, 30)),
    ],
)
def test_output_is_four_times_the_input(
    lr: tuple[int, int, int], reference: tuple[int, int, int]
) -> None:
    """For all sizes of the two images: sides need not be multiples of a block, nor agree."""
    network = random_masa()

    sr = network(torch.rand(lr[0], 1, *lr[1:]), torch.rand(reference[0], 1, *reference[1:]))

    assert (lr[0], 1, 4 * lr[1], 4 * lr[2]) == tuple(sr.shape)
    assert bool(torch.isfinite(sr).all())


def test_published_size_has_as_many_parameters_as_documented() -> None:
    """A layer that was lost or added would show here."""
    assert 4_321_281 == sum(parameter.numel() for parameter in Masa().parameters())


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_untrained_output_is_about_the_image_range(level: float) -> None:
    """At the published size, also on flat black and white: features there are alike everywhere."""
    torch.manual_seed(0)
    network = Masa()

    with torch.no_grad():
        flat = network(torch.full((1, 1, 12, 12), level), torch.full((1, 1, 48, 48), level))
        noise = network(torch.rand(1, 1, 12, 12), torch.rand(1, 1, 48, 48))

    for sr in (flat, noise):
        assert bool(torch.isfinite(sr).all())
        assert -0.7 < float(sr.min())
        assert float(sr.max()) < 1.7


def test_gradients_reach_every_parameter() -> None:
    """No parameter is dead."""
    network = random_masa()

    sr = network(torch.rand(2, 1, 12, 12), torch.rand(2, 1, 48, 48))
    (sr - torch.rand_like(sr)).square().mean().backward()

    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert float(parameter.grad.abs().max()) > 0, name


def test_the_reference_changes_the_output() -> None:
    """An untrained network would already copy from it."""
    network, lr = random_masa(), torch.rand(1, 1, 16, 16)

    with torch.no_grad():
        first, second = (network(lr, torch.rand(1, 1, 64, 64)) for _ in range(2))

    assert float((first - second).abs().max()) > 1e-3


def test_images_of_a_batch_do_not_see_each_other() -> None:
    """Each takes its own reference."""
    network = random_masa()
    lr, reference = torch.rand(3, 1, 11, 14), torch.rand(3, 1, 48, 60)

    with torch.no_grad():
        together = network(lr, reference)
        alone = torch.cat([network(lr[n : n + 1], reference[n : n + 1]) for n in range(3)])

    assert torch.allclose(together, alone, atol=1e-5)


def test_the_best_possible_reference_is_found_in_place() -> None:
    """With Ref = HR and LR its reduction, every patch is matched with itself at score 1."""
    network = random_masa()
    hr = torch.rand(1, 1, 96, 64)
    lr = network.reduced(hr)
    [ours], [theirs] = (network.encoder(image, levels=1) for image in (lr, network.reduced(hr)))

    matches = match(ours, theirs)

    assert torch.allclose(torch.ones(24, 16), matches.scores[0, 0].detach(), atol=1e-5)
    assert torch.equal(torch.arange(24)[:, None].expand(24, 16), matches.rows[0])
    assert torch.equal(torch.arange(16).expand(24, 16), matches.columns[0])


def test_hyper_parameters_and_checkpoint_rebuild_the_same_network(tmp_path: Path) -> None:
    """Also where the file is read again, bit for bit."""
    network = random_masa()
    save_network(tmp_path / "masa.safetensors", network, training={"steps": 3})
    lr, reference = torch.rand(1, 1, 9, 10), torch.rand(1, 1, 40, 44)

    loaded, info = load_network(tmp_path / "masa.safetensors")

    assert isinstance(loaded, ReferenceNetwork)
    assert ("masa", {**SMALL, "scale": 4}) == (info.generator, loaded.hyper_parameters)
    assert torch.equal(network(lr, reference), loaded(lr, reference))


def test_it_can_be_neither_loaded_as_a_generator_nor_exported(tmp_path: Path) -> None:
    """An LR tile comes without a reference."""
    path = tmp_path / "masa.safetensors"
    save_network(path, random_masa(), training={})

    with pytest.raises(UnknownGeneratorError, match="'masa' needs a reference image"):
        load_generator(path)
    with pytest.raises(UnknownGeneratorError, match="'masa' needs a reference image"):
        export_bundle(path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("hyper_parameters", "message"),
    [
        ({"scale": 2}, "scale must be 4, got 2"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"blocks": [1, 2]}, r"blocks must be 3 numbers, got \[1, 2\]"),
        ({"blocks": [1, 2, -1]}, "numbers of blocks at least 0"),
    ],
)
def test_wrong_hyper_parameters_are_named(hyper_parameters: dict[str, Any], message: str) -> None:
    """The registry adds which network it was."""
    with pytest.raises(UnknownGeneratorError, match=message):
        build_network("masa", hyper_parameters)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (torch.rand(1, 1, 3, 40), r"the reference is \(3, 40\) px; expected at least 4 px"),
        (torch.rand(2, 1, 40, 40), "2 references for 3 LR images"),
    ],
)
def test_unusable_references_are_named(references: torch.Tensor, message: str) -> None:
    """Neither is silently broadcast or padded."""
    with pytest.raises(ValueError, match=message):
        random_masa()(torch.rand(3, 1, 8, 8), references)


def test_adaptation_starts_as_a_transfer_of_mean_and_deviation() -> None:
    """Of every channel of every image."""
    torch.manual_seed(0)
    lr = 3.0 * torch.randn(2, 5, 20, 30) + torch.randn(2, 5, 1, 1)
    reference = 0.2 * torch.randn(2, 5, 20, 30) - 4.0

    adapted = SpatialAdaptation(5)(lr, reference)

    assert torch.allclose(lr.mean((2, 3)), adapted.mean((2, 3)), atol=1e-3)
    assert torch.allclose(lr.std((2, 3)), adapted.std((2, 3)), rtol=1e-3)
    own = SpatialAdaptation(5)(lr, lr)
    assert torch.allclose(lr, own, atol=1e-3)


def test_aggregation_computes_what_each_lacks() -> None:
    """With convolutions that pass one pixel on: the formulas, by hand."""
    layer = DualResidualAggregation(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        for name in ("down_a", "down_b", "up_a", "up_b"):
            layer.get_submodule(name).get_parameter("weight")[0, 0, 1, 1] = 1.0
        layer.join.weight[0, 0, 1, 1] = 1.0
        layer.join.weight[0, 1, 1, 1] = 10.0
    lr = torch.tensor([[5.0, 1.0]])[None, None]
    reference = torch.tensor([[2.0, 3.0, 4.0, 6.0], [7.0, 8.0, 9.0, 1.0]])[None, None]

    joined = layer(lr, reference)

    # The reduced reference is 2 and 4. a adds relu(2 - 5) and relu(4 - 1) at even places; b is
    # relu(5 - 2 + 5) and relu(1 - 4 + 1).
    a = torch.tensor([[2.0, 3.0, 7.0, 6.0], [7.0, 8.0, 9.0, 1.0]])
    b = torch.tensor([[8.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.allclose(a + 10 * b, joined[0, 0])
