"""Discriminator that distinguishes real HR images from generated ones, patch by patch."""

from typing import Literal

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from models.blocks import BlurDownsample

Norm = Literal["instance", "instance_affine", "none", "spectral"]
Init = Literal["auto", "xavier", "normal", "kaiming"]


class PatchDiscriminator(nn.Module):
    """PatchGAN: one logit for each overlapping patch of an image.

    All convolutions are 4x4, with LeakyReLU 0.2 behind all but the last. The first `num_layers`
    halve the image, one more has stride 1, and the last computes the logit. The numbers of channels
    are 1, 2, 4 and at most 8 times `width`.

    Args:
        in_channels: Channels of the images: 2 for an image together with the one it was made of.
        width: Channels of the first layer.
        num_layers: Halvings; 1 to 4 see 16, 34, 70, 142 px, anti-aliased 18, 40, 84, 172 px.
        anti_aliased: Halve by a convolution and a fixed 3x3 binomial blur of stride 2 (the CUT
            family), instead of by a strided convolution (pix2pix, CycleGAN).
        norm: "instance" (no affine parameters, no running statistics) behind every convolution but
            the first and last; "instance_affine" the same with a gain and an offset, which is
            pix2pix's batch norm at its batch of 1; "spectral" divides every kernel by its largest
            singular value; "none" is what gradient penalties expect.
        init: "xavier" is the published one (Xavier-normal of gain 0.02, zero bias). It relies on a
            norm: without one the logit of five such layers is about 1e-8 of its input, so that
            "auto" takes it with a norm and Kaiming-normal for LeakyReLU without; "normal" has
            deviation 0.02 (pix2pix).
        generator: Source of the initial weights; PyTorch's global one if None.

    Source: Isola et al. 2017, section 3.2.2; blur as Zhang 2019; initialisation as the CUT family
    (Park et al. 2020, Zheng et al. 2021).
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        width: int = 64,
        num_layers: int = 3,
        anti_aliased: bool = True,
        norm: Norm = "instance",
        init: Init = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if width < 1 or num_layers < 1:
            raise ValueError(
                f"a patch discriminator needs width >= 1 and num_layers >= 1, got {width} and "
                f"{num_layers}"
            )
        stride = 1 if anti_aliased else 2
        layers: list[nn.Module] = []
        channels = in_channels
        for number in range(num_layers + 1):
            wider = width * min(2**number, 8)
            halves = number < num_layers
            layers.append(nn.Conv2d(channels, wider, 4, stride if halves else 1, padding=1))
            if norm in ("instance", "instance_affine") and number > 0:
                layers.append(nn.InstanceNorm2d(wider, affine=norm == "instance_affine"))
            layers.append(nn.LeakyReLU(0.2))
            if anti_aliased and halves:
                layers.append(BlurDownsample(channels=wider))
            channels = wider
        layers.append(nn.Conv2d(channels, 1, 4, padding=1))
        if init == "auto":
            init = "kaiming" if norm == "none" else "xavier"
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                _initialise(layer, init, generator=generator)
        if norm == "spectral":
            layers = [spectral_norm(x) if isinstance(x, nn.Conv2d) else x for x in layers]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Judge images (N, C, H, W) float32 in [0, 1]; return logits (N, 1, h, w), high is real."""
        return self.layers(images * 2 - 1)


def _initialise(layer: nn.Conv2d, init: Init, *, generator: torch.Generator | None) -> None:
    if init == "xavier":
        nn.init.xavier_normal_(layer.weight, gain=0.02, generator=generator)
    elif init == "normal":
        nn.init.normal_(layer.weight, std=0.02, generator=generator)
    else:
        nn.init.kaiming_normal_(layer.weight, a=0.2, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
