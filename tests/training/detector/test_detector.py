"""The detector on images: sizes, blobs, refusals, determinism."""

import numpy as np
import pytest
import torch
from torch import nn

from training.detector import Detector
from training.detector.network import DetectorNetwork


class _Brightness(DetectorNetwork):
    """A fixed network: the logit is the cell's mean grey above 128, in tens of levels."""

    def __init__(self) -> None:
        super().__init__(channels=(1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (nn.functional.avg_pool2d(image, 4) * 255 - 128) / 10


def test_bright_blob_is_found_at_its_place() -> None:
    """The one bright blob of a dark image is the one detection."""
    image = np.full((240, 320), 20, dtype=np.uint8)
    image[100:120, 200:232] = 250

    (found,) = Detector(_Brightness(), 0.5).find(image)

    assert (200, 100, 232, 120) == found.box_px
    assert (216.0, 110.0) == (found.x_px, found.y_px)
    assert found.score == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("side_px", [32, 33, 464, 960, 976])
def test_any_side_gives_a_cell_for_each_4_pixels(side_px: int) -> None:
    """Sides that are no multiple of 32 are continued, and the continuation is cut off again."""
    image = np.full((side_px, 64), 20, dtype=np.uint8)

    scores = Detector(_Brightness(), 0.5).score_map(image)

    assert (-(-side_px // 4), 16) == scores.shape
    assert np.float32 == scores.dtype
    assert scores.max() < 1e-4


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64)), np.zeros((1, 64, 64), np.uint8), np.zeros((64, 31), np.uint8)],
    ids=["float", "batch", "narrow"],
)
def test_other_images_are_refused(image: np.ndarray) -> None:
    """The message names what was expected and what came."""
    with pytest.raises(ValueError, match=r"grey uint8 image of at least 32 .* got shape"):
        Detector(_Brightness(), 0.5).find(image)


def test_same_image_gives_the_same_detections_and_threads_stay() -> None:
    """Two calls agree bit for bit, and torch's number of threads is as before."""
    torch.manual_seed(0)
    detector = Detector(DetectorNetwork(channels=(8, 8, 8, 8)), 0.5)
    nn.init.normal_(detector.network.head.weight)
    image = np.random.default_rng(0).integers(0, 256, (192, 192)).astype(np.uint8)
    threads = torch.get_num_threads()

    first, second = (detector.find(image, floor=0.0) for _ in range(2))

    assert first
    assert first == second
    assert threads == torch.get_num_threads()
    assert not detector.network.training
