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

from engines.protocol import Engine
from engines.registry import load_engine
from service.batching.batch_reporter import BatchReporter
from service.batching.batcher import Batcher
from service.batching.costs import BatchCosts
from service.ground.errors import LoadFailed, NothingKept, UnknownModel
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.hosting.gpu_metrics import start_gpu_metrics
from service.hosting.lifecycle import Change, Lifecycle, State
from service.hosting.loading import (
    BATCH_OVERHEAD_S,
    EngineLoader,
    LoadedModel,
    load_model_in_thread,
)
from service.hosting.self_test import start_self_test
from service.hosting.serving import Serving, ServingFactory
from service.hosting.versions import Versions
from service.settings import Settings

log = structlog.get_logger()

# Enough for an engine thread to notice that nothing is left to do.
_MIN_END_S = 0.5


@dataclass(frozen=True, eq=False)
class _Running:
    """One version of a model: its engine and batcher, and what tests them."""

    path: Path
    serving: Serving
    engine: Engine
    batcher: Batcher
    self_test: asyncio.Task[None] | None


class LocalModels:
    """A model host; see `service.hosting.lifecycle.ModelHost`."""

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
        self._versions = Versions[_Running](keep_s=settings.rollback_keep_s, retire=self._retire)
        self._retiring: set[asyncio.Task[bool]] = set()
        self._changing = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None
        self._lifecycle: Lifecycle | None = None

    async def start(self, lifecycle: Lifecycle) -> None:
        """Begin to load; see `ModelHost.start`."""
        self._lifecycle = lifecycle
        start_gpu_metrics(self._settings.device, self._metrics)
        self._starting = asyncio.get_running_loop().create_task(self._load_all(lifecycle))
        for priority in Priority:
            depth = functools.partial(self._depth, priority)
            self._metrics.queue_depth.labels(priority).set_function(depth)
        self._metrics.tiles_in_flight.set_function(
            lambda: sum(model.batcher.in_flight for model in self._versions.all())
        )

    def busy_s(self) -> float:
        """See `ModelHost.busy_s`."""
        return max((m.batcher.oldest_batch_s() for m in self._versions.all()), default=0.0)

    def collect(self) -> Iterable[Metric]:
        """See `ModelHost.collect`."""
        return self._metrics.registry.collect()

    async def load(self, name: str, bundle: Path | None = None) -> Change:
        """See `ModelHost.load`."""
        async with self._changing:
            path = bundle or self._paths.get(name)
            if name not in self._paths or path is None:
                raise UnknownModel(
                    f"the settings name no model {name}; they name {', '.join(self._paths)}"
                )
            model: LoadedModel | None = None
            try:
                model = await load_model_in_thread(path, self._settings, self._engine_loader)
                self._serve(name, model, path)
            except Exception as error:
                if model is not None:
                    model.engine.close()
                log.error("load_failed", model=name, error=str(error))  # noqa: TRY400
                raise LoadFailed(f"the model {name} cannot be served: {error}") from error
            return self._changed("loaded", name)

    async def roll_back(self, name: str) -> Change:
        """See `ModelHost.roll_back`."""
        async with self._changing:
            if name not in self._versions.served:
                raise UnknownModel(f"the model {name} is not served")
            if name not in self._versions.kept:
                raise NothingKept(
                    f"no earlier version of {name} is there: none was replaced, or it was let go "
                    "(SEMSR_ROLLBACK_KEEP_S)"
                )
            self._versions.roll_back(name)
            running = self._versions.served[name]
            self._paths[name] = running.path
            self._published_in().publish(running.serving)
            return self._changed("rolled_back", name)

    async def unload(self, name: str) -> None:
        """See `ModelHost.unload`."""
        async with self._changing:
            self._published_in().withdraw(name)
            self._versions.remove(name)
            self._metrics.engine_up.set(len(self._versions.served))
        log.info("unloaded", model=name)

    async def stop(self, remaining_s: Callable[[], float]) -> bool:
        """See `ModelHost.stop`."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        ends = [self._end(model, remaining_s) for model in self._versions.all()]
        ended = await asyncio.gather(*ends, *self._retiring, return_exceptions=True)
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
                self._serve(name, model, path)
            except Exception as error:
                if lifecycle.state is not State.STARTING:
                    break  # stopped meanwhile: nobody waits for the model
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

    def _serve(self, name: str, model: LoadedModel, path: Path) -> None:
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
        self_test = start_self_test(
            model,
            batcher,
            name=name,
            metrics=self._metrics,
            minutes=self._settings.self_test_minutes,
            on_result=functools.partial(_judge, batcher, name),
        )
        batcher.start()
        serving = self._factory.make(
            name, model.bundle, engine=model.engine.name, precision=precision, runner=batcher
        )
        self._versions.serve(name, _Running(path, serving, model.engine, batcher, self_test))
        self._paths[name] = path
        self._metrics.engine_up.set(len(self._versions.served))
        lifecycle.publish(serving)

    def _changed(self, event: str, name: str) -> Change:
        bundle, kept = self._versions.served[name].serving.bundle, self._versions.kept.get(name)
        change = Change(
            name,
            bundle.version,
            bundle.digest,
            None if kept is None else kept.serving.bundle.version,
        )
        log.info(event, model=name, version=change.version, kept=change.kept)
        return change

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
        if running.self_test is not None:
            running.self_test.cancel()
        finished = await running.batcher.drain(remaining_s())
        running.batcher.close()
        ended = await running.batcher.join(remaining_s())
        if ended:
            running.engine.close()
        return finished and ended

    def _depth(self, priority: Priority) -> int:
        return sum(model.batcher.depth_of(priority) for model in self._versions.all())

    def _published_in(self) -> Lifecycle:
        if self._lifecycle is None:
            raise RuntimeError("the host has not been started")
        return self._lifecycle


def _judge(batcher: Batcher, name: str, problem: str | None) -> None:
    """A wrong picture is worse than none: an engine that fails its self-test is given no tiles."""
    batcher.suspend(None if problem is None else f"the self-test of {name} fails: {problem}")
