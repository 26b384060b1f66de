"""Kernel distance (KID) between two sets of pictures, on features of VGG16.

Features are channel means of an ImageNet VGG16 (relu3_1 and relu4_1) over one crop per picture.
Each layer is scaled to a root mean square of 1 on the reference, so that both have equal weight.
The distance is the unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3. Equal
distributions give small values around 0, of either sign. Unlike a Fréchet distance, it is unbiased
for small sets.

Source: Binkowski et al. 2018, "Demystifying MMD GANs" (eq. 4 and section 4); VGG16 features in the
place of Inception's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.evaluation.folders.benchmark import Picture
from training.evaluation.measures.detection import BORDER_PX

TAPS = {"relu3_1": 4, "relu4_1": 8}
"""Layers, and HR pixels a cell of each."""

FIRST_CHANNELS = 256
"""Channels of the first layer; the features of the second follow them."""

CROP_PX = 96
MAX_PICTURES = 70

Floats = NDArray[np.float64]
FeatureNetwork = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]
"""(N, 1, H, W) float32 in [0, 1] to one (N, C, h, w) map for each of `TAPS`."""


@dataclass(frozen=True, kw_only=True)
class PictureFeatures:
    """Features of one picture.

    Attributes:
        centre: (C,) means over a crop from its middle.
        border: (C,) means over the outer 16 px of a crop at its side.
    """

    centre: Floats
    border: Floats


@torch.inference_mode()
def picture_features(picture: Picture, network: FeatureNetwork, *, number: int) -> PictureFeatures:
    """Compute the features of an (H, W) uint8 picture.

    Args:
        picture: Picture of at least `CROP_PX` a side.
        network: Feature network, see `FeatureNetwork`.
        number: Number of the picture in its set; the border crop's side follows from it.
    """
    # Turned so that the chosen side is on top.
    turned = np.rot90(picture, number % 4)
    rows, columns = (side // 2 - CROP_PX // 2 for side in turned.shape)
    crops = np.stack(
        [
            turned[rows : rows + CROP_PX, columns : columns + CROP_PX],
            turned[:CROP_PX, columns : columns + CROP_PX],
        ]
    )
    maps = network(torch.from_numpy(crops[:, None].astype(np.float32) / 255.0))
    centre = [maps[name][0].mean(dim=(1, 2)) for name in TAPS]
    border = [maps[name][1, :, : BORDER_PX // cell].mean(dim=(1, 2)) for name, cell in TAPS.items()]
    return PictureFeatures(
        centre=torch.cat(centre).double().numpy(), border=torch.cat(border).double().numpy()
    )


def kernel_distance(
    features: Floats, reference: Floats, *, scale_to: Floats | None = None
) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sets of features.

    Args:
        features: (M, C).
        reference: (N, C).
        scale_to: (K, C) set that gives each layer's scale; the reference if None.

    Raises:
        ValueError: A set has fewer than two pictures.
    """
    if min(len(features), len(reference)) < 2:
        raise ValueError(
            f"a kernel distance needs two pictures a set, got {len(features)} and {len(reference)}"
        )
    basis = reference if scale_to is None else scale_to
    x, y = _scaled(features, basis), _scaled(reference, basis)
    within = (_mean_off_diagonal(_kernel(each, each)) for each in (x, y))
    return float(sum(within) - 2 * _kernel(x, y).mean())


def kernel_floor(reference: Floats, *, splits: int = 50, seed: int = 0) -> float:
    """Return the mean absolute distance between random halves of the reference."""
    rng = np.random.default_rng(seed)
    half = len(reference) // 2
    if half < 2:
        return float("nan")
    distances = []
    for _ in range(splits):
        order = rng.permutation(len(reference))
        first, second = reference[order[:half]], reference[order[half : 2 * half]]
        distances.append(abs(kernel_distance(first, second, scale_to=reference)))
    return float(np.mean(distances))


def _scaled(features: Floats, basis: Floats) -> Floats:
    layers = []
    for part in (slice(None, FIRST_CHANNELS), slice(FIRST_CHANNELS, None)):
        if basis[:, part].size:
            scale = float(np.sqrt(np.mean(basis[:, part] ** 2)))
            layers.append(features[:, part] / max(scale, 1e-12))
    return np.concatenate(layers, axis=1)


def _kernel(x: Floats, y: Floats) -> Floats:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _mean_off_diagonal(kernel: Floats) -> float:
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))
