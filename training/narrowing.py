"""Narrow a trained `grain_unet`: fewer channels a level, for a start that training then completes.

The features of a level are a stream that convolutions write to and read from, without anything
between them, so that the stream may be turned by any rotation and the network stays the same
function. Turned to its principal components, the least of them can be left out. An activation acts
on the channels of the finest level and on the hidden channels of each block. A rotation would
change its result, so the most used of these channels are kept as they are.

Source: principal components of activations as in Zhang et al. 2016, *Accelerating Very Deep
Convolutional Networks for Classification and Detection*, section 3.1; here of a residual stream.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from models import build_generator, load_generator, save_network
from models.grain_unet import GrainUNet, ResidualBlock
from training.data.images import ImageFileError, load_images

MAX_IMAGES = 16
"""Greatest number of images for the statistics of components; more change little."""


@torch.no_grad()
def narrow(
    generator: GrainUNet, channels: Sequence[int], images: Sequence[torch.Tensor], **changes: Any
) -> GrainUNet:
    """Return a narrower copy.

    Args:
        generator: Trained network.
        channels: Channels of each level, at most as many as it has.
        images: LR tiles, (1, 1, H, W) float32 in [0, 1], by which components and channels are
            judged.
        changes: Other hyper-parameters of the copy, such as `pad`; with `layer_slopes` the last
            activation gets the mean slope.

    Raises:
        ValueError: A level would get more channels than it has, or another number of levels.
    """
    old: list[int] = generator.hyper_parameters["channels"]
    if len(channels) != len(old) or any(new > had for new, had in zip(channels, old, strict=True)):
        raise ValueError(f"channels {list(channels)} do not fit a network of {old}")
    parameters = {**generator.hyper_parameters, "channels": list(channels), **changes}
    result = build_generator("grain_unet", parameters)
    if not isinstance(result, GrainUNet):
        raise TypeError(f"grain_unet built a {type(result).__name__}")
    moments, activity = _measure(generator, images)
    weights = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    bases = [
        _components(moment, count) if level else _chosen(generator, moment, count)
        for level, (moment, count) in enumerate(zip(moments, channels, strict=True))
    ]

    def write(name: str, level: int) -> None:
        basis = bases[level]
        weights[f"{name}.weight"] = torch.einsum("po,oihw->pihw", basis, weights[f"{name}.weight"])
        weights[f"{name}.bias"] = basis @ weights[f"{name}.bias"]

    def read(name: str, level: int) -> None:
        weights[f"{name}.weight"] = torch.einsum(
            "oihw,pi->ophw", weights[f"{name}.weight"], bases[level]
        )

    write("head_conv", 0)
    read("tail", 0)
    for name, level in _block_names(generator):
        read(f"{name}.a", level)
        write(f"{name}.b", level)
        use = activity[name] * weights[f"{name}.b.weight"].square().sum((0, 2, 3))
        kept = use.topk(channels[level]).indices.sort().values
        for part in ("a.weight", "a.bias"):
            weights[f"{name}.{part}"] = weights[f"{name}.{part}"][kept]
        weights[f"{name}.b.weight"] = weights[f"{name}.b.weight"][:, kept]
    for level in range(len(old) - 1):
        read(f"down.{level}", level)
        write(f"down.{level}", level + 1)
        read(f"up.{level}", level + 1)
        write(f"up.{level}", level)
    if generator.smooth_grain:
        read("grain_share", len(old) - 1)
    slopes = weights["last.weight"]
    if slopes.numel() > 1:
        slopes = bases[0] @ slopes
    weights["last.weight"] = slopes.mean()[None] if result.last.num_parameters == 1 else slopes
    result.load_state_dict(weights)
    return result.eval()


def _block_names(generator: GrainUNet) -> list[tuple[str, int]]:
    return [
        (name, int(name.split(".")[1]))
        for name, module in generator.named_modules()
        if isinstance(module, ResidualBlock)
    ]


def _measure(
    generator: GrainUNet, images: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Return each level's second moments, (C, C), and each block's hidden energies, (C,)."""
    channels: list[int] = generator.hyper_parameters["channels"]
    moments = [torch.zeros(count, count, dtype=torch.float64) for count in channels]
    activity: dict[str, torch.Tensor] = {}
    hooks: list[Any] = []

    def see_stream(level: int, features: torch.Tensor) -> None:
        flat = features.double().transpose(0, 1).flatten(1)
        moments[level] += flat @ flat.T / flat.shape[1]

    def see_block(
        level: int, _module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        see_stream(level, inputs[0])
        see_stream(level, output)

    def see_hidden(name: str, _module: object, _inputs: object, output: torch.Tensor) -> None:
        activity[name] = activity.get(name, 0.0) + output.square().mean((0, 2, 3))

    for name, level in _block_names(generator):
        block = generator.get_submodule(name)
        hooks.append(block.register_forward_hook(partial(see_block, level)))
        hidden = generator.get_submodule(f"{name}.act")
        hooks.append(hidden.register_forward_hook(partial(see_hidden, name)))
    try:
        for image in images:
            generator(image)
    finally:
        for hook in hooks:
            hook.remove()
    return moments, activity


def _components(moment: torch.Tensor, count: int) -> torch.Tensor:
    """Return the leading principal components, (count, C), orthonormal."""
    _, vectors = torch.linalg.eigh(moment)
    return vectors[:, -count:].T.float()


def _chosen(generator: GrainUNet, moment: torch.Tensor, count: int) -> torch.Tensor:
    """Return a selection of the finest level's channels, (count, C): those most used."""
    weights = generator.state_dict()
    names = ["tail"] + [f"{name}.a" for name, level in _block_names(generator) if level == 0]
    readers = [weights[f"{name}.weight"] for name in names]
    reads = torch.stack([weight.square().sum((0, 2, 3)) for weight in readers]).sum(0)
    kept = (moment.diagonal().float() * reads).topk(count).indices.sort().values
    return torch.eye(moment.shape[0])[kept]


def main(arguments: Sequence[str] | None = None) -> int:
    """Narrow a checkpoint; says by how many grey levels the structure changed."""
    parser = argparse.ArgumentParser(prog="python -m training.narrowing", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a grain_unet")
    parser.add_argument("--channels", type=int, nargs="+", required=True, help="of each level")
    parser.add_argument(
        "--lr", type=Path, nargs="+", required=True, help="folders of LR tiles, one a tool"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    options = parser.parse_args(arguments)
    generator, info = load_generator(options.checkpoint)
    if not isinstance(generator, GrainUNet):
        parser.error(f"{options.checkpoint} holds a {info.generator!r}, expected a 'grain_unet'")
    share = max(1, MAX_IMAGES // len(options.lr))
    try:
        loaded = [load_images(folder.resolve(), root=Path.cwd())[:share] for folder in options.lr]
        images = [
            torch.from_numpy(image.pixels).float()[None, None] / 255.0
            for folder in loaded
            for image in folder
        ]
        narrower = narrow(generator, options.channels, images, layer_slopes=True)
    except (ImageFileError, ValueError) as error:
        parser.error(str(error))
    with torch.no_grad():
        errors = [(generator.parts(x)[0] - narrower.parts(x)[0]).square().mean() for x in images]
    change_grey = float(torch.stack(errors).mean().sqrt()) * 255.0
    save_network(options.out, narrower, training=info.training)
    sys.stdout.write(f"{options.out}: structure differs by {change_grey:.2f} grey levels (rms)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
