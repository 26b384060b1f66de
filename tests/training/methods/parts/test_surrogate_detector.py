"""The surrogate detector: it learns what was planted, and sees as far as it says."""

import torch

from training.losses.detection import detection_loss, label_cells
from training.methods.parts.surrogate_detector import CELL_PX, DILATIONS, SurrogateDetector


def planted(count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with one bright square an image, and the squares' masks."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 + 0.05 * torch.randn(count, 1, 64, 64, generator=generator)
    mask = torch.zeros_like(images)
    for number in range(count):
        y, x = torch.randint(4, 44, (2,), generator=generator).tolist()
        mask[number, 0, y : y + 12, x : x + 12] = 1
    return images + 0.2 * mask, mask


def test_it_learns_to_find_what_was_planted() -> None:
    """After a few steps it tells squares from background on images that it has not seen."""
    torch.manual_seed(0)
    detector = SurrogateDetector(channels=8)
    optimizer = torch.optim.Adam(detector.parameters(), lr=5e-3)
    for step in range(80):
        images, mask = planted(4, seed=step)
        logits, _ = detector(images)
        optimizer.zero_grad()
        detection_loss(logits, label_cells(mask, 0 * mask, cell_px=CELL_PX)).backward()
        optimizer.step()

    images, mask = planted(8, seed=1000)
    with torch.no_grad():
        logits, _ = detector(images)

    cells = label_cells(mask, 0 * mask, cell_px=CELL_PX)
    found = logits[cells.target > 0]
    background = logits[(cells.target == 0) & (cells.weight > 0)]
    # It knows most cells of the squares from nearly all of the background.
    assert float(found.quantile(0.2)) > float(background.quantile(0.98))


def test_logits_and_features_lie_on_the_grid_of_cells() -> None:
    """One logit a block of 4x4 pixels."""
    logits, features = SurrogateDetector(channels=6)(torch.rand(2, 1, 32, 48))

    assert (2, 1, 8, 12) == tuple(logits.shape)
    assert (2, 6, 8, 12) == tuple(features.shape)


def test_it_sees_as_far_as_its_docstring_says() -> None:
    """The dilations reach 16 cells to each side, the stem a pixel and a half more than its cell."""
    image = torch.rand(1, 1, 4 * 81, 4 * 81, requires_grad=True)
    # Fixed statistics: those of a batch would join all of its pixels.
    detector = SurrogateDetector(channels=2).eval()

    detector(image)[0][0, 0, 40, 40].backward()

    assert image.grad is not None
    columns = torch.nonzero(image.grad[0, 0].abs().sum(0)).flatten()
    reach = 4 * sum(DILATIONS) + 3
    assert (160 - reach, 163 + reach) == (int(columns.min()), int(columns.max()))
