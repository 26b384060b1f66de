"""Starting, ready, draining: what state the service is in, and the parts that live through it.

    starting ──load, golden tile, warm-up──> ready ──SIGTERM──> draining ──> stopped
        └──> failed                            └──engine loop dies──> failed

Loading runs in the background, so that `/livez` answers meanwhile and `/readyz` says why not yet.
"""

import asyncio
import enum
import time
from collections.abc import Callable

import structlog

from export.bundle import Bundle, load_bundle
from service.batch_reporter import BatchReporter
from service.batcher import Batcher
from service.engines import Engine, EngineError, EngineOptions, load_engine
from service.engines.auto import choose_engine
from service.engines.cpu import available_cpus
from service.engines.golden import verify_golden, warm_up
from service.errors import NotReady
from service.metrics import Metrics
from service.settings import Settings
from service.upscaler import Upscaler

log = structlog.get_logger()

_LAG_PERIOD_S = 0.5


class State(enum.StrEnum):
    """Where the service is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Lifecycle:
    """Owns the bundle, the engine, the batcher and the upscaler of one app."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        engine_loader: Callable[[str, Bundle, EngineOptions], Engine] = load_engine,
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
        self.bundle: Bundle | None = None
        self.engine: Engine | None = None
        self._batcher: Batcher | None = None
        self._upscaler: Upscaler | None = None
        self._engine_loader = engine_loader
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[None]] = set()
        self._model_headers: list[tuple[bytes, bytes]] = []
        self._loaded = asyncio.Event()
        self._failed = asyncio.Event()

    def start(self) -> None:
        """Begin to load; call on the event loop."""
        for work in (self._load(), self._watch_loop_lag()):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def wait_loaded(self) -> None:
        """Wait until loading has ended, well or not."""
        await self._loaded.wait()

    async def wait_failed(self) -> None:
        """Wait until the service can no longer serve."""
        await self._failed.wait()

    @property
    def upscaler(self) -> Upscaler:
        """What serves tiles.

        Raises:
            NotReady: Nothing is loaded, or the engine loop has failed.
        """
        if self._upscaler is None or self.state is State.FAILED:
            raise NotReady(self.reason, retry_after_s=1.0)
        return self._upscaler

    @property
    def has_failed(self) -> bool:
        """Whether the service ended because it could not, or can no longer, serve."""
        return self.state is State.FAILED

    def common_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that every answer carries now."""
        if self.state is State.DRAINING:
            return [*self._model_headers, (b"connection", b"close")]
        return self._model_headers

    def begin_drain(self) -> None:
        """Turn `/readyz` to 503; requests are still served."""
        if self.state is State.READY:
            self.state = State.DRAINING
            self.reason = "the service is draining"
            log.info("draining", drain_s=self.settings.drain_s)

    async def stop(self) -> None:
        """Finish what is under way and free the engine."""
        self.begin_drain()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._batcher is not None:
            finished = await self._batcher.drain(self.settings.shutdown_timeout_s)
            self._batcher.close()
            ended = await self._batcher.join(self.settings.shutdown_timeout_s)
            if ended and self.engine is not None:
                self.engine.close()
            log.info("stopped", finished=finished and ended)
        if self._upscaler is not None:
            self._upscaler.close()
        self.metrics.engine_up.set(0)

    async def _load(self) -> None:
        started_s = time.perf_counter()
        try:
            await asyncio.to_thread(self._load_engine)
            self._serve()
        except Exception as error:
            log.error("load_failed", error=str(error), kind=type(error).__name__)  # noqa: TRY400
            self._fail(f"the model cannot be served: {error}")
        else:
            log.info(
                "ready",
                bundle=str(self.settings.bundle),
                engine=self.engine.name if self.engine else None,
                seconds=round(time.perf_counter() - started_s, 2),
            )
        finally:
            self._loaded.set()

    def _load_engine(self) -> None:
        """Load, check and warm the engine; runs in a thread."""
        settings = self.settings
        bundle = load_bundle(settings.bundle)
        options = EngineOptions(
            precision=settings.precision or bundle.manifest.precision,
            threads=settings.threads or available_cpus(),
        )
        name: str = settings.engine
        if name == "auto":
            name, speeds = choose_engine(bundle, options, cache_dir=settings.cache_dir)
            log.info("engine_chosen", engine=name, tiles_per_s=speeds)
        if name != "identity" and options.precision not in bundle.manifest.graphs:
            raise EngineError(
                f"{bundle.path} has no {options.precision} graph; it has "
                f"{', '.join(sorted(bundle.manifest.graphs))}"
            )
        engine = self._engine_loader(name, bundle, options)
        verify_golden(engine, bundle)
        warm_up(engine, bundle, max_batch_size=self._max_batch_size(bundle))
        self.bundle = bundle
        self.engine = engine

    def _serve(self) -> None:
        """Put the loaded engine to work; runs on the event loop."""
        if self.bundle is None or self.engine is None:
            raise EngineError("no engine was loaded")
        manifest, engine = self.bundle.manifest, self.engine
        model = "identity" if engine.name == "identity" else manifest.name
        self._batcher = Batcher(
            engine,
            max_batch_size=self._max_batch_size(self.bundle),
            max_queue=self.settings.max_queue,
            observer=BatchReporter(
                self.metrics,
                model=model,
                version=self.bundle.version,
                precision=engine.precision,
                on_loop_failure=lambda _: self._fail("the engine loop has failed"),
            ),
        )
        self._batcher.start()
        self._upscaler = Upscaler(
            self._batcher,
            manifest,
            self.metrics,
            max_admitted=self.settings.max_queue,
            max_pixels=self.settings.max_pixels,
        )
        self._model_headers = [
            (b"x-model", model.encode()),
            (b"x-model-version", self.bundle.version.encode()),
            (b"x-engine", engine.name.encode()),
            (b"x-precision", engine.precision.encode()),
        ]
        self.metrics.model_info.labels(
            model, self.bundle.version, engine.name, engine.precision, self.bundle.digest
        ).set(1)
        self.metrics.engine_up.set(1)
        self.metrics.queue_depth.labels("online").set_function(lambda: self._depth())
        self.metrics.tiles_in_flight.set_function(lambda: self._in_flight())
        self.state = State.READY
        self.reason = "ready"

    def _max_batch_size(self, bundle: Bundle) -> int:
        return self.settings.max_batch_size or bundle.manifest.max_batch_size

    def _depth(self) -> int:
        return self._batcher.depth if self._batcher else 0

    def _in_flight(self) -> int:
        return self._batcher.in_flight if self._batcher else 0

    def _fail(self, reason: str) -> None:
        """Turn both probes and ask the process to end, so that whoever watches restarts it."""
        self.state = State.FAILED
        self.reason = reason
        self._failed.set()
        self._on_failure()

    async def _watch_loop_lag(self) -> None:
        while True:
            due_s = time.monotonic() + _LAG_PERIOD_S
            await asyncio.sleep(_LAG_PERIOD_S)
            self.metrics.event_loop_lag.set(max(0.0, time.monotonic() - due_s))
