"""The steps of a group of tiles: load in one thread, run on the engine, encode in another thread.

A single tile costs more time in switches between threads than in work of the interpreter. The tiles
of a group share the switches, and their files are written to the disk together.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from service.ground.errors import EngineFailed, NotReady, QueueFull, ServiceError
from service.ground.tools import tool_of
from service.images.image_steps import ImageSteps, Inferred, Prepared, decoder
from service.images.media_types import readable_type
from service.images.request import TileRequest
from service.scans.errors import ScanError, TileError
from service.scans.facts import Facts, pixel_size, scaled
from service.scans.options import ScanOptions
from service.scans.rows import Outcome, PendingTile
from service.scans.sinks import Computed, Sink
from service.scans.sources import Source, SourceImage

# Another tile may have caused the failure of a batch: each tile is tried twice.
_ATTEMPTS = 2
# Shortest pause after a full queue, which may have room again at once.
_LEAST_PAUSE_S = 0.05


class Upscaling(Protocol):
    """Super-resolves images: the steps before and after the engine, and the engine itself.

    Attributes:
        steps: Steps before and after the engine, for any thread.
    """

    steps: ImageSteps

    async def infer(self, prepared: Prepared) -> Inferred:
        """Run one image; raises as `Upscaler.infer`."""
        ...

    def observe_encode(self, seconds: float) -> None:
        """Record the seconds that an image took to encode; call it on the event loop."""
        ...


class Loaded(NamedTuple):
    """A tile that was read, decoded and cut.

    Attributes:
        tile: Its row.
        prepared: Its image, cut into tiles of the model's size.
        facts: Its facts.
        input_sha256: SHA-256 of the input.
    """

    tile: PendingTile
    prepared: Prepared
    facts: Facts
    input_sha256: str


class Run(NamedTuple):
    """A tile that the engine has done.

    Attributes:
        loaded: The tile as it was read.
        inferred: Its super-resolved tiles.
    """

    loaded: Loaded
    inferred: Inferred


class GroupWork:
    """The steps from a pending row to its encoded image; `Scan` calls them in order."""

    def __init__(
        self, source: Source, sink: Sink, upscaling: Upscaling, options: ScanOptions
    ) -> None:
        """Prepare.

        Args:
            source: Source of the tiles.
            sink: Sink, which chooses the type of the answers.
            upscaling: Model that runs the tiles.
            options: Options of reading and writing.
        """
        self._source = source
        self._sink = sink
        self._upscaling = upscaling
        self._steps = upscaling.steps
        self._options = options
        # The threads mostly wait; more of them computing than cores would slow the engine.
        self._cores = threading.BoundedSemaphore(options.cores)

    def load(self, tiles: Sequence[PendingTile]) -> list[Loaded | Outcome]:
        """Read, hash, decode and cut tiles; call it in any thread.

        Raises:
            StoreLostError: The source is lost.
        """
        return [self._load(tile) for tile in tiles]

    async def infer(self, loaded: Loaded) -> Run | Outcome:
        """Run one tile; a tile that the queue rejects is retried without a time limit.

        Raises:
            ScanError: The engine cannot go on.
        """
        attempts = 0
        while True:
            try:
                return Run(loaded, await self._upscaling.infer(loaded.prepared))
            except QueueFull as error:
                await asyncio.sleep(max(_LEAST_PAUSE_S, error.retry_after_s or 0.0))
            except NotReady as error:
                raise ScanError(f"the engine cannot go on: {error.detail}") from error
            except ServiceError as error:
                attempts += 1
                if attempts == _ATTEMPTS or not isinstance(error, EngineFailed):
                    return _failed(loaded.tile, error, loaded.input_sha256)

    def encode(self, runs: list[Run]) -> tuple[list[Computed], list[Outcome]]:
        """Encode and hash tiles; call it in any thread.

        Args:
            runs: Tiles from the engine; emptied, so that each is freed once it is encoded.

        Returns:
            Tiles to be written, and outcomes of failed tiles.
        """
        computed: list[Computed] = []
        failed: list[Outcome] = []
        runs.reverse()
        while runs:
            result = self._encode(runs.pop())
            if isinstance(result, Computed):
                computed.append(result)
            else:
                failed.append(result)
        return computed, failed

    def _encode(self, run: Run) -> Computed | Outcome:
        loaded, inferred = run
        try:
            with self._cores:
                started_s = time.perf_counter()
                answer = self._steps.encode(loaded.prepared, inferred, started_s=started_s)
                answer_sha256 = hashlib.sha256(answer.body).hexdigest()
        except ServiceError as error:
            return _failed(loaded.tile, error, loaded.input_sha256)
        facts = scaled(loaded.facts, self._options.scale)
        return Computed(loaded.tile, answer, answer_sha256, facts, loaded.input_sha256)

    def _load(self, tile: PendingTile) -> Loaded | Outcome:
        digest: str | None = None
        try:
            image = self._source.read(tile.ref)
            digest = hashlib.sha256(image.body).hexdigest()
            facts = self._with_name(tile, image.facts)
            request = self._request(image, tool_of(facts.get("tool")))
            image_type = readable_type(image.media_type)
            decode = decoder(image.body, image_type, request)
            with self._cores:
                started_s = time.perf_counter()
                prepared = self._steps.cut(decode, image_type, request, started_s=started_s)
        except TileError as error:
            return Outcome(tile.id, "failed", error=str(error), input_sha256=digest)
        except ServiceError as error:
            return _failed(tile, error, digest)
        return Loaded(tile, prepared, facts, digest)

    def _with_name(self, tile: PendingTile, facts: Facts) -> Facts:
        """Add the facts in the tile's name; its other facts are more specific."""
        names = self._options.names
        if names is None:
            return facts
        return {**(names.facts(tile.ref.stem) or {}), **facts}

    def _request(self, image: SourceImage, tool: str | None) -> TileRequest:
        options = self._options
        return TileRequest(
            content_type=image.media_type,
            media_type=image.media_type,
            accept=self._sink.accept() or _own_type(image.media_type),
            shape=image.shape,
            dtype=image.dtype,
            window=options.window,
            answer_dtype=options.answer_dtype,
            answer_bits=options.answer_bits,
            pixel_size=pixel_size(image.facts) or options.pixel_size,
            deadline_s=None,
            priority=options.priority,
            tool=tool,
        )


def _failed(tile: PendingTile, error: ServiceError, digest: str | None) -> Outcome:
    reason = f"{error.title}: {error.detail}"
    return Outcome(tile.id, "failed", error=reason, input_sha256=digest)


def _own_type(media_type: str) -> str | None:
    """Return npy as the answer type of raw pixels; None keeps the type of an image."""
    return "application/x-npy" if media_type == "application/octet-stream" else None
