"""`semsr.Upscaler`: super-resolves NumPy tiles on this machine, without a server."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Bundle, load_bundle
from engines.batches import run_batch
from engines.protocol import Engine
from engines.registry import load_engine
from engines.sixteen_bit import SixteenBitGraph
from semsr.array_checks import COLOURS, checked_tile, described
from service.hosting.loading import batch_limit, fp32_options, resolve_engine
from service.images import tiling
from service.images.quality import of_tiles
from service.images.window import FULL_RANGE, Window, to_uint8, to_uint16
from service.settings import Settings

Tile = npt.NDArray[np.uint8 | np.uint16]

Answer = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class SrImage:
    """Super-resolution of one image.

    Attributes:
        pixels: (scale*H, scale*W) uint8 in [0, 255]; with 16 bits uint16: in the window for a
            uint16 tile, else 65535 for white.
        quality: Quality flags of the model's graph, by the names of the service's `X-Quality`:
            `non-finite`, `saturated`, `consistency`, `consistency-worst` and, where the bundle has
            their limits, `residual` and `domain-distance`. Above 1, the last two exceed the limit.
    """

    pixels: Answer
    quality: dict[str, float]


@dataclass(frozen=True)
class _Image:
    """An image as the network takes it.

    Attributes:
        lr: (H, W) uint8.
        window: Window that a 16-bit answer is stretched over.
    """

    lr: npt.NDArray[np.uint8]
    window: Window


class Upscaler:
    """A loaded model on this machine.

        with semsr.Upscaler() as upscale:
            sr = upscale(tile)  # (H, W) uint8 or uint16 -> (scale*H, scale*W) uint8
            answer = upscale.with_quality(tile)  # answer.pixels, answer.quality
            for answer in upscale.many(tiles):  # any iterable, in order
                ...

    With `bits=16` the answers are uint16 in the greys of the tile, computed by ONNX Runtime in
    FP32.

    The settings (`SEMSR_…` variables) give precision, threads, device, and the values of omitted
    arguments, as for the service.

    Threads may share an object: their calls run one after another, each on all threads of the
    engine. A process that is forked from its owner cannot use it, and it cannot be pickled.

    Attributes:
        bundle: Bundle of the model; `bundle.manifest` describes it.
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
            bundle: Bundle folder, or a loaded bundle; None takes the setting's, or else the shipped
                bundle.
            engine: Engine name or `auto`; None takes the setting's.
            window: Grey range (lo, hi) of 16-bit tiles, 0 <= lo < hi <= 65535; None takes the
                bundle's, or else the whole range. 8-bit tiles have none.
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
        # Not SEMSR_ANSWER_BITS: answers of 8 bits need no 16-bit graph.
        settings = Settings().model_copy(update={"answer_bits": bits})
        if not isinstance(bundle, Bundle):
            bundle = load_bundle(Path(bundle or settings.bundle))
        self._engine: Engine | None = None
        if bits == 16:
            self._fine_graph = SixteenBitGraph(bundle, fp32_options(settings))
        else:
            name, options, _ = resolve_engine(bundle, settings, name=engine)
            self._engine = load_engine(name, bundle, options)
        self._batch = batch_limit(bundle, settings)
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._is_closed = False
        self.bundle = bundle
        self.bits = bits
        self.window = window or bundle.manifest.window

    @property
    def scale(self) -> int:
        """Factor between an answer and its tile, in both axes."""
        return self.bundle.manifest.scale

    @property
    def engine(self) -> str:
        """Name of the engine that runs the model."""
        return "onnx" if self._engine is None else self._engine.name

    @property
    def precision(self) -> str:
        """Precision that the engine computes in."""
        return "fp32" if self._engine is None else self._engine.precision

    def __call__(self, tile: Tile, *, white_is_zero: bool = False) -> Answer:
        """Super-resolve one image of any size; large ones are cut into overlapping tiles.

        Args:
            tile: (H, W) uint8 or uint16, of any byte order and memory layout.
            white_is_zero: Whether low values of a 16-bit tile are bright.

        Returns:
            (scale*H, scale*W) uint8 in [0, 255]; with 16 bits uint16: in the window for a uint16
            tile, else 65535 for white.

        Raises:
            ValueError: The tile has another shape or data type, no pixels, or a mask.
            RuntimeError: The object is closed, or belongs to another process.
            service.ground.errors.EngineFailed: The model gave NaN or infinity.
        """
        return self.with_quality(tile, white_is_zero=white_is_zero).pixels

    def with_quality(self, tile: Tile, *, white_is_zero: bool = False) -> SrImage:
        """Super-resolve one image as `__call__` does; return its quality flags too."""
        image = self._prepare(tile, "tile", white_is_zero=white_is_zero)
        [answer] = self._run([image])
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
        if isinstance(tiles, np.ndarray) and (tiles.ndim != 3 or tiles.shape[2] in COLOURS):
            raise ValueError(
                f"tiles is {described(tiles)}; expected (N, H, W), or an iterable of grey images"
            )
        self._check_usable()
        return self._many(tiles, white_is_zero)

    def close(self) -> None:
        """Release the engine; a call in progress is finished first, a second close does nothing."""
        with self._lock:
            if self._engine and not self._is_closed and self._owner == os.getpid():
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
            images: list[_Image] = []
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

    def _prepare(self, tile: object, name: str, *, white_is_zero: bool) -> _Image:
        """Check an image and map it to 8 bits."""
        pixels = checked_tile(tile, name)
        window = self.window or FULL_RANGE
        lr = to_uint8(pixels, window, white_is_zero=white_is_zero)
        return _Image(lr, window if pixels.dtype == np.uint16 else FULL_RANGE)

    def _run(self, images: Sequence[_Image]) -> Iterator[SrImage]:
        """Run the tiles of some images in batches, then yield the answer to each image."""
        manifest = self.bundle.manifest
        plans = [
            tiling.plan(
                *image.lr.shape,
                tile=manifest.tile,
                halo_px=manifest.halo_px,
                grid_px=manifest.grid_px,
            )
            for image in images
        ]
        tiles = [
            np.ascontiguousarray(part)
            for plan, image in zip(plans, images, strict=True)
            for part in plan.split(image.lr)
        ]
        answers: list[Answer] = []
        flags: list[npt.NDArray[np.float32]] = []
        with self._lock:
            self._check_usable()
            for start in range(0, len(tiles), self._batch):
                batch = tiles[start : start + self._batch]
                outputs, their_flags = self._compute(batch)
                answers += outputs
                flags += list(their_flags)
        remaining, their_flags = iter(answers), iter(flags)
        for plan, image in zip(plans, images, strict=True):
            quality = of_tiles(list(islice(their_flags, plan.count)))
            quality.check()
            sr: Any = plan.merge(list(islice(remaining, plan.count)), scale=manifest.scale)
            pixels: Answer = sr if self.bits == 8 else to_uint16(sr, image.window)
            yield SrImage(pixels=pixels, quality=quality.by_name())

    def _compute(
        self, batch: Sequence[npt.NDArray[np.uint8]]
    ) -> tuple[Sequence[Answer], npt.NDArray[np.float32]]:
        """Run tiles of one shape; returns their answers and their flags (N, K)."""
        if self._engine is not None:
            output = run_batch(self._engine, np.stack(batch)[:, None])
            return [sr[0] for sr in output.sr], output.flags
        height, width = (self.scale * side for side in batch[0].shape)
        fine = [np.empty((height, width), dtype=np.uint16) for _ in batch]
        return fine, self._fine_graph.run(batch, fine)

    def _check_usable(self) -> None:
        if self._is_closed:
            raise RuntimeError("this semsr.Upscaler is closed")
        if self._owner != os.getpid():  # a runtime's threads do not survive a fork: it would hang
            raise RuntimeError(
                f"this semsr.Upscaler belongs to process {self._owner}: create one in each process"
            )
