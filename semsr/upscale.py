"""`semsr upscale`: image files through an engine, without a server."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.bundle import Manifest, load_bundle
from semsr.demo import MEDIA_TYPES
from service import codec, tiling
from service.engines import Engine, EngineOptions, load_engine
from service.engines.auto import choose_engine
from service.engines.cpu import available_cpus
from service.errors import ServiceError
from service.settings import Settings
from service.window import FULL_RANGE, to_uint8


def upscale_files(
    images: Sequence[Path], out: Path, *, bundle: Path | None, engine: str | None
) -> list[tuple[Path, str]]:
    """Super-resolve image files into `out/NAME_x4.SUFFIX` (JPEG and BMP become PNG).

    Args:
        images: Files; a bad one is reported and the others go on.
        out: Folder for the results.
        bundle: Bundle folder; None takes the setting's.
        engine: Engine name or auto; None takes the setting's.

    Returns:
        What failed: file and reason.

    Raises:
        export.bundle.BundleError: The bundle cannot be read.
        service.engines.EngineError: The engine cannot be loaded.
    """
    settings = Settings()
    loaded = load_bundle(bundle or settings.bundle)
    options = EngineOptions(
        precision=settings.precision or loaded.manifest.precision,
        threads=settings.threads or available_cpus(),
    )
    name = engine or settings.engine
    if name == "auto":
        name, _ = choose_engine(loaded, options, cache_dir=settings.cache_dir)
    runner = load_engine(name, loaded, options)
    out.mkdir(parents=True, exist_ok=True)
    failures = []
    for path in tqdm(images, desc="images", unit="image", file=sys.stderr, disable=None):
        try:
            _upscale(path, out, runner, loaded.manifest, settings.max_pixels)
        except (ServiceError, OSError) as error:
            failures.append((path, str(error)))
    runner.close()
    return failures


def _upscale(path: Path, out: Path, engine: Engine, manifest: Manifest, max_pixels: int) -> None:
    media_type = MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        raise OSError(f"unknown suffix {path.suffix!r}; expected {', '.join(MEDIA_TYPES)}")
    image = codec.decode(
        path.read_bytes(), media_type, shape=None, dtype=None, max_pixels=max_pixels
    )
    lr = image.pixels
    if lr.dtype == np.uint16:
        window = FULL_RANGE if manifest.window is None else manifest.window
        lr = to_uint8(lr, window)
    plan = tiling.plan(*lr.shape, tile=manifest.tile, halo_px=manifest.halo_px)
    tiles = [engine.run(np.ascontiguousarray(tile)[None, None])[0, 0] for tile in plan.split(lr)]
    sr = plan.merge(tiles, scale=manifest.scale)
    answer_type = "image/png" if media_type in {"image/jpeg", "image/bmp"} else media_type
    suffix = path.suffix if answer_type == media_type else ".png"
    encoded = codec.encode(sr, answer_type, image.metadata.scaled(manifest.scale))
    (out / f"{path.stem}_x{manifest.scale}{suffix}").write_bytes(encoded)
