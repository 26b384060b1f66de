"""Input masking: how much is masked, by what, and when."""

import pytest
import torch

from training.config.method import InputMaskConfig
from training.methods.parts.input_mask import mask_input, mask_pixels


def crops(number: int = 8) -> torch.Tensor:
    """Draw LR crops of all different greys, (N, 1, 40, 48)."""
    return torch.rand(number, 1, 40, 48, generator=torch.Generator().manual_seed(3))


def masked(share: float, seed: int = 0) -> torch.Tensor:
    """Return which pixels were changed; (8, 1, 40, 48) bool."""
    lr = crops()
    return mask_pixels(lr, share, generator=torch.Generator().manual_seed(seed)) != lr


def test_about_the_share_is_masked_half_of_it_in_blocks() -> None:
    """One pixel in nine is its neighbourhood's median and so cannot be seen to change."""
    changed = masked(0.2)

    # Chance of neither: (1 - 0.2 / 2) (1 - 0.2 / 8)^4.
    expected = (1 - 0.9 * (1 - 0.025) ** 4) * 8 / 9
    assert pytest.approx(expected, rel=0.1) == float(changed.float().mean())
    # Right-hand neighbours are masked together far more often than by chance.
    pairs = (changed[..., 1:] & changed[..., :-1]).float().mean() / changed.float().mean()
    assert float(pairs) > 1.5 * expected


def test_masked_pixels_are_the_medians_of_their_neighbourhoods() -> None:
    """Mirrored at the border."""
    lr = crops(1)
    seen = mask_pixels(lr, 0.4, generator=torch.Generator().manual_seed(0))

    padded = torch.nn.functional.pad(lr, (1, 1, 1, 1), mode="reflect")[0, 0]
    for row, column in torch.nonzero((seen != lr)[0, 0]).tolist():
        around = padded[row : row + 3, column : column + 3]
        assert float(around.median()) == float(seen[0, 0, row, column])


def test_it_rises_stays_and_ends_before_the_run_does() -> None:
    """The same step always masks the same pixels; other steps and seeds mask others."""
    config = InputMaskConfig(share=0.2, ramp_share=0.4, whole_share=0.2)

    def seen(step: int, seed: int = 0) -> torch.Tensor:
        return mask_input(crops(), config, step=step, steps=10, seed=seed)

    shares = [float((seen(step) != crops()).float().mean()) for step in range(10)]
    assert shares[0] < 0.5 * shares[3]
    assert pytest.approx(shares[3], rel=0.2) == shares[7]
    assert [0, 0] == shares[8:]
    assert torch.equal(seen(5), seen(5))
    assert not torch.equal(seen(5), seen(6))
    assert not torch.equal(seen(5), seen(5, seed=1))


def test_it_is_off_by_default() -> None:
    """The crops themselves come back."""
    lr = crops()

    assert mask_input(lr, InputMaskConfig(), step=0, steps=10, seed=0) is lr
