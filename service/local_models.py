"""The models of `SEMSR_MODE=single`: engines and batchers in this process."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client.metrics_core import Metric

from service.batch_reporter import BatchReporter
from service.batcher import Batcher
from service.engines import Engine, load_engine
from service.errors import LoadFailed, UnknownModel
from service.lifecycle import Lifecycle, State
from service.loading import BATCH_OVERHEAD_S, EngineLoader, LoadedModel, load_model_in_thread
from service.metrics import Metrics
from service.scheduling.costs import BatchCosts
from service.scheduling.scheduler import Priority
from service.serving import Serving, ServingFactory
from service.settings import Settings

log = structlog.get_logger()

# Enough for an engine thread to notice that nothing is left to do.
_MIN_END_S = 0.5


@dataclass(frozen=True, eq=False)
class _Running:
    """One model's engine and batcher."""

    serving: Serving
    engine: Engine
    batcher: Batcher


class LocalModels:
    """A model host; see `service.lifecycle.ModelHost`."""

    def __init__(
        self, settings: Settings, metrics: Metrics, *, engine_loader: EngineLoader = load_engine
    ) -> None:
        """Prepare.

        Args:
            settings: The service's settings.
            metrics: Told of batches and queues.
            engine_loader: Loads an engine by name; tests give their own.
        """
        self._settings = settings
        self._metrics = metrics
        self._engine_loader = engine_loader
        self._factory = ServingFactory(settings, metrics)
        self._paths: dict[str, Path] = settings.model_paths()
        self._running: dict[str, _Running] = {}
        self._retiring: set[asyncio.Task[bool]] = set()
        self._changing = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None
        self._lifecycle: Lifecycle | None = None

    async def start(self, lifecycle: Lifecycle) -> None:
        """Begin to load; see `ModelHost.start`."""
        self._lifecycle = lifecycle
        self._starting = asyncio.get_running_loop().create_task(self._load_all(lifecycle))
        for priority in Priority:
            depth = functools.partial(self._depth, priority)
            self._metrics.queue_depth.labels(priority).set_function(depth)
        self._metrics.tiles_in_flight.set_function(
            lambda: sum(model.batcher.in_flight for model in self._running.values())
        )

    def busy_s(self) -> float:
        """See `ModelHost.busy_s`."""
        return max((m.batcher.oldest_batch_s() for m in self._running.values()), default=0.0)

    def collect(self) -> Iterable[Metric]:
        """See `ModelHost.collect`."""
        return self._metrics.registry.collect()

    async def load(self, name: str) -> None:
        """See `ModelHost.load`."""
        path = self._paths.get(name)
        if path is None:
            raise UnknownModel(
                f"the settings name no model {name}; they name {', '.join(self._paths)}"
            )
        async with self._changing:
            try:
                model = await load_model_in_thread(path, self._settings, self._engine_loader)
            except Exception as error:
                log.error("load_failed", model=name, error=str(error))  # noqa: TRY400
                raise LoadFailed(f"the model {name} cannot be served: {error}") from error
            before = self._running.get(name)
            self._serve(name, model)
        if before is not None:
            self._retire(before)

    async def unload(self, name: str) -> None:
        """See `ModelHost.unload`."""
        async with self._changing:
            self._published_in().withdraw(name)
            running = self._running.pop(name)
            self._metrics.engine_up.set(len(self._running))
        self._retire(running)
        log.info("unloaded", model=name)

    async def stop(self, remaining_s: Callable[[], float]) -> bool:
        """See `ModelHost.stop`."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        ends = [self._end(model, remaining_s) for model in self._running.values()]
        ended = await asyncio.gather(*ends, *self._retiring, return_exceptions=True)
        self._running.clear()
        self._factory.close()
        self._metrics.engine_up.set(0)
        return all(end is True for end in ended)

    async def _load_all(self, lifecycle: Lifecycle) -> None:
        paths, self._paths = self._paths, {}
        for given_name, path in paths.items():
            started_s = time.perf_counter()
            try:
                model = await load_model_in_thread(path, self._settings, self._engine_loader)
                if lifecycle.state is not State.STARTING:
                    model.engine.close()
                    break
                name = given_name or model.name
                self._paths[name] = path
                self._serve(name, model)
            except Exception as error:
                kind = type(error).__name__
                log.error("load_failed", bundle=str(path), error=str(error), kind=kind)  # noqa: TRY400
                lifecycle.fail(f"the model cannot be served: {error}")
                return
            log.info(
                "ready",
                model=name,
                bundle=str(path),
                engine=model.engine.name,
                seconds=round(time.perf_counter() - started_s, 2),
            )
        lifecycle.started()

    def _serve(self, name: str, model: LoadedModel) -> None:
        """Put a loaded model to work; runs on the event loop."""
        lifecycle, precision = self._published_in(), model.engine.precision
        reporter = BatchReporter(
            self._metrics,
            model=name,
            version=model.bundle.version,
            precision=precision,
            on_loop_failure=lambda _: lifecycle.fail("the engine loop has failed"),
        )
        batcher = Batcher(
            model.engine,
            costs=BatchCosts(model.batch_s, overhead_s=BATCH_OVERHEAD_S),
            max_queue=self._settings.max_queue,
            online_budget_s=self._settings.online_budget_ms / 1e3,
            observer=reporter,
        )
        batcher.start()
        serving = self._factory.make(
            name, model.bundle, engine=model.engine.name, precision=precision, runner=batcher
        )
        self._running[name] = _Running(serving, model.engine, batcher)
        self._metrics.engine_up.set(len(self._running))
        lifecycle.publish(serving)

    def _retire(self, running: _Running) -> None:
        """End a model that no new request reaches, when those that use it have their answers."""
        by_s = time.monotonic() + self._settings.shutdown_timeout_s

        async def retire() -> bool:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.shutdown_timeout_s):
                    await running.serving.upscaler.users.wait_gone()
            return await self._end(running, lambda: max(_MIN_END_S, by_s - time.monotonic()))

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _end(self, running: _Running, remaining_s: Callable[[], float]) -> bool:
        finished = await running.batcher.drain(remaining_s())
        running.batcher.close()
        ended = await running.batcher.join(remaining_s())
        if ended:
            running.engine.close()
        return finished and ended

    def _depth(self, priority: Priority) -> int:
        return sum(model.batcher.depth_of(priority) for model in self._running.values())

    def _published_in(self) -> Lifecycle:
        if self._lifecycle is None:
            raise RuntimeError("the host has not been started")
        return self._lifecycle
