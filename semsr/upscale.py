"""`semsr upscale`: image files through an engine, without a server."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.bundle import Manifest, load_bundle
from service import codec, tiling
from service.engines import Engine, load_engine
from service.errors import ServiceError
from service.loading import resolve_engine
from service.negotiation import TYPES_BY_SUFFIX, choose_answer
from service.quality import of_tiles
from service.settings import Settings
from service.window import FULL_RANGE, to_uint8


class UpscaleError(ValueError):
    """The files asked for cannot be written as asked."""


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
        UpscaleError: Two files would be written to the same name.
        export.bundle.BundleError: The bundle cannot be read.
        service.engines.EngineError: The engine cannot be loaded.
    """
    settings = Settings()
    loaded = load_bundle(bundle or settings.bundle)
    targets = _targets(images, out, loaded.manifest.scale)
    name, options, _ = resolve_engine(loaded, settings, name=engine)
    runner = load_engine(name, loaded, options)
    out.mkdir(parents=True, exist_ok=True)
    failures: list[tuple[Path, str]] = []
    try:
        for path in tqdm(images, desc="images", unit="image", file=sys.stderr, disable=None):
            try:
                content = _upscale(path, runner, loaded.manifest, settings.max_pixels)
                targets[path].write_bytes(content)
            except (ServiceError, OSError) as error:
                failures.append((path, str(error)))
    finally:
        runner.close()
    return failures


def _targets(images: Sequence[Path], out: Path, scale: int) -> dict[Path, Path]:
    """Name every result, and refuse names that meet: nothing is overwritten unseen."""
    sources: dict[Path, Path] = {}
    for path in images:
        answer = _answer_type(path.suffix.lower())
        suffix = path.suffix if answer == TYPES_BY_SUFFIX.get(path.suffix.lower()) else ".png"
        target = out / f"{path.stem}_x{scale}{suffix}"
        if target in sources:
            raise UpscaleError(f"{sources[target]} and {path} would both become {target}")
        sources[target] = path
    return {source: target for target, source in sources.items()}


def _answer_type(suffix: str) -> str:
    return choose_answer(None, TYPES_BY_SUFFIX.get(suffix, ""))


def _upscale(path: Path, engine: Engine, manifest: Manifest, max_pixels: int) -> bytes | memoryview:
    media_type = TYPES_BY_SUFFIX.get(path.suffix.lower())
    if media_type is None:
        raise OSError(f"unknown suffix {path.suffix!r}; expected {', '.join(TYPES_BY_SUFFIX)}")
    image = codec.decode(
        path.read_bytes(), media_type, shape=None, dtype=None, max_pixels=max_pixels
    )
    lr = to_uint8(image.pixels, manifest.window or FULL_RANGE, white_is_zero=image.white_is_zero)
    plan = tiling.plan(*lr.shape, tile=manifest.tile, halo_px=manifest.halo_px)
    outputs = [engine.run(np.ascontiguousarray(tile)[None, None]) for tile in plan.split(lr)]
    of_tiles([output.flags[0] for output in outputs]).check()
    sr = plan.merge([output.sr[0, 0] for output in outputs], scale=manifest.scale)
    metadata = image.metadata.scaled(manifest.scale)
    return codec.encode(sr, _answer_type(path.suffix.lower()), metadata)
