"""The generator's own encoder as feature network: the layers of ResNet-9 up to a residual block.

CUT compares places by the features that the generator itself computes, so that no other network is
needed and the features suit the images.

Source: Park et al. 2020 (CUT), section 3.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from models.resnet9 import ResidualBlock

PROBE_PX = 32
"""Side of the image of zeros that tells the channels of the taps."""


class EncoderHalf:
    """Features of images at layers of a generator that works on the enlarged image.

    It refers to the generator's layers and is not a module itself: the parameters stay the
    generator's. The published taps of the anti-aliased ResNet-9 are 0 (the padded image), 4 and 8
    (the convolutions of the two halvings), 12 and 16 (the first and the fifth residual block).

    Args:
        layers: Layers of the generator, applied in order to an image in [-1, 1].
        taps: Numbers of the layers whose outputs are features, as the recipe has them.

    Attributes:
        layers: All layers of the encoder half, up to the last residual block.
        channels: Channels of each tap, by its number as text.

    Raises:
        ValueError: A tap is not in the encoder half, or its output is changed in place by the next
            layer.
    """

    def __init__(self, layers: nn.Sequential, taps: Sequence[int]) -> None:
        blocks = [n for n, layer in enumerate(layers) if isinstance(layer, ResidualBlock)]
        if not blocks:
            raise ValueError("a generator without residual blocks has no encoder half")
        if not taps or min(taps) < 0 or max(taps) > blocks[-1]:
            raise ValueError(
                f"taps are {list(taps)}, expected layers from 0 to {blocks[-1]}, the last residual "
                "block"
            )
        behind = [*layers, None]
        in_place = [tap for tap in taps if getattr(behind[tap + 1], "inplace", False)]
        if in_place:
            raise ValueError(f"taps {in_place} are changed in place by the layers behind them")
        self.taps = tuple(sorted(set(taps)))
        self.layers = nn.Sequential(*list(layers)[: blocks[-1] + 1])
        parameter = next(layers.parameters())
        with torch.no_grad():
            found = self(torch.zeros(1, 1, PROBE_PX, PROBE_PX, device=parameter.device))
        self.channels = {tap: features.shape[1] for tap, features in found.items()}

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the features of (N, 1, H, W) float32 in [0, 1]: (N, C, h, w) for each tap."""
        features, found = images * 2.0 - 1.0, {}
        for number, layer in enumerate(self.layers):
            features = layer(features)
            if number in self.taps:
                found[str(number)] = features
            if number == self.taps[-1]:
                break
        return found

    @contextmanager
    def recorded(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """Record the features, without gradient, of the image that the generator translates.

        The generator computes the source's features anyway: keys from there cost nothing.
        """
        found: dict[str, torch.Tensor] = {}

        def keep(tap: int) -> torch.utils.hooks.RemovableHandle:
            def hook(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
                found[str(tap)] = output.detach()

            return self.layers[tap].register_forward_hook(hook)

        handles = [keep(tap) for tap in self.taps]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()
