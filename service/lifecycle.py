"""Starting, ready, draining: what state the service is in, and the parts that live through it.

    starting ──load, golden tile, warm-up──> ready ──SIGTERM──> draining ──> stopped
        ├──> failed                            └──engine dies or hangs──> failed
        └──SIGTERM──> draining ──> stopped

Loading runs in the background, so that `/livez` answers meanwhile and `/readyz` says why not yet.
"""

import asyncio
import enum
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from service.batch_reporter import BatchReporter
from service.batcher import Batcher
from service.engines import load_engine
from service.errors import NotReady, UnknownModel
from service.loading import EngineLoader, LoadedModel, load_model_in_thread
from service.metrics import Metrics
from service.scheduling.costs import BatchCosts
from service.scheduling.scheduler import Priority
from service.settings import Settings
from service.upscaler import Upscaler

log = structlog.get_logger()

# From one batch to the next through threads, event loop and interpreter lock. With the engine
# `identity`, 16 connections and two cores, batches of one tile, as planned without it, lost a fifth
# of the throughput; with half of it or a quarter less was lost, with this nothing.
BATCH_OVERHEAD_S = 2e-3
_WATCH_PERIOD_S = 0.5
# Enough for an engine thread to notice that nothing is left to do.
_MIN_STOP_S = 0.5


class State(enum.StrEnum):
    """Where the service is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True)
class Serving:
    """The parts that exist while a model is served.

    Attributes:
        model: Bundle and engine.
        batcher: Runs tiles on the engine.
        upscaler: Turns request bodies into answers.
        headers: Headers that name model, version, engine and precision in every answer.
    """

    model: LoadedModel
    batcher: Batcher
    upscaler: Upscaler
    headers: list[tuple[bytes, bytes]]


class Lifecycle:
    """Owns the state of one app and what it serves."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        engine_loader: EngineLoader = load_engine,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `start` loads in the background.

        Args:
            settings: The service's settings.
            metrics: Told of the state and the model.
            engine_loader: Loads an engine by name; tests give their own.
            on_failure: Called when the service cannot, or can no longer, serve.
        """
        self.settings = settings
        self.metrics = metrics
        self.state = State.STARTING
        self.reason = "the model is being loaded"
        self.serving: Serving | None = None
        self._engine_loader = engine_loader
        self._on_failure = on_failure
        self._tasks: list[asyncio.Task[None]] = []
        self._loaded = asyncio.Event()
        self._stop_by_s: float | None = None

    def start(self) -> None:
        """Begin to load; call on the event loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._load()), loop.create_task(self._watch())]

    async def wait_loaded(self) -> None:
        """Wait until loading has ended, well or not."""
        await self._loaded.wait()

    @property
    def upscaler(self) -> Upscaler:
        """What serves tiles.

        Raises:
            NotReady: Nothing is loaded, or the engine has failed.
        """
        if self.serving is None or self.state is State.FAILED:
            raise NotReady(self.reason, retry_after_s=1.0)
        return self.serving.upscaler

    def find_model(self, name: str, version: str | None = None) -> Serving:
        """Return what serves a model.

        Raises:
            NotReady: Nothing is loaded.
            UnknownModel: Another model, or another version of it, is served.
        """
        if self.serving is None:
            raise NotReady(self.reason, retry_after_s=1.0)
        served = self.serving.model
        if name != served.name or version not in {None, served.bundle.version}:
            asked = name if version is None else f"{name} version {version}"
            raise UnknownModel(
                f"the model {asked} is not served; {served.name} version {served.bundle.version} is"
            )
        return self.serving

    @property
    def has_failed(self) -> bool:
        """Whether the service could not, or can no longer, serve."""
        return self.state is State.FAILED

    def common_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that every answer carries now."""
        headers = [] if self.serving is None else self.serving.headers
        if self.state is State.DRAINING:
            return [*headers, (b"connection", b"close")]
        return headers

    def begin_drain(self, drain_s: float = 0.0) -> float:
        """Turn `/readyz` to 503; requests are still served.

        Args:
            drain_s: Wish for how long to go on; nothing is served yet while starting.

        Returns:
            Seconds after which the process should stop accepting.
        """
        if self.state is State.STARTING:
            drain_s = 0.0
        if self.state in {State.STARTING, State.READY}:
            self.state = State.DRAINING
            self.reason = "the service is draining"
            log.info("draining", drain_s=drain_s)
        if self._stop_by_s is None:
            self._stop_by_s = time.monotonic() + drain_s + self.settings.shutdown_timeout_s
        return drain_s

    async def stop(self) -> None:
        """Finish what is under way and free the engine, within what is left of the time."""
        self.begin_drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.serving is None:
            return
        batcher = self.serving.batcher
        finished = await batcher.drain(self._remaining_s())
        batcher.close()
        ended = await batcher.join(self._remaining_s())
        if ended:
            self.serving.model.engine.close()
        self.serving.upscaler.close()
        self.metrics.engine_up.set(0)
        log.info("stopped", finished=finished and ended)

    def _remaining_s(self) -> float:
        assert self._stop_by_s is not None, "begin_drain sets it"  # noqa: S101 (our own invariant)
        return max(_MIN_STOP_S, self._stop_by_s - time.monotonic())

    async def _load(self) -> None:
        started_s = time.perf_counter()
        try:
            model = await load_model_in_thread(self.settings, self._engine_loader)
            if self.state is not State.STARTING:
                model.engine.close()
                return
            self._serve(model)
        except Exception as error:
            log.error("load_failed", error=str(error), kind=type(error).__name__)  # noqa: TRY400
            self._fail(f"the model cannot be served: {error}")
        else:
            seconds = round(time.perf_counter() - started_s, 2)
            log.info(
                "ready",
                bundle=str(self.settings.bundle),
                engine=model.engine.name,
                seconds=seconds,
            )
        finally:
            self._loaded.set()

    def _serve(self, model: LoadedModel) -> None:
        """Put a loaded model to work; runs on the event loop."""
        version, precision = model.bundle.version, model.engine.precision
        reporter = BatchReporter(
            self.metrics,
            model=model.name,
            version=version,
            precision=precision,
            on_loop_failure=lambda _: self._fail("the engine loop has failed"),
        )
        batcher = Batcher(
            model.engine,
            costs=BatchCosts(model.batch_s, overhead_s=BATCH_OVERHEAD_S),
            max_queue=self.settings.max_queue,
            online_budget_s=self.settings.online_budget_ms / 1e3,
            observer=reporter,
        )
        batcher.start()
        upscaler = Upscaler(
            batcher,
            model.bundle.manifest,
            self.metrics,
            max_admitted=self.settings.max_queue,
            max_pixels=self.settings.max_pixels,
        )
        headers = [
            (b"x-model", model.name.encode()),
            (b"x-model-version", version.encode()),
            (b"x-engine", model.engine.name.encode()),
            (b"x-precision", precision.encode()),
        ]
        self.serving = Serving(model, batcher, upscaler, headers)
        labels = (model.name, version, model.engine.name, precision, model.bundle.digest)
        self.metrics.model_info.labels(*labels).set(1)
        self.metrics.engine_up.set(1)
        self.metrics.admitted_tiles_limit.set(self.settings.max_queue)
        for priority in Priority:
            depth = functools.partial(batcher.depth_of, priority)
            self.metrics.queue_depth.labels(priority).set_function(depth)
        self.metrics.tiles_in_flight.set_function(lambda: batcher.in_flight)
        self.state = State.READY
        self.reason = "ready"

    def _fail(self, reason: str) -> None:
        """Turn both probes and ask the process to end, so that whoever watches restarts it."""
        self.state = State.FAILED
        self.reason = reason
        self._on_failure()

    async def _watch(self) -> None:
        """Measure the event loop's lag, and notice an engine that hangs."""
        while True:
            due_s = time.monotonic() + _WATCH_PERIOD_S
            await asyncio.sleep(_WATCH_PERIOD_S)
            self.metrics.event_loop_lag.set(max(0.0, time.monotonic() - due_s))
            busy_s = 0.0 if self.serving is None else self.serving.batcher.oldest_batch_s()
            if busy_s > self.settings.engine_timeout_s and self.state is not State.FAILED:
                self.metrics.engine_up.set(0)
                log.error("engine_hangs", seconds=round(busy_s, 1))
                self._fail(f"the engine has worked on one batch for {busy_s:.0f} s")
