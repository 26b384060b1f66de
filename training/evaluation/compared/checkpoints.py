"""Evaluation of a checkpoint before its export: the merged network on the CPU, as a method."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import load_generator
from models.cost import count_gmac
from training.evaluation.compared.cost import median_ms
from training.evaluation.compared.methods import Method, MethodError, Role, upscaler_method


def checkpoint_method(
    name: str,
    path: Path,
    *,
    role: Role = "candidate",
    group: str | None = None,
    tile_px: int = 240,
) -> Method:
    """Make a method of a checkpoint file.

    Args:
        name: Name of its row in the report.
        path: File that `models.save_network` wrote.
        role: Role, see `Method`.
        group: Group, see `Method`.
        tile_px: Side of the LR tile that GMAC and time are given for.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is not a semsr checkpoint.
        MethodError: The network takes pictures that are enlarged already.
    """
    generator, _ = load_generator(path)
    if generator.scale == 1:
        raise MethodError(
            f"{name}: {path} has scale 1, it takes pictures that are enlarged already; expected a "
            "network that takes LR tiles: make its pictures by semsr translate, judge by --images"
        )
    network = generator.merged()

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.no_grad():
            sr = network(torch.from_numpy(lr).float() / 255.0)
        return (sr * 255.0).round().clamp(0, 255).byte().numpy()

    noise = np.random.default_rng(0).integers(0, 256, (tile_px, tile_px), dtype=np.uint8)
    return upscaler_method(
        name,
        upscale,
        scale=generator.scale,
        role=role,
        group=group,
        gmac=count_gmac(network, tile=(tile_px, tile_px)),
        ms=median_ms(upscale, noise, repeats=5, warm_ups=1),
        version=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
