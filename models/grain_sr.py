"""GrainSR: `RepSR` that gives structure and grain apart.

Cost at 48 channels and 8 blocks, 240x240 to 960x960: 11.2 GMAC.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.blocks import merge_branches, plain_copy
from models.grain_head import LIMIT_MARGIN, GrainGenerator, GrainHead
from models.rep_sr import RepSR

BORDER_PX = 4
"""LR pixels by which the image is mirrored at its border while it is computed. The zeros that
convolutions pad with would be seen as dark structure; repeated pixels as streaks."""


class GrainSR(GrainGenerator):
    """`RepSR` with a tail that gives structure and the grain's amplitude, and a `GrainHead`."""

    def __init__(
        self,
        *,
        channels: int = 48,
        num_blocks: int = 8,
        scale: int = 4,
        expansion: int = 2,
        dilations: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = RepSR(
            channels=channels,
            num_blocks=num_blocks,
            scale=scale,
            expansion=expansion,
            extra_outputs=scale * scale,
            dilations=dilations,
        )
        self.head = GrainHead(phases=scale * scale)
        self.scale = scale
        self.receptive_radius_px = self.trunk.receptive_radius_px
        self.hyper_parameters: dict[str, Any] = {
            "channels": channels,
            "num_blocks": num_blocks,
            "scale": scale,
            "expansion": expansion,
            **({} if dilations is None else {"dilations": list(dilations)}),
        }
        bias = self.trunk.tail.bias
        if bias is None:
            raise TypeError("the trunk's tail needs a bias")
        with torch.no_grad():
            # Grain as strong as the noise to begin with.
            bias[scale * scale :] = torch.logit(torch.tensor(1.0 / LIMIT_MARGIN))

    def parts(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Enlarge to structure, grain and amplitude; see `GrainGenerator.parts`."""
        structure, grain, amplitude = (_finish(part, self.scale) for part in self._phases(lr))
        return structure, grain, amplitude

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1] to (N, 1, s*H, s*W), not clamped."""
        structure, grain, _ = self._phases(lr)
        return _finish(structure + grain, self.scale)

    def merged(self) -> nn.Module:
        """Return the same function as plain convolutions, in eval mode."""
        return plain_copy(self, merge_branches)

    def _phases(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return structure, grain and amplitude, a channel for each HR phase, border included."""
        padded = functional.pad(lr, (BORDER_PX,) * 4, mode="reflect")
        structure, share = self.trunk.phases(padded)
        amplitude = self.head.amplitude(share, structure)
        return structure, self.head(padded, amplitude), amplitude


def _finish(phases: torch.Tensor, scale: int) -> torch.Tensor:
    """Cut the border off and shuffle the phases into place."""
    inner = phases[:, :, BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
    return functional.pixel_shuffle(inner, scale)
