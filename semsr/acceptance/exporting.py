"""Stage `export`: the bundle, through the parity gate, with trust limits from own tiles."""

import logging
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.exporter import export_bundle
from export.trust import TrustTiles
from semsr.acceptance.estimating import images_of
from semsr.acceptance.layout import Layout, Settings
from semsr.progress import progress
from service.images import tiling
from training.data.degradation.noise import estimate_noise
from training.run.folder import RunDir

MAX_TRUST_TILES = 64


def export(settings: Settings, layout: Layout) -> list[Path]:
    """Export the trained model; returns the bundle's files.

    Raises:
        Exception: All that `export.exporter.export_bundle` raises.
    """
    # The exporter of torch warns about packages that this project does not use.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    for left_over in layout.root.glob(f".{layout.bundle.name}.*"):  # of a start that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    lr = list(images_of(layout, "training", "lr").values())
    noise = estimate_noise(lr)
    export_bundle(
        RunDir(layout.run).checkpoint,
        layout.bundle,
        name=settings.name,
        tile=settings.tile,
        precisions=settings.precisions,
        trust_tiles=TrustTiles(
            noise_base=noise.base, noise_slope=noise.slope, domains=[trust_tiles(lr, settings.tile)]
        ),
        window=settings.window,
        threads=settings.threads,
        overwrite=True,
        stage=progress,
    )
    return sorted(path for path in layout.bundle.rglob("*") if path.is_file())


def trust_tiles(lr: list[NDArray[np.uint8]], tile: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Cut LR images into tiles as the service does; of many, evenly spaced ones are taken."""
    tiles = [
        np.ascontiguousarray(part)
        for image in lr
        for part in tiling.plan(*image.shape, tile=tile, halo_px=0, grid_px=1).split(image)
    ]
    return tiles[:: -(-len(tiles) // MAX_TRUST_TILES)]
