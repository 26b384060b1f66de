"""Numbers of the published F-LSeSim code: equal inputs give equal losses.

The functions that its repository gives (github.com/lyndonzheng/F-LSeSim, models/losses.py, in its
last form: tanh(q.k / 10), int(N / 4), keys chosen by the target) were run in double precision on
the inputs that these tests draw again; their code is not here.
"""

import pytest
import torch

from training.losses.learned_correlation import contrastive_loss
from training.losses.spatial_correlation import fsesim

PUBLISHED = [
    ("paper", 16, None, 2.633224035e-04, 1.809881962e-01),
    ("paper_l1", 16, None, 9.062012171e-04, 7.897705213e-03),
    ("normalised_l1", 16, None, 2.177310664e-02, 5.825885272e-01),
    ("normalised_l1_maps", 16, None, 3.427650502e-02, 1.732721133e-01),
    ("paper", 16, 8, 6.997123514e-05, 3.905473504e-02),
    ("paper_l1", 16, 8, 1.677179291e-03, 8.048806860e-03),
    ("normalised_l1", 16, 8, 1.069823497e-02, 2.561420782e-01),
    ("normalised_l1_maps", 16, 8, 3.493485751e-02, 1.719808984e-01),
    ("paper", 32, 16, 2.556384689e-04, 1.854089612e-01),
    ("paper_l1", 32, 16, 9.118371165e-04, 8.185637994e-03),
    ("normalised_l1", 32, 16, 2.147347312e-02, 5.881207769e-01),
    ("normalised_l1_maps", 32, 16, 3.467293406e-02, 1.764616889e-01),
]
"""Form, side and window in cells; loss against a near target, and against another one."""


def drawn(side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw features (2, 64, side, side), a near and a far target, and 96 queries."""
    generator = torch.Generator().manual_seed(11)
    source, other, far = (
        6 * torch.rand(2, 64, side, side, generator=generator, dtype=torch.float64)
        for _ in range(3)
    )
    queries = torch.randperm(side * side, generator=generator)[:96]
    return source, 0.8 * source + 0.2 * other, far, queries


@pytest.mark.parametrize(("form", "side", "window", "near", "far"), PUBLISHED)
def test_fsesim_equals_the_published_code(form, side, window, near: float, far: float) -> None:
    """To 1e-6 of the value, in each form, with and without windows."""
    source, close, other, queries = drawn(side)

    losses = [
        float(fsesim(source, target, queries, form=form, window_cells=window))
        for target in (close, other)
    ]

    assert pytest.approx([near, far], rel=1e-6, abs=0) == losses


@pytest.mark.parametrize(("form", "side", "window", "near", "far"), PUBLISHED)
def test_single_precision_is_near_the_published_numbers(
    form, side, window, near: float, far: float
) -> None:
    """Training computes in single precision: rounding costs less than a thousandth."""
    source, close, other, queries = (
        values.float() if values.is_floating_point() else values for values in drawn(side)
    )

    losses = [
        float(fsesim(source, target, queries, form=form, window_cells=window))
        for target in (close, other)
    ]

    assert pytest.approx([near, far], rel=1e-3, abs=0) == losses


def test_the_contrastive_loss_equals_the_published_code() -> None:
    """To 1e-6 of the value: two images, 20 queries, maps of 30 keys."""
    generator = torch.Generator().manual_seed(5)
    source, change, other = (
        torch.randn(2, 20, 30, generator=generator, dtype=torch.float64) for _ in range(3)
    )

    loss = contrastive_loss(source, source + 0.5 * change, other)

    assert pytest.approx(4.373625849e-3, rel=1e-6, abs=0) == float(loss)
