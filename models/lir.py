"""Lir and LirStyle: the inference paths of "Learning Invariant Representation", to compare with.

Each is a content encoder of one domain, then the decoder of the other. Both work on the
bicubic-enlarged tile: 240x240 to 960x960 costs `Lir` 987 GMAC, and networks that ship 13 or fewer.
Training needs more networks (`training.methods.lir`).
"""

from typing import Any

import torch
from torch import nn

from models.blocks import BicubicUpsample, plain_copy
from models.generator import Generator
from models.lir_parts import (
    CODE_STRIDE,
    ContentDecoder,
    ContentEncoder,
    Norm,
    StyledDecoder,
    StyleEncoder,
    StylePool,
)
from models.network import ReferenceNetwork


class Lir(Generator):
    """LIR as published, from LR to HR: enlarge, E_X, G_Y.

    X are the enlarged LR images, "noisy" in the paper, and Y the HR images, "clean" there.

    `norm="batch"` is the published one. With `norm="instance"` the encoder's view of one pixel is
    the whole image; the layer norm of the decoder makes it unbounded in both cases.

    Source: Du, Chen and Yang 2020, section 3 and its code; own code.
    """

    def __init__(
        self, *, scale: int = 4, width: int = 64, num_blocks: int = 4, norm: Norm = "instance"
    ) -> None:
        super().__init__()
        check_sizes(scale=scale, width=width, num_blocks=num_blocks, norm=norm)
        self.scale = scale
        self.receptive_radius_px = None
        self.hyper_parameters: dict[str, Any] = {
            "scale": scale,
            "width": width,
            "num_blocks": num_blocks,
            "norm": norm,
        }
        self.upsample = BicubicUpsample(scale=scale)
        self.encoder = ContentEncoder(width=width, num_blocks=num_blocks, norm=norm)
        self.decoder = ContentDecoder(channels=4 * width, num_blocks=num_blocks, norm=norm)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1], at least 2x2, to (N, 1, s*H, s*W) in [0, 1]."""
        return self.decoder(self.encoder(self.upsample(lr).clamp(0.0, 1.0)))

    def merged(self) -> nn.Module:
        """Return a copy in eval mode; with batch norm it uses the running statistics."""
        return plain_copy(self)


def check_sizes(*, scale: int, width: int, num_blocks: int, norm: str) -> None:
    """Check hyper-parameters that `Lir` and `LirStyle` share.

    Raises:
        ValueError: One of them is out of range.
    """
    if scale < 1 or scale % CODE_STRIDE:
        raise ValueError(
            f"scale is {scale}, expected a multiple of {CODE_STRIDE}: codes have a quarter of the "
            "enlarged image's size"
        )
    if width < 1 or num_blocks < 1:
        raise ValueError(f"width and num_blocks are {width} and {num_blocks}, expected at least 1")
    if norm not in ("batch", "instance"):
        raise ValueError(f"norm is {norm!r}, expected 'batch' or 'instance'")


class LirStyle(ReferenceNetwork):
    """LIR as the thesis re-modelled it: content of the tile, style of a reference HR image.

    X are the HR images, with content and style; Y are the enlarged LR images, with content only.
    The output is G_X(E_Y(enlarged tile), E_N(reference)).

    `style_pool="none"` is the thesis's: the style code is a map at a quarter of the image's size,
    which can carry the whole reference, and the thesis's outputs were copies of it. "mean" averages
    that map to one vector, which sets gain and offset of features (AdaIN) and cannot carry places.

    Source: Chakraborty 2022 (thesis), section 3.4; networks of Du, Chen and Yang 2020; own code.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        num_blocks: int = 4,
        norm: Norm = "instance",
        style_pool: StylePool = "none",
    ) -> None:
        super().__init__()
        check_sizes(scale=scale, width=width, num_blocks=num_blocks, norm=norm)
        if style_pool not in ("none", "mean"):
            raise ValueError(f"style_pool is {style_pool!r}, expected 'none' or 'mean'")
        self.scale = scale
        self.hyper_parameters: dict[str, Any] = {
            "scale": scale,
            "width": width,
            "num_blocks": num_blocks,
            "norm": norm,
            "style_pool": style_pool,
        }
        self.style_pool: StylePool = style_pool
        self.upsample = BicubicUpsample(scale=scale)
        self.encoder = ContentEncoder(width=width, num_blocks=num_blocks, norm=norm)
        self.style_encoder = StyleEncoder(width=width, norm=norm, pool=style_pool)
        self.decoder = StyledDecoder(width=width, num_blocks=num_blocks, norm=norm, pool=style_pool)

    def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Enlarge tiles in the style of a reference.

        Args:
            lr: (N, 1, H, W) float32 in [0, 1].
            reference: (N, 1, h, w) or (1, 1, h, w) float32 in [0, 1], an HR image. Without pooling
                it must be at least as large as the output; its upper left corner is used.

        Returns:
            (N, 1, s*H, s*W) float32 in [0, 1].

        Raises:
            ValueError: The reference is too small.
        """
        return self.decode(lr, self.style(reference))

    def style(self, reference: torch.Tensor) -> torch.Tensor:
        """Encode a reference (N, 1, h, w); see `models.lir_parts.StyleEncoder.forward`."""
        return self.style_encoder(reference)

    def decode(self, lr: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Enlarge tiles in the style of a code of `style`; see `forward`."""
        content = self.encoder(self.upsample(lr).clamp(0.0, 1.0))
        if self.style_pool == "none":
            height, width = content.shape[-2:]
            if style.shape[-2] < height or style.shape[-1] < width:
                found, wanted = (
                    "x".join(str(CODE_STRIDE * side) for side in code.shape[-2:])
                    for code in (style, content)
                )
                raise ValueError(
                    f"the reference is {found} px, expected at least {wanted} px, the size of the "
                    "output, for a style code that is not pooled"
                )
            style = style[:, :, :height, :width]
        return self.decoder(content, style.expand(len(content), -1, -1, -1))
