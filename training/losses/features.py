"""Feature network of the structure losses: a frozen VGG16 up to relu4_3.

Flow: image -> `Vgg16` -> feature maps -> `training.losses`. Only training and the evaluation use
it. The weights come from a file, or from torchvision, which may download them. Untrained weights
are rejected: losses on them look plausible but measure nothing.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

KNOWN_SHA256 = "4a11ec61349d2fabca0eb4c06c0233a92f17cb462ec1e9cc4f32c66836fba465"
"""Hash of the known weight file: Oxford's weights up to relu4_3, for torchvision's input
normalisation, in float16."""

HOW_TO_GET = (
    "pass a file with VGG16's ImageNet convolutions (safetensors or a torch state dict with keys "
    "features.0.weight to features.21.bias, as torchvision's vgg16 has) by --vgg16 or SEMSR_VGG16; "
    "on a machine with a network, torchvision's IMAGENET1K_V1 state dict saved with torch.save is "
    "such a file"
)
DEFAULT_TAPS = ("relu3_1", "relu4_1", "relu4_3")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_FIRST_MEAN_LIMIT = 0.02
_FIRST_STD_RANGE = (0.15, 0.25)
_FIRST_NEIGHBOUR_CORRELATION = 0.3
"""Least correlation between neighbouring weights of a trained first layer. Trained filters are
smooth and oriented: in the known file, the weights have a deviation of 0.208 and a correlation of
0.55. Random initialisations have a correlation of 0.00 +- 0.05 and deviations of 0.06 (fan out),
0.11 (PyTorch's default), 0.125 (orthogonal) or 0.27 (fan in)."""


class FeatureWeightsError(ValueError):
    """VGG16's weights are missing, unreadable or untrained, or a requested tap is unknown."""


class _Convolution(NamedTuple):
    """One layer of VGG16.

    Attributes:
        tap: Name of its output after ReLU.
        place: Number in torchvision's `features`.
        channels: Channels of its output.
        stride: Image pixels per cell of its output.
    """

    tap: str
    place: int
    channels: int
    stride: int

    @property
    def before(self) -> str:
        """Name of its output before ReLU."""
        return self.tap.replace("relu", "conv")


_LAYERS = (
    _Convolution("relu1_1", 0, 64, 1),
    _Convolution("relu1_2", 2, 64, 1),
    _Convolution("relu2_1", 5, 128, 2),
    _Convolution("relu2_2", 7, 128, 2),
    _Convolution("relu3_1", 10, 256, 4),
    _Convolution("relu3_2", 12, 256, 4),
    _Convolution("relu3_3", 14, 256, 4),
    _Convolution("relu4_1", 17, 512, 8),
    _Convolution("relu4_2", 19, 512, 8),
    _Convolution("relu4_3", 21, 512, 8),
)


class Vgg16(nn.Module):
    """VGG16 for grey images, computed up to the deepest requested tap.

    The network is frozen and always in eval mode; gradients flow to the images. It computes the
    same features as the three-channel network on the grey value repeated three times and normalised
    with ImageNet's mean and deviation, but with one input channel (see `_first_layer`).

    Args:
        state: Tensors by torchvision's names, `features.N.weight` and `features.N.bias`. Keys of
            layers that no tap needs may be absent or present. Use `load_vgg16`, which checks that
            they are trained.
        taps: Layers to return, `reluB_L` with B from 1 to 4, or `convB_L` before its ReLU.

    Raises:
        FeatureWeightsError: A tap is unknown, or a tensor is missing or has another shape.

    Source: Simonyan and Zisserman 2015, configuration D.
    """

    def __init__(
        self, state: Mapping[str, torch.Tensor], *, taps: Sequence[str] = DEFAULT_TAPS
    ) -> None:
        super().__init__()
        places = {name: n for n, layer in enumerate(_LAYERS) for name in (layer.before, layer.tap)}
        unknown = [tap for tap in taps if tap not in places]
        if unknown or not taps:
            known = ", ".join(layer.tap for layer in _LAYERS)
            raise FeatureWeightsError(
                f"taps of VGG16 are {known}, and conv for relu before the ReLU; got {list(taps)}"
            )
        self.taps = tuple(taps)
        self._layers = _LAYERS[: 1 + max(places[tap] for tap in taps)]
        tapped = {tap: _LAYERS[n] for tap, n in places.items() if tap in taps}
        self.strides = {tap: layer.stride for tap, layer in tapped.items()}
        self.channels = {tap: layer.channels for tap, layer in tapped.items()}
        in_channels = 3
        for layer in self._layers:
            shape = (layer.channels, in_channels, 3, 3)
            weight = _tensor(state, f"features.{layer.place}.weight", shape)
            bias = _tensor(state, f"features.{layer.place}.bias", (layer.channels,))
            if layer.place == 0:
                weight, border = _first_layer(weight)
                self.register_buffer("border_weight", border, persistent=False)
            # Buffers, not parameters: no optimiser can reach them by accident.
            self.register_buffer(f"weight_{layer.place}", weight, persistent=False)
            self.register_buffer(f"bias_{layer.place}", bias, persistent=False)
            in_channels = layer.channels
        self.border_weight: torch.Tensor
        self.eval()

    def train(self, mode: bool = True) -> "Vgg16":
        """Stay in eval mode, also when a module that holds this one goes to training mode."""
        del mode
        return super().train(False)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the taps' feature maps.

        Args:
            images: (N, 1, H, W) float32 in [0, 1], H and W at least the deepest tap's stride.

        Returns:
            For each tap (N, C, H // stride, W // stride), in the order of the layers; non-negative
            behind a ReLU.

        Raises:
            ValueError: The images have another number of dimensions or channels.
        """
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(
                f"VGG16 takes grey images (N, 1, H, W), got shape {tuple(images.shape)}"
            )
        features = (images - _GREY_MEAN) / _GREY_STD
        stride, found = 1, {}
        for layer in self._layers:
            if layer.stride != stride:
                features, stride = functional.max_pool2d(features, 2), layer.stride
            features = functional.conv2d(
                features,
                self.get_buffer(f"weight_{layer.place}"),
                self.get_buffer(f"bias_{layer.place}"),
                padding=1,
            )
            if layer.place == 0:
                ones = torch.ones_like(images[:1])
                features = features + functional.conv2d(ones, self.border_weight, padding=1)
            if layer.before in self.taps:
                found[layer.before] = features
            features = functional.relu(features)
            if layer.tap in self.taps:
                found[layer.tap] = features
        return found


def load_vgg16(path: Path | None, *, taps: Sequence[str] = DEFAULT_TAPS) -> Vgg16:
    """Load VGG16 from a file, or from torchvision where no file is named.

    A file is accepted if it is the known one (by sha256) or if its first layer has the statistics
    of one trained on ImageNet.

    Args:
        path: `.safetensors`, or any other name for a torch state dict (read with
            `weights_only=True`). None asks torchvision, which may download.
        taps: Layers to return; see `Vgg16`.

    Raises:
        FeatureWeightsError: The weights are missing, unreadable or untrained; the message says how
            to get them.
    """
    if path is None:
        state, name = _torchvision_state(), "torchvision's VGG16"
        _check_trained(state, name)
        return Vgg16(state, taps=taps)
    state, digest = _read(path)
    if digest != KNOWN_SHA256:
        _check_trained(state, str(path))
    return Vgg16(state, taps=taps)


_GREY_MEAN = sum(IMAGENET_MEAN) / 3
_GREY_STD = sum(IMAGENET_STD) / 3


def _first_layer(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold the three input channels of the first kernel into one, exactly.

    With v = (grey - m) / s, colour c is x_c = a_c v + b_c where a_c = s / s_c and
    b_c = (m - m_c) / s_c. Zero padding applies to x_c, so b_c is 0 beyond the border, and a bias
    would be wrong there. The constant part is therefore the convolution of a zero-padded image of
    ones.

    Returns:
        The kernel of v and that of the ones, (64, 1, 3, 3) each.
    """
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float64).view(1, 3, 1, 1)
    gain, offset = _GREY_STD / std, (_GREY_MEAN - mean) / std
    exact = weight.double()
    return (
        (exact * gain).sum(1, keepdim=True).float(),
        (exact * offset).sum(1, keepdim=True).float(),
    )


def _tensor(state: Mapping[str, torch.Tensor], key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return one tensor of a state dict as float32, without gradient."""
    value = state.get(key)
    if not isinstance(value, torch.Tensor):
        raise FeatureWeightsError(f"VGG16's weights have no tensor {key}; {HOW_TO_GET}")
    if tuple(value.shape) != shape:
        raise FeatureWeightsError(f"VGG16's {key} has shape {tuple(value.shape)}, not {shape}")
    return value.detach().float()


def _read(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Read a weight file; return its tensors and the file's sha256."""
    if not path.is_file():
        raise FeatureWeightsError(f"VGG16's weights {path} are not a file; {HOW_TO_GET}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path), digest
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds
        raise FeatureWeightsError(f"VGG16's weights {path} cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise FeatureWeightsError(
            f"VGG16's weights {path} hold a {type(state).__name__}, not a state dict; {HOW_TO_GET}"
        )
    return state, digest


def _torchvision_state() -> dict[str, torch.Tensor]:
    """Load torchvision's weights from its cache; it downloads them if they are missing."""
    if importlib.util.find_spec("torchvision") is None:
        raise FeatureWeightsError(
            f"no file of VGG16's weights is named and torchvision is not installed: {HOW_TO_GET}"
        )
    try:
        models = importlib.import_module("torchvision.models")
        return models.vgg16(weights="IMAGENET1K_V1").state_dict()
    except Exception as error:  # no network, no cache, a broken install: all end the same way
        raise FeatureWeightsError(
            f"torchvision could not give VGG16's weights ({error}): {HOW_TO_GET}"
        ) from error


def _check_trained(state: Mapping[str, torch.Tensor], name: str) -> None:
    """Reject weights whose first layer has other statistics than one trained on ImageNet."""
    weight = _tensor(state, "features.0.weight", (64, 3, 3, 3)).double()
    mean, std = float(weight.mean()), float(weight.std())
    pairs = [(weight[..., 1:], weight[..., :-1]), (weight[..., 1:, :], weight[..., :-1, :])]
    correlation = min(
        float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) for a, b in pairs
    )
    low, high = _FIRST_STD_RANGE
    trained = (
        abs(mean) <= _FIRST_MEAN_LIMIT
        and low <= std <= high
        and correlation >= _FIRST_NEIGHBOUR_CORRELATION
    )
    if not trained:  # also where a value is not a number
        raise FeatureWeightsError(
            f"the first layer of {name} is not that of a VGG16 trained on ImageNet: mean {mean:.3f}"
            f" (at most {_FIRST_MEAN_LIMIT} from 0), deviation {std:.3f} ({low} to {high}), "
            f"correlation of neighbouring weights {correlation:.2f} (at least "
            f"{_FIRST_NEIGHBOUR_CORRELATION}); {HOW_TO_GET}"
        )
