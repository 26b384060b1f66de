"""RepSR: a plain, fast generator that computes on the LR grid.

No normalisation layers (they make super-resolution non-local), no tanh, one pixel shuffle at the
end. Cost at 48 channels and 8 blocks, 240x240 to 960x960: 10 GMAC.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.blocks import RepConv3, merge_branches, plain_copy
from models.generator import Generator


class RepSR(Generator):
    """Re-parameterisable 3x3 convolutions, a global nearest-neighbour skip, a pixel shuffle.

    conv3 1->C, `num_blocks` times [RepConv3 C->C, PReLU], conv3 C->s*s, plus the LR value added to
    all s*s channels, then the pixel shuffle. The last convolution starts small, so the untrained
    network is close to nearest-neighbour enlargement.

    `dilations` gives the distance between the taps of each block, 1 everywhere if None: denoising
    and telling a defect from a pattern ask for a view of several pitches, which depth alone buys
    dearly.

    Source: growing and falling dilations as in IRCNN (Zhang et al. 2017); structure as ECBSR (Zhang
    et al. 2021) and the plain networks of the NTIRE efficient super-resolution challenges; own
    code.
    """

    def __init__(
        self,
        *,
        channels: int = 48,
        num_blocks: int = 8,
        scale: int = 4,
        expansion: int = 2,
        extra_outputs: int = 0,
        dilations: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if min(channels, num_blocks, scale, expansion) < 1:
            raise ValueError(
                "channels, num_blocks, scale and expansion must be at least 1, got "
                f"{channels}, {num_blocks}, {scale}, {expansion}"
            )
        reaches = (1,) * num_blocks if dilations is None else tuple(dilations)
        if len(reaches) != num_blocks or min(reaches) < 1:
            raise ValueError(
                f"dilations must be {num_blocks} numbers of at least 1, one a block, "
                f"got {dilations}"
            )
        self.scale = scale
        # A 3x3 convolution lets the result look as many LR pixels further as its taps lie apart.
        self.receptive_radius_px = sum(reaches) + 2
        self.hyper_parameters: dict[str, Any] = {
            "channels": channels,
            "num_blocks": num_blocks,
            "scale": scale,
            "expansion": expansion,
            **({"extra_outputs": extra_outputs} if extra_outputs else {}),
            **({} if dilations is None else {"dilations": list(reaches)}),
        }
        self.head = nn.Conv2d(1, channels, 3, padding=1)
        self.body = nn.ModuleList(
            RepConv3(channels=channels, expansion=expansion, dilation=reach) for reach in reaches
        )
        self.activations = nn.ModuleList(nn.PReLU(channels, init=0.1) for _ in range(num_blocks))
        # `GrainSR` asks the same features for more than the picture.
        self.tail = nn.Conv2d(channels, scale * scale + extra_outputs, 3, padding=1)
        nn.init.normal_(self.tail.weight, std=1e-3)
        if self.tail.bias is not None:
            nn.init.zeros_(self.tail.bias)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1] to (N, 1, s*H, s*W), not clamped."""
        return functional.pixel_shuffle(self.phases(lr)[0], self.scale)

    def phases(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the picture before the pixel shuffle, (N, s*s, H, W), and the extra outputs."""
        features = self.head(lr)
        for convolution, activation in zip(self.body, self.activations, strict=True):
            features = activation(convolution(features))
        outputs, count = self.tail(features), self.scale**2
        # The LR grey is added to every phase of the picture.
        return outputs[:, :count] + lr, outputs[:, count:]

    def merged(self) -> nn.Module:
        """Return the same function as plain convolutions, in eval mode."""
        return plain_copy(self, merge_branches)
