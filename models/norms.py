"""Normalisation layers and initial weights that the generators of image translation share."""

from collections.abc import Collection
from typing import Literal, get_args

from torch import nn

Norm = Literal["instance", "instance_affine", "batch"]
Init = Literal["normal", "xavier"]


def check_layers(*, norm: str, init: str, norms: Collection[str] = get_args(Norm)) -> None:
    """Reject an unknown norm or initialisation.

    Raises:
        ValueError: The name is not among the known ones, which the message lists.
    """
    for name, value, known in (("init", init, get_args(Init)), ("norm", norm, norms)):
        if value not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")


def new_norm(norm: Norm, channels: int) -> nn.Module:
    """Return a normalisation layer; one of batches keeps running statistics, the others none."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=norm == "instance_affine")


def initialise(network: nn.Module, init: Init) -> None:
    """Draw the weights of pix2pix ("normal") or of the CUT family ("xavier"); zero the biases."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            if init == "xavier":
                nn.init.xavier_normal_(layer.weight, gain=0.02)
            else:
                nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d) and layer.affine:
            nn.init.normal_(layer.weight, mean=1.0, std=0.02)
            nn.init.zeros_(layer.bias)
