"""Grain from hashed grey levels: white, repeatable, exact, and gone where nothing varies."""

import numpy as np
import pytest
import torch

from models.blocks import RepConv3
from models.grain import GREY_LEVELS, MODULUS, MULTIPLIERS, NEIGHBOUR_WEIGHTS, HashNoise
from models.grain_head import LIMIT_MARGIN, START_AMPLITUDE
from models.grain_sr import GrainSR
from tests.models.branches import by_branches


def noisy(*, sigma_grey: float, side_px: int = 160, seed: int = 0) -> torch.Tensor:
    """Draw a flat 8-bit image with white noise, (1, 1, side, side) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    grey = 80 + sigma_grey * torch.randn(1, 1, side_px, side_px, generator=generator)
    return grey.round().clamp(0, 255) / 255.0


@pytest.mark.parametrize("sigma_grey", [1.0, 3.0, 6.0])
def test_noise_is_white_with_variance_one(sigma_grey: float) -> None:
    """On noisy tiles: mean 0, variance 1, no correlation between channels or neighbours."""
    noise = HashNoise(channels=16)(noisy(sigma_grey=sigma_grey))[0].double().numpy()

    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.var()) - 1.0) < 0.01
    between = np.corrcoef(noise.reshape(16, -1)) - np.eye(16)
    # 160 x 160 samples: the spread of a correlation by chance is 0.006.
    assert float(np.abs(between).max()) < 0.03
    right = np.corrcoef(noise[:, :, :-1].reshape(16, -1), noise[:, :, 1:].reshape(16, -1))
    assert float(np.abs(right[:16, 16:]).max()) < 0.03


def test_noise_equals_integer_arithmetic() -> None:
    """The computation is the integer hash, bit for bit, on the hardest grey levels too."""
    rng = np.random.default_rng(3)
    grey = rng.choice([0, 1, 254, 255, 77], size=(12, 15)).astype(np.int64)
    padded = np.pad(grey, 1, mode="edge")
    mixed = np.zeros_like(grey)
    for row in range(3):
        for column in range(3):
            mixed += NEIGHBOUR_WEIGHTS[row][column] * padded[row : row + 12, column : column + 15]
    spread = (mixed[None] % MODULUS * np.array(MULTIPLIERS)[:, None, None] + 2048) % MODULUS
    expected = (spread / MODULUS - 0.5) * np.sqrt(12.0)

    image = torch.from_numpy(grey).float()[None, None] / GREY_LEVELS
    actual = HashNoise(channels=16)(image)[0].numpy()

    assert np.allclose(expected, actual, rtol=0, atol=1e-6)


def test_sums_fit_into_32_bits() -> None:
    """No intermediate integer overflows, nor one that a runtime holds in float32 loses bits."""
    largest_sum = 255 * sum(abs(w) for row in NEIGHBOUR_WEIGHTS for w in row)

    assert largest_sum < 2**24
    assert (MODULUS - 1) * max(MULTIPLIERS) + MODULUS // 2 < 2**24
    assert all(multiplier % 2 == 1 for multiplier in MULTIPLIERS)


def test_noise_moves_with_the_content() -> None:
    """A tile that is cut elsewhere has the same noise, one pixel in from the border."""
    image = noisy(sigma_grey=4.0, side_px=40)
    noise = HashNoise(channels=16)

    whole = noise(image)[:, :, 7:27, 9:29]
    part = noise(image[:, :, 6:28, 8:30])[:, :, 1:-1, 1:-1]

    assert torch.equal(whole, part)


def test_constant_grey_has_no_noise() -> None:
    """Saturated or cut-off areas stay flat instead of showing a lattice."""
    for level in (0.0, 1.0, 77 / 255):
        noise = HashNoise(channels=16)(torch.full((1, 1, 8, 8), level))
        assert torch.equal(torch.zeros_like(noise), noise)


def test_too_many_channels_are_refused() -> None:
    """There are sixteen multipliers, enough for scale 4."""
    with pytest.raises(ValueError, match="expected 1 to 16 channels of grain, got 25"):
        HashNoise(channels=25)


def test_parts_add_up() -> None:
    """The output is structure plus grain, and an untrained grain has the stated amplitude."""
    torch.manual_seed(0)
    network = GrainSR(channels=8, num_blocks=2)
    lr = noisy(sigma_grey=5.0, side_px=64)

    with torch.no_grad():
        structure, grain, amplitude = network.parts(lr)
        sr = network(lr)

    assert torch.allclose(sr, structure + grain, rtol=0, atol=1e-6)
    assert abs(float(grain.std()) / START_AMPLITUDE - 1) < 0.1
    assert abs(float(amplitude.mean()) / START_AMPLITUDE - 1) < 0.1
    # A uniform value has kurtosis 1.8, a normal one 3; a mixture of sixteen comes close to it.
    normalised = (grain / grain.std()).double()
    assert abs(float((normalised**4).mean()) - 3.0) < 0.4


def test_grain_stays_below_the_noise_of_fine_images() -> None:
    """However much a network asks for, it gets 1.5 times the noise at that grey, merged or not."""
    torch.manual_seed(0)
    network = GrainSR(channels=8, num_blocks=2)
    network.limit_grain(base=4.0, slope=0.3)
    bias = network.trunk.tail.bias
    assert bias is not None
    with torch.no_grad():
        bias[16:] = 100.0
    lr = noisy(sigma_grey=5.0, side_px=32)

    with torch.no_grad():
        structure, _, amplitude = network.parts(lr)
        sr, merged = network(lr), network.merged()(lr)

    limit = LIMIT_MARGIN * torch.sqrt(4.0 + 0.3 * 255.0 * structure) / 255.0
    assert torch.allclose(amplitude, limit, rtol=1e-4, atol=0)
    assert torch.allclose(sr, merged, rtol=0, atol=1e-5)


def test_whole_default_network_merges_within_1e_5(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped size, with weights like trained ones, merged against branch by branch."""
    torch.manual_seed(0)
    network = GrainSR()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    lr = noisy(sigma_grey=5.0, side_px=24)

    with torch.no_grad():
        merged = network.merged()(lr)
        monkeypatch.setattr(RepConv3, "forward", by_branches)
        expected = network(lr)

    assert float((expected - merged).abs().max()) < 1e-5


def test_the_border_of_a_flat_image_is_flat() -> None:
    """No dark structure is read into what lies beyond the image; `RepSR` alone does read it."""
    torch.manual_seed(0)
    network = GrainSR(channels=8, num_blocks=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    flat = torch.full((1, 1, 12, 12), 0.5)

    with torch.no_grad():
        structure, _, _ = network.parts(flat)
        of_trunk = network.trunk(flat)

    # Each of the 16 phases has a value of its own, the same in every LR pixel.
    assert float((structure[:, :, :4, :4] - structure[:, :, 24:28, 24:28]).abs().max()) < 1e-5
    assert float((of_trunk[:, :, :4, :4] - of_trunk[:, :, 24:28, 24:28]).abs().max()) > 1e-2
