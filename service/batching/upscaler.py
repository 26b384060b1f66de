"""Turns the bytes of one request into the bytes of its answer. Read this file first.

    body ──decode──> grey image ──window──> uint8 ──split──> tiles ──runner──> SR tiles
         ──merge──> SR image ──encode──> answer

Of HTTP, this file knows only media types. Compressed formats are decoded and encoded in threads, as
the codecs release the GIL. Raw and npy bodies cost next to nothing and stay on the event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Manifest
from engines.protocol import Tile
from service.batching.admission import Admission, Places, Users
from service.batching.collecting import TileAnswers, batch_of, collect_image, collect_tiles
from service.batching.request_reporter import RequestReporter
from service.batching.tile_runner import TileResult, TileRunner
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.ground.tools import ToolLabels
from service.images.codec.sniffing import NPY, RAW
from service.images.image_steps import Answer, Decode, ImageSteps, Inferred, Prepared, Seen, decoder
from service.images.media_types import readable_type
from service.images.multipart import UploadedFile, extract_file
from service.images.quality import Quality
from service.images.request import MULTIPART, TileRequest

Result = TypeVar("Result")

# Types whose coding is a copy at most: a thread would cost more than the work.
CHEAP_TYPES = frozenset({NPY, RAW})


class Upscaler:
    """Turns request bodies into answers of one model.

    Attributes:
        steps: Decoding, cutting and encoding by themselves, for threads.
        users: Requests that hold places here.
    """

    def __init__(
        self,
        runner: TileRunner,
        manifest: Manifest,
        metrics: Metrics,
        *,
        model: str,
        tools: ToolLabels,
        places: Places,
        max_pixels: int,
        codec_threads: Executor | None = None,
        answer_bits: int = 8,
    ) -> None:
        """Prepare.

        Args:
            runner: Runner of the tiles.
            manifest: Manifest with scale, tile, halo and window.
            metrics: Metrics of the service.
            model: Model name, a label of the metrics.
            tools: Labels of tools, shared by all models of the process.
            places: Places of the whole process, which bound the requests in flight.
            max_pixels: Maximum number of pixels of an LR image.
            codec_threads: Threads of the whole process that decode and encode. None uses the event
                loop's own.
            answer_bits: Most bits that the engine gives, 8 or 16.
        """
        self._runner = runner
        self._manifest = manifest
        self._reporter = RequestReporter(metrics, model=model, tools=tools)
        self._places = places
        self._threads = codec_threads
        self.steps = ImageSteps(manifest, max_pixels=max_pixels, answer_bits=answer_bits)
        self.users = Users()

    @property
    def place_bytes(self) -> int:
        """Bytes that one place stands for: those of an SR tile."""
        return self._manifest.sr_bytes

    def admit(
        self, *, deadline_s: float | None = None, priority: Priority = Priority.ONLINE
    ) -> Admission:
        """Admit one request as a context manager; entering raises QueueFull when saturated.

        A request that even as one tile would be done too late is refused here, before its body is
        read and decoded.

        Raises:
            QueueFull: See `TileRunner.check`.
            NotReady: The service is stopping.
        """
        self._runner.check(1, deadline_s=deadline_s, priority=priority)
        return self.hold(priority)

    def hold(self, priority: Priority) -> Admission:
        """Admit a decoded image, which `infer` checks; see `admit`."""
        return Admission(
            self._places,
            self._runner,
            priority,
            place_bytes=self.place_bytes,
            users=self.users,
        )

    async def upscale(self, body: bytes, request: TileRequest, admission: Admission) -> Answer:
        """Super-resolve one image.

        Args:
            body: Body of the request.
            request: Headers of the request.
            admission: Places held by the caller; grown to the image's tiles.

        Raises:
            service.ground.errors.ServiceError: The request or the service has a problem.
        """
        upload, image_type = _upload(body, request)
        is_small = len(body) <= self.place_bytes
        prepared = await self.prepare(
            decoder(upload.content, image_type, request),
            image_type,
            request,
            is_cheap=is_small and image_type in CHEAP_TYPES,
        )
        return await self.finish(prepared, admission)

    async def see(
        self, body: bytes, request: TileRequest, admission: Admission, *, page: int
    ) -> Seen:
        """Return one image as the model would see it, without running the model.

        Args:
            body: Body of the request.
            request: Headers of the request.
            admission: Places held by the caller; grown to the memory of the image.
            page: Index of the image in the file.

        Raises:
            service.ground.errors.ServiceError: The request or the service has a problem.
        """
        upload, image_type = _upload(body, request)
        seen = await self._in_thread(
            partial(self.steps.see, upload.content, image_type, request, page)
        )
        admission.hold_upload(max(len(body), len(seen.body)))
        return seen

    async def prepare(
        self,
        decode: Decode,
        image_type: str,
        request: TileRequest,
        *,
        is_cheap: bool,
    ) -> Prepared:
        """Decode an image and cut it into tiles, after which the number of its places is known.

        Args:
            decode: Function from the maximum number of pixels to the image.
            image_type: Media type of the image.
            request: Headers of the request.
            is_cheap: Whether decoding costs at most a copy, and so needs no thread.

        Raises:
            service.ground.errors.ServiceError: The image has a problem.
        """
        started_s = time.perf_counter()
        cut = partial(self.steps.cut, decode, image_type, request, started_s=started_s)
        return cut() if is_cheap else await self._in_thread(cut)

    async def finish(self, prepared: Prepared, admission: Admission) -> Answer:
        """Run an image's tiles, put them together and encode the answer.

        Args:
            prepared: The image; may be tried again after QueueFull.
            admission: Places held by the caller; grown to the image's tiles.

        Raises:
            service.ground.errors.ServiceError: The request or the service has a problem.
        """
        inferred = await self.infer(prepared, admission)
        started_s = time.perf_counter()
        encode = partial(self.steps.encode, prepared, inferred, started_s=started_s)
        is_cheap = prepared.plan.is_single and prepared.answer_type in CHEAP_TYPES
        answer = encode() if is_cheap else await self._in_thread(encode)
        self.observe_encode(answer.stages_s["encode"])
        return answer

    async def infer(self, prepared: Prepared, admission: Admission) -> Inferred:
        """Run an image's tiles and put them together.

        Args:
            prepared: The image; may be tried again after QueueFull.
            admission: Places held by the caller; grown to the image's tiles.

        Raises:
            service.ground.errors.ServiceError: The service has a problem.
        """
        started_s = time.perf_counter()
        request = prepared.request
        admission.grow_to(prepared.places)
        futures = deque(
            self._runner.submit(
                prepared.tiles,
                deadline_s=request.deadline_s,
                priority=request.priority,
                bits=request.answer_bits,
            )
        )
        sr, flags, batches = await collect_image(
            futures, prepared.plan, scale=self._manifest.scale, stretch=prepared.stretch
        )
        queue_s = min(batch.queue_s for batch in batches)
        infer_s = max(0.0, time.perf_counter() - started_s - queue_s)
        quality = self._reporter.judge(flags, tool=request.tool)
        self._reporter.stages({"decode": prepared.decode_s, "queue": queue_s, "infer": infer_s})
        return Inferred(sr, quality, queue_s, infer_s, batches)

    def record_tile(self, result: TileResult, *, infer_s: float, tool: str | None) -> Quality:
        """Judge and record a tile that was sent to the runner without `upscale`.

        Args:
            result: Result of the tile.
            infer_s: Seconds from the start of its batch until the request went on.
            tool: Tool that made the tile, or None.

        Raises:
            service.ground.errors.EngineFailed: The answer holds non-finite values.
        """
        quality = self._reporter.judge([result.flags], tool=tool)
        self._reporter.stages(
            {"decode": 0.0, "queue": result.queue_s, "infer": infer_s, "encode": 0.0}
        )
        return quality

    def observe_encode(self, seconds: float) -> None:
        """Record the seconds that the encoding of an image from `infer` took."""
        self._reporter.stages({"encode": seconds})

    async def run_tiles(
        self,
        tiles: npt.NDArray[np.uint8],
        admission: Admission,
        *,
        deadline_s: float | None,
        priority: Priority,
        tool: str | None,
    ) -> TileAnswers:
        """Super-resolve tiles of the model's own size.

        Args:
            tiles: (N, 1, H, W) uint8.
            admission: Places held by the caller; grown to the tiles.
            deadline_s: `time.monotonic()` at which the tiles expire, or None.
            priority: Class of the tiles.
            tool: Tool that made the tiles, or None.

        Raises:
            service.ground.errors.ServiceError: The request or the service has a problem.
        """
        started_s = time.perf_counter()
        admission.grow_to(len(tiles))
        futures = self._runner.submit(
            [tile[0] for tile in tiles], deadline_s=deadline_s, priority=priority
        )
        results = await collect_tiles(futures)
        flags = [result.flags.copy() for result in results]
        self._reporter.judge(flags, tool=tool)
        batches = list(dict.fromkeys(batch_of(result) for result in results))
        queue_s = min(batch.queue_s for batch in batches)
        stages_s = {"queue": queue_s, "infer": time.perf_counter() - started_s - queue_s}
        self._reporter.stages(stages_s)
        sr = [cast("Tile", result.sr) for result in results]  # 8 bits were requested
        return TileAnswers(sr, flags, stages_s, batches)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Run coding work that is not cheap."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _upload(body: bytes, request: TileRequest) -> tuple[UploadedFile, str]:
    """Return the file of a request, out of its form if it has one, and its media type."""
    upload = UploadedFile(request.media_type, body)
    if request.media_type == MULTIPART:
        upload = extract_file(body, request.content_type)
    return upload, readable_type(upload.media_type)
