"""UNet: the literature's U-Net-N on the bicubic-enlarged input, to compare with.

For 960x960 px it costs 82 GMAC at depth 6 and 95 at greater depths, which compute 1024x1024 px,
against 10 for `RepSR`; and its norms let every output pixel depend on the whole image. It is here
for comparison, not for serving.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.blocks import BicubicUpsample, plain_copy
from models.dropout import SeededDropout
from models.generator import Generator
from models.norms import Init, Norm, check_layers, initialise, new_norm

SLOPE = 0.2
MAX_WIDENING = 8
"""Channels of the widest levels over those of the first: 512 for 64."""

FIRST_DROPPED = 4
"""Finest level behind whose transposed convolution dropout stands; the coarsest has none."""


class UNet(Generator):
    """U-Net of stride-2 convolutions on the enlarged image, with skips of every level; tanh.

    N = 2^depth is the side of a crop whose innermost level has 1x1 px: depth 6, 7, 8, 10 are the
    U-Net 64, 128, 256, 1024 of the thesis. Down: conv4 of stride 2, w, 2w, 4w, 8w, 8w, ...
    channels, LeakyReLU 0.2 before all but the first, a norm behind all but the first and the last.
    Up: ReLU, transposed conv4 of stride 2, norm, dropout on the depth - 5 inner levels of 8w
    channels, concatenation with the level's own features. Last: ReLU, transposed conv4 2w->1, tanh.
    The tanh range [-1, 1] exists only inside; input and output are in [0, 1].

    Convolutions before a norm have no bias, which the norm would remove or has itself; all others
    have one.

    Any size is taken: the enlarged image is mirrored around up to multiples of N, and the output
    cut. (The thesis resized instead, which changes the grain.) The smallest enlarged image is 2x2.

    At scale 1 it translates images of the output's size: pix2pix on pictures that another method
    has enlarged.

    Args:
        scale: s.
        depth: Number of halvings, at least 2.
        width: w.
        norm: "instance" has no parameters (the CUT family); "instance_affine" has a gain and an
            offset, which is the batch norm of pix2pix at its batch of 1; "batch" in eval mode uses
            the running statistics of the training, so that its output differs from that of
            training mode, in which pix2pix is tested as published.
        dropout: Probability of the inner levels' dropout, published 0.5; only in training mode,
            within `models.dropout.dropout_drawn_by`.
        init: "normal" draws weights with deviation 0.02 (pix2pix), "xavier" as Xavier-normal of
            gain 0.02 (CUT family); gains of norms are about 1, biases 0.

    Source: Isola et al. 2017 (pix2pix), section 6.1.1; Ronneberger et al. 2015. Own code.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        depth: int = 7,
        width: int = 64,
        norm: Norm = "instance",
        dropout: float = 0.0,
        init: Init = "normal",
    ) -> None:
        super().__init__()
        check_layers(norm=norm, init=init)
        if scale < 1 or width < 1 or depth < 2:
            raise ValueError(
                f"scale and width must be at least 1 and depth at least 2, got {scale}, {width} "
                f"and {depth}"
            )
        self.scale = scale
        self.side_px = 2**depth
        # A batch norm in eval mode bounds the view, but at more than the side N.
        self.receptive_radius_px = None
        self.grid_px = max(1, self.side_px // scale)
        self.hyper_parameters: dict[str, Any] = {
            "scale": scale,
            "depth": depth,
            "width": width,
            "norm": norm,
            "dropout": dropout,
            "init": init,
        }
        channels = [width * min(2**level, MAX_WIDENING) for level in range(depth)]
        inner = range(1, depth - 1)
        self.upsample = BicubicUpsample(scale=scale)
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1, bias=level not in inner)
            for level, (before, after) in enumerate(zip([1, *channels], channels, strict=False))
        )
        self.down_norms = nn.ModuleList(
            new_norm(norm, channels[level]) if level in inner else nn.Identity()
            for level in range(depth)
        )
        # From the coarsest level to the finest, as they are used.
        levels = range(depth - 1, -1, -1)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(
                channels[level] * (1 if level == depth - 1 else 2),
                channels[level - 1] if level else 1,
                4,
                stride=2,
                padding=1,
                bias=level == 0,
            )
            for level in levels
        )
        self.up_norms = nn.ModuleList(new_norm(norm, channels[level - 1]) for level in levels[:-1])
        self.drops = nn.ModuleList(
            SeededDropout(dropout if FIRST_DROPPED <= level < depth - 1 else 0.0)
            for level in levels[:-1]
        )
        initialise(self, init)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1] to (N, 1, s*H, s*W) in [0, 1]."""
        return self.translate(self.upsample(lr))

    def translate(self, image: torch.Tensor) -> torch.Tensor:
        """Translate an image of the output's size, (N, 1, H, W) float32 in [0, 1] to the same."""
        features = mirrored(image, multiple_px=self.side_px) * 2.0 - 1.0
        skips: list[torch.Tensor] = []
        for down, norm in zip(self.down, self.down_norms, strict=True):
            if skips:
                features = functional.leaky_relu(features, SLOPE)
            features = norm(down(features))
            skips.append(features)
        skips.pop()
        for up, norm, drop in zip(self.up, self.up_norms, self.drops, strict=False):
            features = drop(norm(up(functional.relu(features))))
            features = torch.cat([skips.pop(), features], dim=1)
        output = torch.tanh(self.up[-1](functional.relu(features))) * 0.5 + 0.5
        (top, left), (height, width) = _margins(image, self.side_px), image.shape[2:]
        return output[:, :, top : top + height, left : left + width]

    def merged(self) -> nn.Module:
        """Return a copy in eval mode; this network has no training-time branches."""
        return plain_copy(self)


def mirrored(image: torch.Tensor, *, multiple_px: int) -> torch.Tensor:
    """Mirror an image around its border pixels, about equally at both ends, up to multiples.

    By indices, since PyTorch's own reflection adds less than the image's side at an end, and takes
    a width that an export would fix to one image size.

    Args:
        image: (N, C, H, W), H and W at least 2.
        multiple_px: Number that the sides of the result are multiples of.
    """
    margins = _margins(image, multiple_px)
    for dim, margin in zip((2, 3), margins, strict=True):
        side = image.shape[dim]
        total = (side + multiple_px - 1) // multiple_px * multiple_px
        place = torch.arange(total, device=image.device) - margin
        # A tensor: the exporter has the remainder by a size only so.
        period = torch.full_like(place, 2 * (side - 1))
        place = place.remainder(period)
        image = image.index_select(dim, torch.minimum(place, period - place))
    return image


def _margins(image: torch.Tensor, multiple_px: int) -> tuple[int, int]:
    """Return the pixels that are added above and to the left."""
    # Of positive numbers: ONNX divides towards zero.
    rows, columns = (
        ((side + multiple_px - 1) // multiple_px * multiple_px - side) // 2
        for side in image.shape[2:]
    )
    return rows, columns
