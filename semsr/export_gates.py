"""Training tiles and defect recall for the exporter, which must not import `training`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle_format.bundle import Bundle, Precision, RecallRecord
from engines.batches import run_batch
from engines.cpu import available_cpus
from engines.protocol import Engine, EngineError, EngineOptions
from engines.registry import installed_engines, load_engine
from export.trust import TrustTiles
from semsr.image_reading import FULL_WINDOW, ImageReading
from training.data.degradation.noise import estimate_noise
from training.data.images import load_images
from training.detector import load_detector
from training.evaluation.folders.benchmark import SPLITS, Tile, load_benchmark
from training.evaluation.measures.detection import match
from training.ground.progress import tracked

SPLIT = SPLITS["thousand"][0]


def load_calibration(folder: Path, reading: ImageReading) -> list[NDArray[np.uint8]]:
    """Load training LR tiles, in order of their names.

    Args:
        folder: Folder of image files.
        reading: Window and rows that the model's training used.

    Raises:
        ImageFileError: The folder holds none, or unusable ones: all of them by name.
    """
    images = load_images(
        folder.resolve(),
        root=folder.resolve(),
        max_rows_px=reading.max_rows_px,
        window=reading.window or FULL_WINDOW,
    )
    return [image.pixels for image in images]


def load_trust_tiles(
    domains: Sequence[Path], clean: Sequence[Path], reading: ImageReading
) -> TrustTiles:
    """Load the tiles that trust limits are measured on, and measure the noise of the domains.

    Args:
        domains: Folders of the training's LR tiles, one for each tool.
        clean: Folders of further tiles without known defects, one for each kind.
        reading: Window and rows that the model's training used.

    Raises:
        ImageFileError: A folder holds none, or unusable ones: all of them by name.
    """
    tiles = [load_calibration(domain, reading) for domain in domains]
    noise = estimate_noise([tile for domain in tiles for tile in domain])
    return TrustTiles(
        noise_base=noise.base,
        noise_slope=noise.slope,
        domains=tiles,
        clean=[load_calibration(folder, reading) for folder in clean],
    )


class RecallJudge:
    """Compares a precision's defect recall with that of FP32, on the split `thousand_defect`."""

    def __init__(self, benchmark: Path) -> None:
        """Open the benchmark.

        Raises:
            BenchmarkError: The folder is not a benchmark, or lacks the split `thousand_defect`.
        """
        self._benchmark = load_benchmark(benchmark)
        self._tiles = self._benchmark.tiles(SPLIT)
        self._detector = load_detector()

    def __call__(self, bundle: Bundle, precision: Precision) -> RecallRecord:
        """Run both precisions over the tiles.

        Raises:
            EngineError: No engine can run one of them here.
        """
        engines = [_engine(bundle, "fp32"), _engine(bundle, precision)]
        found = [0, 0]
        total = 0
        try:
            for tile in tracked(self._tiles, f"judging the recall of {precision}"):
                total += len(tile.defects)
                for index, engine in enumerate(engines):
                    found[index] += self._hits(engine, tile)
        finally:
            for engine in engines:
                engine.close()
        return RecallRecord(
            fp32=found[0] / total,
            reduced=found[1] / total,
            tiles=len(self._tiles),
            benchmark=self._benchmark.fingerprint,
        )

    def _hits(self, engine: Engine, tile: Tile) -> int:
        sr = run_batch(engine, tile.lr()[None, None].copy()).sr[0, 0]
        matches = match(self._detector.find(sr), tile.defects, shape=(sr.shape[0], sr.shape[1]))
        return sum(score >= self._detector.threshold for score in matches.hit_scores)


def _engine(bundle: Bundle, precision: Precision) -> Engine:
    """Load the last installed engine of a precision, the likeliest one to serve it."""
    names = installed_engines(precision)
    if not names:
        raise EngineError(f"no engine that runs {precision} is installed")
    options = EngineOptions(precision=precision, threads=available_cpus())
    return load_engine(names[-1], bundle, options)
