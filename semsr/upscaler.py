"""`semsr.Upscaler`: super-resolves NumPy tiles on this machine, without a server."""

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Bundle, load_bundle
from engines.batches import run_batch
from engines.protocol import Engine
from engines.registry import load_engine
from engines.sixteen_bit import SixteenBitGraph
from service.hosting.loading import fp32_options, resolve_engine
from service.images import tiling
from service.images.quality import of_tiles
from service.images.window import FULL_RANGE, Window, to_uint8, to_uint16
from service.settings import Settings


class Upscaler:
    """A loaded model; one thread may call it at a time.

        with semsr.Upscaler("bundles/default") as upscale:
            sr = upscale(tile)  # (H, W) uint8 or uint16 -> (scale*H, scale*W) uint8

    With `bits=16` the answers are uint16 in the greys of the tile, computed by ONNX Runtime in
    FP32.

    The settings (`SEMSR_…` variables) give precision, threads, device, and the values of omitted
    arguments, as for the service.

    Attributes:
        bundle: Bundle of the model; `bundle.manifest.scale` is its factor.
        window: Grey range of 16-bit tiles that becomes black to white; None for the whole range.
        bits: Bits of the answers, 8 or 16.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle | None = None,
        *,
        engine: str | None = None,
        window: Window | None = None,
        bits: Literal[8, 16] = 8,
    ) -> None:
        """Load the model, which takes seconds.

        Args:
            bundle: Bundle folder, or a loaded bundle; None takes the setting's.
            engine: Engine name or `auto`; None takes the setting's.
            window: Grey range (lo, hi) of 16-bit tiles, 0 <= lo < hi <= 65535; None takes the
                bundle's, or else the whole range.
            bits: 16 for uint16 answers with more than 8 bits; the bundle must have a graph for
                them.

        Raises:
            ValueError: The window is not a grey range, `bits` is neither 8 nor 16 or does not fit
                the engine, or a setting is out of its bounds.
            bundle_format.bundle.BundleError: The bundle cannot be read, or has no graph for 16
                bits.
            engines.protocol.EngineError: The engine cannot be loaded.
        """
        if window is not None and not 0 <= window[0] < window[1] <= FULL_RANGE[1]:
            raise ValueError(f"window is {window}; expected (lo, hi) with 0 <= lo < hi <= 65535")
        if bits not in (8, 16):
            raise ValueError(f"bits is {bits}; expected 8 or 16")
        if bits == 16 and engine not in (None, "auto", "onnx"):
            raise ValueError(f"engine is {engine!r} and bits 16; only onnx answers in 16 bits")
        settings = Settings()
        if not isinstance(bundle, Bundle):
            bundle = load_bundle(Path(bundle or settings.bundle))
        self._engine: Engine | None = None
        if bits == 16:
            self._graph = SixteenBitGraph(bundle, fp32_options(settings))
        else:
            name, options, _ = resolve_engine(bundle, settings, name=engine)
            self._engine = load_engine(name, bundle, options)
        self.bundle = bundle
        self.bits = bits
        self.window = window or bundle.manifest.window

    def __call__(
        self, tile: npt.NDArray[np.uint8 | np.uint16], *, white_is_zero: bool = False
    ) -> npt.NDArray[np.uint8 | np.uint16]:
        """Super-resolve one image of any size; large ones are cut into overlapping tiles.

        Args:
            tile: (H, W) uint8 or uint16.
            white_is_zero: Whether low values of a 16-bit tile are bright.

        Returns:
            (scale*H, scale*W) uint8 in [0, 255]; with 16 bits uint16: in the window for a uint16
            tile, else 65535 for white.

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
        answers = [self._run(np.ascontiguousarray(part)) for part in plan.split(lr)]
        of_tiles([flags for _, flags in answers]).check()
        sr = plan.merge([answer for answer, _ in answers], scale=manifest.scale)
        if self.bits == 8:
            return sr
        stretch = (self.window or FULL_RANGE) if tile.dtype == np.uint16 else FULL_RANGE
        return to_uint16(sr, stretch)

    def _run(
        self, lr: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.uint8 | np.uint16], npt.NDArray[np.float32]]:
        """Run one tile (H, W); returns its answer and its flags (K,)."""
        if self._engine is not None:
            output = run_batch(self._engine, lr[None, None])
            return output.sr[0, 0], output.flags[0]
        height, width = (self.bundle.manifest.scale * side for side in lr.shape)
        sr = np.empty((height, width), dtype=np.uint16)
        return sr, self._graph.run([lr], [sr])[0]

    def close(self) -> None:
        """Release the engine."""
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _described(value: Any) -> str:  # noqa: ANN401 (anything that a caller may pass)
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"
