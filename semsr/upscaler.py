"""`semsr.Upscaler`: super-resolves NumPy tiles on this machine, without a server."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Bundle, load_bundle
from engines.batches import run_batch
from engines.registry import load_engine
from service.hosting.loading import resolve_engine
from service.images import tiling
from service.images.quality import of_tiles
from service.images.window import FULL_RANGE, Window, to_uint8
from service.settings import Settings


class Upscaler:
    """A loaded model; one thread may call it at a time.

        with semsr.Upscaler("bundles/default") as upscale:
            sr = upscale(tile)  # (H, W) uint8 or uint16 -> (scale*H, scale*W) uint8

    The settings (`SEMSR_…` variables) give precision, threads, device, and the values of omitted
    arguments, as for the service.

    Attributes:
        bundle: Bundle of the model; `bundle.manifest.scale` is its factor.
        window: Grey range of 16-bit tiles that becomes black to white; None for the whole range.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle | None = None,
        *,
        engine: str | None = None,
        window: Window | None = None,
    ) -> None:
        """Load the model, which takes seconds.

        Args:
            bundle: Bundle folder, or a loaded bundle; None takes the setting's.
            engine: Engine name or `auto`; None takes the setting's.
            window: Grey range (lo, hi) of 16-bit tiles, 0 <= lo < hi <= 65535; None takes the
                bundle's, or else the whole range.

        Raises:
            ValueError: The window is not a grey range, or a setting is out of its bounds.
            bundle_format.bundle.BundleError: The bundle cannot be read.
            engines.protocol.EngineError: The engine cannot be loaded.
        """
        if window is not None and not 0 <= window[0] < window[1] <= FULL_RANGE[1]:
            raise ValueError(f"window is {window}; expected (lo, hi) with 0 <= lo < hi <= 65535")
        settings = Settings()
        if not isinstance(bundle, Bundle):
            bundle = load_bundle(Path(bundle or settings.bundle))
        name, options, _ = resolve_engine(bundle, settings, name=engine)
        self._engine = load_engine(name, bundle, options)
        self.bundle = bundle
        self.window = window or bundle.manifest.window

    def __call__(
        self, tile: npt.NDArray[np.uint8 | np.uint16], *, white_is_zero: bool = False
    ) -> npt.NDArray[np.uint8]:
        """Super-resolve one image of any size; large ones are cut into overlapping tiles.

        Args:
            tile: (H, W) uint8 or uint16.
            white_is_zero: Whether low values of a 16-bit tile are bright.

        Returns:
            (scale*H, scale*W) uint8 in [0, 255].

        Raises:
            ValueError: The tile has another shape or data type, or no pixels.
            service.ground.errors.EngineFailed: The model gave NaN or infinity.
        """
        given: Any = tile
        if not isinstance(given, np.ndarray) or given.ndim != 2 or not given.size:
            raise ValueError(f"tile is {_described(given)}; expected a two-dimensional array")
        if given.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"tile is {_described(given)}; expected uint8 or uint16")
        lr = to_uint8(tile, self.window or FULL_RANGE, white_is_zero=white_is_zero)
        manifest = self.bundle.manifest
        plan = tiling.plan(
            *lr.shape, tile=manifest.tile, halo_px=manifest.halo_px, grid_px=manifest.grid_px
        )
        outputs = [
            run_batch(self._engine, np.ascontiguousarray(part)[None, None])
            for part in plan.split(lr)
        ]
        of_tiles([output.flags[0] for output in outputs]).check()
        return plan.merge([output.sr[0, 0] for output in outputs], scale=manifest.scale)

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _described(value: Any) -> str:  # noqa: ANN401 (anything that a caller may pass)
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"
