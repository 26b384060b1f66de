"""Layers that the generators are built from; imports nothing of ours."""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class RepConv3(nn.Module):
    """A 3x3 convolution, C channels to C, trained as the sum of four parallel branches.

    The branches are a 3x3 convolution, a 1x1 convolution that expands to `expansion * C` channels
    followed by a 3x3 one, a 1x1 convolution, and the identity. All are linear, so their sum is one
    3x3 convolution. `forward` computes that merged kernel from the branch parameters at every call
    (small tensor operations through which gradients flow) and runs one convolution, which is
    several times cheaper than running the branches.

    The input is padded with zeros before the first 1x1 convolution and everything after is
    unpadded; padding between the two would make the bias of the first vanish at the border, and
    the merged convolution would differ there.

    With a dilation the taps lie that many pixels apart: a wider view at the same cost.

    Source: re-parameterisation as in Ding et al. 2021 (RepVGG) and Zhang et al. 2021 (ECBSR).
    """

    def __init__(self, *, channels: int, expansion: int = 2, dilation: int = 1) -> None:
        super().__init__()
        wide = channels * expansion
        self.dilation = dilation
        self.conv3 = nn.Conv2d(channels, channels, 3, dilation=dilation)
        self.expand = nn.Conv2d(channels, wide, 1)
        self.reduce = nn.Conv2d(wide, channels, 3, dilation=dilation)
        self.point = nn.Conv2d(channels, channels, 1)
        self.register_buffer("identity", _identity_kernel(channels), persistent=False)
        self.identity: torch.Tensor
        # The identity already carries the signal; three default-size random branches next to it
        # would let activations grow with depth.
        with torch.no_grad():
            for convolution in (self.conv3, self.reduce, self.point):
                convolution.weight.mul_(0.5)
                if convolution.bias is not None:
                    convolution.bias.zero_()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Apply the merged convolution; (N, C, H, W) float32 to the same shape."""
        weight, bias = self.merged_kernel()
        reach = self.dilation
        return functional.conv2d(features, weight, bias, padding=reach, dilation=reach)

    def merged_kernel(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute weight (C, C, 3, 3) and bias (C,) of the equal convolution, differentiably."""
        expand_weight = self.expand.weight[:, :, 0, 0]
        chained = torch.einsum("omyx,mi->oiyx", self.reduce.weight, expand_weight)
        point = functional.pad(self.point.weight, (1, 1, 1, 1))
        weight = self.conv3.weight + chained + point + self.identity
        bias = _bias(self.conv3) + _bias(self.reduce) + _bias(self.point)
        bias = bias + torch.einsum("omyx,m->o", self.reduce.weight, _bias(self.expand))
        return weight, bias

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        """Return the equal plain convolution with its own copy of the weights."""
        weight, bias = self.merged_kernel()
        reach = self.dilation
        outputs, inputs = weight.shape[:2]
        convolution = nn.Conv2d(inputs, outputs, 3, padding=reach, dilation=reach)
        convolution.to(device=weight.device, dtype=weight.dtype)
        convolution.weight.copy_(weight)
        _bias(convolution).copy_(bias)
        return convolution


class BicubicUpsample(nn.Module):
    """Enlarge one channel by an integer factor with Keys' cubic, a = -0.5, half-pixel centres.

    One fixed 5x5 convolution to s*s phases and a pixel shuffle, so that it exports to ONNX with
    dynamic sizes. Taps beyond the border are left out and the others re-scaled to sum to one, as
    `torch.nn.functional.interpolate(mode="bicubic", antialias=True)` and Pillow do; torch without
    `antialias` uses another cubic (a = -0.75).

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing".
    """

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("kernel", _cubic_phase_kernels(scale), persistent=False)
        self.kernel: torch.Tensor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) to (N, 1, s*H, s*W), same range; may overshoot at edges."""
        phases = functional.conv2d(image, self.kernel, padding=2)
        inside = functional.conv2d(torch.ones_like(image), self.kernel, padding=2)
        return functional.pixel_shuffle(phases / inside, self.scale)


class BlurDownsample(nn.Module):
    """Halve the size with a fixed 3x3 binomial blur and stride 2; reflecting border.

    Source: Zhang 2019, "Making convolutional networks shift-invariant again".
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.channels = channels
        row = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(row, row).expand(channels, 1, 3, 3).clone()
        self.register_buffer("kernel", kernel, persistent=False)
        self.kernel: torch.Tensor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, ceil(H/2), ceil(W/2)); H and W at least 2."""
        padded = functional.pad(features, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, self.kernel, stride=2, groups=self.channels)


class BlurUpsample(nn.Module):
    """Double the size with the fixed [1 3 3 1] / 4 kernel and a replicated border.

    The two phases of that kernel, (1, 3)/4 and (3, 1)/4, are exactly bilinear interpolation with
    half-pixel centres, which runtimes have as one operator.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, 2*H, 2*W)."""
        return functional.interpolate(
            features, scale_factor=2.0, mode="bilinear", align_corners=False
        )


def plain_copy(
    network: nn.Module, replace: Callable[[nn.Module], nn.Module | None] = lambda module: None
) -> nn.Module:
    """Return an independent copy for export: in eval mode, no gradients, layers replaced.

    Args:
        network: Network to copy.
        replace: Function that returns the plain layer for a layer of the copy, or None to keep it.
    """
    plain = copy.deepcopy(network)
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if (layer := replace(child)) is not None:
                setattr(module, name, layer)
    return plain.requires_grad_(requires_grad=False).eval()


def merge_branches(layer: nn.Module) -> nn.Module | None:
    """Return the plain convolution that equals a `RepConv3`; None for any other layer."""
    return layer.merged() if isinstance(layer, RepConv3) else None


def _identity_kernel(channels: int) -> torch.Tensor:
    kernel = torch.zeros(channels, channels, 3, 3)
    index = torch.arange(channels)
    kernel[index, index, 1, 1] = 1.0
    return kernel


def _bias(convolution: nn.Conv2d) -> torch.Tensor:
    bias = convolution.bias
    if bias is None:
        raise TypeError("a convolution with a bias is needed")
    return bias


def _cubic_phase_kernels(scale: int) -> torch.Tensor:
    """Return (s*s, 1, 5, 5): one kernel for each output phase inside an LR pixel."""
    a = -0.5
    offsets = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    taps = torch.arange(-2, 3, dtype=torch.float64)
    distance = (taps[None, :] - offsets[:, None]).abs()
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
    rows = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    kernels = torch.einsum("py,qx->pqyx", rows, rows)
    return kernels.reshape(scale * scale, 1, 5, 5).float()
