"""Makes `tests/data/tiny_bundle`, which the service's tests use where torch is not installed.

Run `python tests/make_tiny_bundle.py` from the repository root after a change of the bundle format.
The weights are random: the bundle tests the service, not the pictures.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from export.exporter import export_bundle
from export.trust import TrustTiles
from models import build_generator, save_network

OUT = Path(__file__).parent / "data" / "tiny_bundle"
TILE = (24, 24)


def clean_tiles() -> TrustTiles:
    """Lines of several pitches under noise."""
    rng = np.random.default_rng(20261126)
    columns = np.arange(TILE[1])
    tiles = []
    for pitch in range(4, 12):
        grey = np.where(columns % pitch < pitch // 2, 100.0, 50.0)
        noisy = grey + 5.0 * rng.standard_normal(TILE)
        tiles.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    return TrustTiles(noise_base=25.0, noise_slope=0.0, domains=[tiles])


def make(out: Path) -> None:
    """Export a generator of two blocks with fixed random weights."""
    torch.manual_seed(20261122)
    generator = build_generator("rep_sr", {"channels": 8, "num_blocks": 2, "scale": 4})
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.safetensors"
        save_network(checkpoint, generator, training={"data": "none: random weights, for tests"})
        export_bundle(
            checkpoint,
            out,
            name="tiny",
            tile=TILE,
            max_batch_size=4,
            trust_tiles=clean_tiles(),
            overwrite=True,
        )


if __name__ == "__main__":
    make(OUT)
