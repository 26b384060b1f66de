"""ResNet9: the literature's generator on the bicubic-enlarged input, to compare with.

Its body runs at the resolution of the output, so it costs 685 GMAC (strided) or 889 GMAC
(anti-aliased) for 240x240 to 960x960, against 10 for `RepSR`; and instance normalisation lets every
output pixel depend on the whole image. It is here for comparison, not for serving.
"""

from typing import Any

import torch
from torch import nn

from models.blocks import BicubicUpsample, BlurDownsample, BlurUpsample, plain_copy
from models.dropout import SeededDropout
from models.generator import Generator
from models.norms import Init, Norm, check_layers, initialise, new_norm


class ResNet9(Generator):
    """Encoder, residual blocks and decoder on the enlarged image; instance norm; tanh.

    Reflect-pad 3, conv7 1->w, two downs w->2w->4w, `num_blocks` residual blocks, two ups
    4w->2w->w, reflect-pad 3, conv7 w->1, tanh. `anti_aliased=True` (the form of CUT and of
    F-LSeSim) downsamples with an unstrided convolution and a fixed blur, and upsamples with a fixed
    blur and a convolution; False (pix2pix, CycleGAN) uses strided and transposed convolutions.
    The tanh range [-1, 1] exists only inside; input and output are in [0, 1].

    `init="xavier"` draws weights as CUT and F-LSeSim do (Xavier-normal of gain 0.02), "normal" as
    CycleGAN does (deviation 0.02); biases are 0. It matters: three steps of Adam at 1e-4 move the
    layers of the first by a tenth to a third of themselves, those of the second by a hundredth.

    `norm="instance_affine"` gives the norms a gain and an offset, which is the batch norm of
    pix2pix at its batch of 1, without running statistics. `dropout` is the probability of the one
    inside each residual block (pix2pix: 0.5), in training mode only, within
    `models.dropout.dropout_drawn_by`. Neither changes the names of the weights.

    At scale 1 it translates images of the output's size: pix2pix on pictures that another method
    has enlarged.

    The smallest input is 2x2 at scale 4 and 3x3 at scale 2: below that, the reflecting border of
    the innermost blocks has nothing to reflect.

    Source: Johnson et al. 2016; Zhu et al. 2017 (CycleGAN); Park et al. 2020 (CUT). Own code.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        num_blocks: int = 9,
        anti_aliased: bool = True,
        init: Init = "normal",
        norm: Norm = "instance",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_layers(norm=norm, init=init, norms=("instance", "instance_affine"))
        if min(scale, width, num_blocks) < 1:
            raise ValueError(
                "scale, width and num_blocks must be at least 1, got "
                f"{scale}, {width}, {num_blocks}"
            )
        self.scale = scale
        self.receptive_radius_px = None
        self.hyper_parameters: dict[str, Any] = {
            "scale": scale,
            "width": width,
            "num_blocks": num_blocks,
            "anti_aliased": anti_aliased,
            # Left out at their defaults, as checkpoints older than these arguments have them.
            **({} if init == "normal" else {"init": init}),
            **({} if norm == "instance" else {"norm": norm}),
            **({} if dropout == 0 else {"dropout": dropout}),
        }
        down = _blur_down if anti_aliased else _strided_down
        up = _blur_up if anti_aliased else _transposed_up
        self.upsample = BicubicUpsample(scale=scale)
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(1, width, 7),
            *_norm_relu(width, norm),
            *down(width, norm),
            *down(2 * width, norm),
            *(
                ResidualBlock(channels=4 * width, norm=norm, dropout=dropout)
                for _ in range(num_blocks)
            ),
            *up(4 * width, norm),
            *up(2 * width, norm),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 1, 7),
            nn.Tanh(),
        )
        initialise(self.layers, init)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1] to (N, 1, s*H, s*W) in [0, 1]."""
        return self.translate(self.upsample(lr))

    def translate(self, image: torch.Tensor) -> torch.Tensor:
        """Translate an image of the output's size, (N, 1, H, W) float32 in [0, 1] to the same.

        It is the network without its enlargement: what an image of the HR look, such as a real HR
        crop, becomes (the identity term of CUT).
        """
        translated = self.layers(image * 2.0 - 1.0) * 0.5 + 0.5
        # Sizes that are not multiples of 4 grow in the encoder (ceil) and are cut back here.
        return translated[:, :, : image.shape[2], : image.shape[3]]

    def merged(self) -> nn.Module:
        """Return a copy in eval mode; this network has no training-time branches."""
        return plain_copy(self)


class ResidualBlock(nn.Module):
    """Twice [reflect-pad 1, conv3, norm], a ReLU and dropout between them, plus the input."""

    def __init__(self, *, channels: int, norm: Norm = "instance", dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = SeededDropout(dropout)
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            *_norm_relu(channels, norm),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            new_norm(norm, channels),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape; H and W at least 2."""
        return features + self.layers[4:](self.dropout(self.layers[:4](features)))


def _norm_relu(channels: int, norm: Norm) -> list[nn.Module]:
    return [new_norm(norm, channels), nn.ReLU(inplace=True)]


def _strided_down(channels: int, norm: Norm) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
    return [convolution, *_norm_relu(2 * channels, norm)]


def _blur_down(channels: int, norm: Norm) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, 2 * channels, 3, padding=1)
    return [convolution, *_norm_relu(2 * channels, norm), BlurDownsample(channels=2 * channels)]


def _transposed_up(channels: int, norm: Norm) -> list[nn.Module]:
    half = channels // 2
    convolution = nn.ConvTranspose2d(channels, half, 3, stride=2, padding=1, output_padding=1)
    return [convolution, *_norm_relu(half, norm)]


def _blur_up(channels: int, norm: Norm) -> list[nn.Module]:
    half = channels // 2
    return [BlurUpsample(), nn.Conv2d(channels, half, 3, padding=1), *_norm_relu(half, norm)]
