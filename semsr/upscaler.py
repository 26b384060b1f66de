"""`semsr.Upscaler`: super-resolves NumPy tiles on this machine, without a server."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Bundle, load_bundle
from engines.batches import EngineOutput, run_batch
from engines.registry import load_engine
from service.hosting.loading import batch_limit, resolve_engine
from service.images import tiling
from service.images.quality import of_tiles
from service.images.window import FULL_RANGE, Window, to_uint8
from service.settings import Settings

Tile = npt.NDArray[np.uint8 | np.uint16]

# The last axis of a colour image; a stack of tiles this narrow is far more likely one.
_COLOURS = (3, 4)


@dataclass(frozen=True, kw_only=True)
class SrImage:
    """Super-resolution of one image.

    Attributes:
        pixels: (scale*H, scale*W) uint8 in [0, 255].
        quality: Quality flags of the model's graph, by the names of the service's `X-Quality`:
            `non-finite`, `saturated`, `consistency`, `consistency-worst` and, where the bundle has
            their limits, `residual` and `domain-distance`. Above 1, the last two exceed the limit.
    """

    pixels: npt.NDArray[np.uint8]
    quality: dict[str, float]


class Upscaler:
    """A loaded model on this machine.

        with semsr.Upscaler() as upscale:
            sr = upscale(tile)  # (H, W) uint8 or uint16 -> (scale*H, scale*W) uint8
            answer = upscale.with_quality(tile)  # answer.pixels, answer.quality
            for answer in upscale.many(tiles):  # any iterable, in order
                ...

    The settings (`SEMSR_…` variables) give precision, threads, device, and the values of omitted
    arguments, as for the service.

    Threads may share an object: their calls run one after another, each on all threads of the
    engine. A process that is forked from its owner cannot use it, and it cannot be pickled.

    Attributes:
        bundle: Bundle of the model; `bundle.manifest` describes it.
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
            bundle: Bundle folder, or a loaded bundle; None takes the setting's, or else the shipped
                bundle.
            engine: Engine name or `auto`; None takes the setting's.
            window: Grey range (lo, hi) of 16-bit tiles, 0 <= lo < hi <= 65535; None takes the
                bundle's, or else the whole range. 8-bit tiles have none.

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
        self._batch = batch_limit(bundle, settings)
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._is_closed = False
        self.bundle = bundle
        self.window = window or bundle.manifest.window

    @property
    def scale(self) -> int:
        """Factor between an answer and its tile, in both axes."""
        return self.bundle.manifest.scale

    @property
    def engine(self) -> str:
        """Name of the engine that runs the model."""
        return self._engine.name

    @property
    def precision(self) -> str:
        """Precision that the engine computes in."""
        return self._engine.precision

    def __call__(self, tile: Tile, *, white_is_zero: bool = False) -> npt.NDArray[np.uint8]:
        """Super-resolve one image of any size; large ones are cut into overlapping tiles.

        Args:
            tile: (H, W) uint8 or uint16, of any byte order and memory layout.
            white_is_zero: Whether low values of a 16-bit tile are bright.

        Returns:
            (scale*H, scale*W) uint8 in [0, 255].

        Raises:
            ValueError: The tile has another shape or data type, no pixels, or a mask.
            RuntimeError: The object is closed, or belongs to another process.
            service.ground.errors.EngineFailed: The model gave NaN or infinity.
        """
        return self.with_quality(tile, white_is_zero=white_is_zero).pixels

    def with_quality(self, tile: Tile, *, white_is_zero: bool = False) -> SrImage:
        """Super-resolve one image as `__call__` does; return its quality flags too."""
        lr = self._prepare(tile, "tile", white_is_zero=white_is_zero)
        [answer] = self._run([lr])
        return answer

    def many(self, tiles: Iterable[Tile], *, white_is_zero: bool = False) -> Iterator[SrImage]:
        """Super-resolve many images in order, in batches of the size that the service forms.

        Images are taken from the iterable as they are needed, at most one batch ahead.

        Args:
            tiles: Images as for `__call__`, each of any size: an iterable, or one array (N, H, W).
            white_is_zero: Whether low values of 16-bit tiles are bright.

        Raises:
            ValueError: An image cannot be used, as for `__call__`. The message has its index, and
                the answers to the preceding images have been yielded. Immediately: `tiles` is one
                image.
            RuntimeError: The object is closed, or belongs to another process.
            service.ground.errors.EngineFailed: The model gave NaN or infinity.
        """
        if isinstance(tiles, np.ndarray) and (tiles.ndim != 3 or tiles.shape[2] in _COLOURS):
            raise ValueError(
                f"tiles is {_described(tiles)}; expected (N, H, W), or an iterable of grey images"
            )
        self._check_usable()
        return self._many(tiles, white_is_zero)

    def close(self) -> None:
        """Release the engine; a call in progress is finished first, a second close does nothing."""
        with self._lock:
            if not self._is_closed and self._owner == os.getpid():
                self._engine.close()
            self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        height, width = manifest.tile
        state = "closed" if self._is_closed else f"{self.engine}, {self.precision}"
        return (
            f"<semsr.Upscaler {manifest.name} {self.bundle.version}: x{self.scale}, tiles of "
            f"{height}x{width}, window {self.window or FULL_RANGE}, {state}>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a semsr.Upscaler cannot be pickled: create one in each process")

    def _many(self, tiles: Iterable[Tile], white_is_zero: bool) -> Iterator[SrImage]:
        numbered = enumerate(tiles)
        failure: Exception | None = None
        while failure is None:
            images: list[npt.NDArray[np.uint8]] = []
            try:
                for index, tile in islice(numbered, self._batch):
                    name = f"tile {index}"
                    images.append(self._prepare(tile, name, white_is_zero=white_is_zero))
            except Exception as error:  # raised below, after the answers to the preceding tiles
                failure = error
            if not images:
                break
            yield from self._run(images)
        if failure is not None:
            raise failure

    def _prepare(self, tile: object, name: str, *, white_is_zero: bool) -> npt.NDArray[np.uint8]:
        """Check an image and map it to 8 bits."""
        described = f"{name} is {_described(tile)}"
        if not isinstance(tile, np.ndarray) or tile.ndim != 2 or not tile.size:
            raise ValueError(f"{described}; expected a two-dimensional array{_hint(tile)}")
        if isinstance(tile, np.ma.MaskedArray):
            raise ValueError(f"{described}; expected one without a mask")  # noqa: TRY004 (a value)
        if tile.dtype.kind != "u" or tile.dtype.itemsize > 2:
            raise ValueError(f"{described}; expected uint8 or uint16{_hint(tile)}")
        native: Any = tile.astype(tile.dtype.newbyteorder("="), copy=False)
        return to_uint8(native, self.window or FULL_RANGE, white_is_zero=white_is_zero)

    def _run(self, images: Sequence[npt.NDArray[np.uint8]]) -> Iterator[SrImage]:
        """Run the tiles of some images in batches, then yield the answer to each image."""
        manifest = self.bundle.manifest
        plans = [
            tiling.plan(
                *lr.shape, tile=manifest.tile, halo_px=manifest.halo_px, grid_px=manifest.grid_px
            )
            for lr in images
        ]
        tiles = [
            np.ascontiguousarray(part)
            for plan, lr in zip(plans, images, strict=True)
            for part in plan.split(lr)
        ]
        outputs: list[EngineOutput] = []
        with self._lock:
            self._check_usable()
            for start in range(0, len(tiles), self._batch):
                batch = np.stack(tiles[start : start + self._batch])[:, None]
                outputs.append(run_batch(self._engine, batch))
        answers = iter([sr[0] for output in outputs for sr in output.sr])
        flags = iter([tile_flags for output in outputs for tile_flags in output.flags])
        for plan in plans:
            quality = of_tiles(list(islice(flags, plan.count)))
            quality.check()
            pixels = plan.merge(list(islice(answers, plan.count)), scale=manifest.scale)
            yield SrImage(pixels=pixels, quality=quality.by_name())

    def _check_usable(self) -> None:
        if self._is_closed:
            raise RuntimeError("this semsr.Upscaler is closed")
        if self._owner != os.getpid():  # a runtime's threads do not survive a fork: it would hang
            raise RuntimeError(
                f"this semsr.Upscaler belongs to process {self._owner}: create one in each process"
            )


def _described(value: object) -> str:
    if isinstance(value, np.ma.MaskedArray):
        return f"a masked array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"


def _hint(value: object) -> str:
    """Return what else the caller could do, or nothing."""
    if value is None:
        return " (None is what cv2.imread gives for a file that it cannot read)"
    if not isinstance(value, np.ndarray):
        return ""
    if value.ndim == 3 and value.shape[2] in _COLOURS:
        return ": convert colour to grey first"
    if value.ndim == 3:
        return "; `many` takes a stack (N, H, W)"
    if value.dtype.kind == "f" and value.size:
        return ": scale the grey levels yourself, with the same range for every tile"
    return ""
