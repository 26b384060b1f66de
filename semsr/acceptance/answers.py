"""Answers of a bundle with the model's flags, without torch: for the check of the images."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle_format.bundle import Bundle, load_bundle
from engines.batches import run_batch
from engines.protocol import EngineOptions
from engines.registry import load_engine
from service.images import tiling
from service.images.quality import of_tiles

ENGINE = "onnx"


def tiles_of(pixels: NDArray[np.uint8], bundle: Bundle) -> list[NDArray[np.uint8]]:
    """Cut an LR picture of any size into a bundle's tiles, as the service does."""
    manifest = bundle.manifest
    plan = tiling.plan(
        *pixels.shape, tile=manifest.tile, halo_px=manifest.halo_px, grid_px=manifest.grid_px
    )
    return [np.ascontiguousarray(tile) for tile in plan.split(pixels)]


class Answering:
    """A loaded bundle that judges LR pictures.

    Args:
        path: Folder of the bundle.
        threads: CPU threads.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        self.bundle = load_bundle(path)
        manifest = self.bundle.manifest
        options = EngineOptions(precision=manifest.precision, threads=threads)
        self._engine: Any = load_engine(ENGINE, self.bundle, options)

    def domain_distance(self, pixels: NDArray[np.uint8]) -> float | None:
        """Return the distance of a picture's farthest tile from the training's, over the limit."""
        flags = [
            run_batch(self._engine, tile[None, None]).flags[0]
            for tile in tiles_of(pixels, self.bundle)
        ]
        return of_tiles(flags).domain_distance

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()
