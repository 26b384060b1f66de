"""Detector of defects in HR images, true or super-resolved."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.detector.network import CELL_PX, SIZE_MULTIPLE_PX, DetectorNetwork
from training.detector.peaks import SCORE_FLOOR, Detection, find_peaks


class Detector:
    """A trained network with its threshold; the same image always gives the same detections.

    Attributes:
        network: Trained network, in eval mode.
        threshold: Score from which on a detection is an alarm.
        description: Facts of its training and its test figures; empty for an untrained one.
    """

    def __init__(
        self,
        network: DetectorNetwork,
        threshold: float,
        *,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network.eval()
        self.threshold = threshold
        self.description = dict(description or {})

    def find(self, image: NDArray[np.uint8], *, floor: float = SCORE_FLOOR) -> list[Detection]:
        """List suspected defects, the surest first, also those below the threshold.

        Args:
            image: Grey, (H, W) uint8, review pixels.
            floor: Least score that is listed.

        Raises:
            ValueError: Not a grey uint8 image with a side of at least 32 pixels.
        """
        return find_peaks(self.score_map(image), cell_px=CELL_PX, floor=floor)

    @torch.inference_mode()
    def score_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of a defect in each cell, (ceil(H/4), ceil(W/4)), in [0, 1].

        Sides that are not multiples of 32 are continued by reflection first.

        Raises:
            ValueError: Not a grey uint8 image with a side of at least 32 pixels.
        """
        if image.ndim != 2 or image.dtype != np.uint8 or min(image.shape) < SIZE_MULTIPLE_PX:
            raise ValueError(
                f"expected a grey uint8 image of at least {SIZE_MULTIPLE_PX} pixels a side, got "
                f"shape {image.shape} of {image.dtype}"
            )
        height, width = image.shape
        batch = torch.from_numpy(image.astype(np.float32) / 255.0)[None, None]
        missing = (-width % SIZE_MULTIPLE_PX, -height % SIZE_MULTIPLE_PX)
        if any(missing):
            batch = functional.pad(batch, (0, missing[0], 0, missing[1]), mode="reflect")
        logits = self.network(batch)[0, 0]
        rows, columns = -(-height // CELL_PX), -(-width // CELL_PX)
        return logits[:rows, :columns].sigmoid().numpy()
