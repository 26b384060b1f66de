"""The F-MLP, and the generator's encoder as feature network."""

import pytest
import torch
from torch.nn import functional

from models.resnet9 import ResNet9
from training.methods.parts.encoder_half import EncoderHalf
from training.methods.parts.feature_sampler import FeatureSampler, values_at


def resnet(*, anti_aliased: bool = True) -> ResNet9:
    """Build a network of five blocks, which the published taps need."""
    torch.manual_seed(0)
    return ResNet9(width=2, num_blocks=5, anti_aliased=anti_aliased)


def test_published_taps_are_the_padded_image_two_halvings_and_two_blocks() -> None:
    """Channels and sizes of CUT's layers 0, 4, 8, 12 and 16 at width w: 1, 2w, 4w, 4w, 4w."""
    encoder = EncoderHalf(resnet().layers, (0, 4, 8, 12, 16))

    features = encoder(torch.rand(2, 1, 32, 24))

    assert {"0": 1, "4": 4, "8": 8, "12": 8, "16": 8} == encoder.channels
    assert [(38, 30), (32, 24), (16, 12), (8, 6), (8, 6)] == [
        tuple(maps.shape[-2:]) for maps in features.values()
    ]
    assert encoder.channels == {tap: maps.shape[1] for tap, maps in features.items()}


def test_taps_are_the_outputs_of_the_layers() -> None:
    """Nothing behind a tap changes it, and the image enters in [-1, 1]."""
    network = resnet()
    image = torch.rand(1, 1, 16, 16)

    features = EncoderHalf(network.layers, (0, 16))(image)

    assert torch.equal(functional.pad(2 * image - 1, (3, 3, 3, 3), mode="reflect"), features["0"])
    assert torch.equal(network.layers[:17](2 * image - 1), features["16"])


def test_recorded_features_are_those_of_the_image_that_is_translated() -> None:
    """Keys cost no second pass: the same values, without gradient, and no hook stays behind."""
    network = resnet()
    encoder = EncoderHalf(network.layers, (0, 4, 8, 12, 16))
    image = torch.rand(1, 1, 16, 16)

    with encoder.recorded() as found:
        network.translate(image)

    for tap, features in encoder(image).items():
        assert torch.equal(features, found[tap])
        assert not found[tap].requires_grad
    before = {tap: features.clone() for tap, features in found.items()}
    network.translate(1 - image)
    assert all(torch.equal(features, found[tap]) for tap, features in before.items())


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ((0, 17), r"taps are \[0, 17\], expected layers from 0 to 16, the last residual block"),
        ((), "taps are"),
        ((-1,), "taps are"),
        ((0, 2), r"taps \[2\] are changed in place"),
    ],
)
def test_taps_outside_the_encoder_half_are_rejected(taps, message: str) -> None:
    """The decoder's layers hold the look that is to change."""
    with pytest.raises(ValueError, match=message):
        EncoderHalf(resnet().layers, taps)


def test_the_strided_form_has_its_own_taps() -> None:
    """The documented numbers are the same places of the other form."""
    encoder = EncoderHalf(resnet(anti_aliased=False).layers, (0, 4, 7, 10, 14))

    assert [1, 4, 8, 8, 8] == list(encoder.channels.values())


def test_projections_have_length_one_and_stay_single_precision() -> None:
    """Under autocast as well: the loss divides by 0.07."""
    sampler = FeatureSampler({"0": 1, "4": 6}, width=16)
    values = torch.randn(2, 5, 6)

    projected = sampler("4", values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = sampler("4", values.bfloat16())

    assert (2, 5, 16) == tuple(projected.shape)
    assert torch.allclose(torch.ones(2, 5), projected.norm(dim=-1), atol=1e-3)
    assert torch.float32 == mixed.dtype


def test_a_projection_of_zero_has_a_finite_gradient() -> None:
    """Fresh heads have no bias, so that a grey place of the image gives 0."""
    sampler = FeatureSampler({"0": 1}, width=4)
    values = torch.zeros(1, 3, 1, requires_grad=True)

    sampler("0", values).sum().backward()

    assert values.grad is not None
    assert torch.isfinite(values.grad).all()


def test_heads_start_as_published() -> None:
    """Xavier-normal of gain 0.02, biases 0, other weights for every tap; the draw is repeatable."""
    first, again = (
        FeatureSampler({"a": 64, "b": 64}, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    state = first.state_dict()

    deviation = 0.02 * (2 / (64 + 256)) ** 0.5
    assert pytest.approx(deviation, rel=0.05) == float(state["heads.a.0.weight"].std())
    assert 0 == float(state["heads.a.0.bias"].abs().max())
    assert not torch.equal(state["heads.a.0.weight"], state["heads.b.0.weight"])
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())


def test_values_are_those_of_the_places() -> None:
    """Row-major ids, of all images or of each."""
    features = torch.arange(2 * 3 * 2 * 4).view(2, 3, 2, 4).float()

    shared = values_at(features, torch.tensor([6, 1]))
    own = values_at(features, torch.tensor([[6], [0]]))

    assert torch.equal(features[:, :, 1, 2], shared[:, 0])
    assert torch.equal(features[:, :, 0, 1], shared[:, 1])
    assert torch.equal(torch.stack([features[0, :, 1, 2], features[1, :, 0, 0]]), own[:, 0])


@pytest.mark.parametrize("arguments", [({}, 4), ({"0": 1}, 0)])
def test_a_sampler_without_taps_or_width_is_rejected(arguments: tuple[dict[str, int], int]) -> None:
    """It would compare nothing."""
    with pytest.raises(ValueError, match="expected at least one tap"):
        FeatureSampler(arguments[0], width=arguments[1])


@pytest.mark.parametrize("size", [(24, 32), (17, 22)])
def test_translation_is_the_network_without_the_enlargement(size: tuple[int, int]) -> None:
    """`forward` enlarges and translates; sizes that are not multiples of 4 are kept."""
    network = resnet()
    lr = torch.rand(1, 1, 5, 6)

    assert torch.equal(network(lr), network.translate(network.upsample(lr)))
    assert (1, 1, *size) == tuple(network.translate(torch.rand(1, 1, *size)).shape)
