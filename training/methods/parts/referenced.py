"""Enlargement of one picture by a network that takes a reference, as a user would see it."""

import numpy as np
import torch
from numpy.typing import NDArray

from models import ReferenceNetwork


@torch.no_grad()
def upscale_with(
    network: ReferenceNetwork, lr: NDArray[np.uint8], reference: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Enlarge (h, w) uint8 with a reference (R, R') uint8 to (s*h, s*w) uint8.

    The result is clamped and rounded as the service does. The network runs where its weights are.
    """
    device = next(network.parameters()).device
    images = (
        torch.from_numpy(part.copy())[None, None].to(device).float() / 255.0
        for part in (lr, reference)
    )
    sr = network(*images)[0, 0]
    return (sr * 255.0).round().clamp(0, 255).byte().cpu().numpy()
