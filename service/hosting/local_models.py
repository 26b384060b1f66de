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

from engines.registry import load_engine
from service.batching.batcher import Batcher
from service.batching.tile_runner import TileRunner
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.hosting.gpu_metrics import start_gpu_metrics
from service.hosting.lifecycle import MIN_STOP_S, Lifecycle, State
from service.hosting.loading import EngineLoader, LoadedModel, load_model_in_thread
from service.hosting.serving import Serving, ServingFactory
from service.hosting.versions import Change, Versions
from service.hosting.working_model import WorkingModel
from service.settings import Settings
from service.shadow.shadow import Shadow

log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class LocalVersion:
    """A version of a model in this process; see `service.hosting.versions.Version`."""

    path: Path
    serving: Serving
    working: WorkingModel

    @property
    def bundle_version(self) -> str:
        """Version of its bundle."""
        return self.serving.bundle.version

    @property
    def digest(self) -> str:
        """Digest of its bundle."""
        return self.serving.bundle.digest

    @property
    def batcher(self) -> Batcher:
        """Runner of its tiles."""
        return self.working.batcher

    async def end(self, remaining_s: Callable[[], float]) -> bool:
        """Finish its tiles and close its engine; returns whether both ended in time."""
        finished = await self.working.drain(remaining_s())
        ended = await self.working.close(remaining_s())
        return finished and ended


class LocalModels:
    """A model host; see `service.hosting.lifecycle.ModelHost`.

    Attributes:
        shadow: Model that sees a share of the tiles, where the settings name one.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, *, engine_loader: EngineLoader = load_engine
    ) -> None:
        """Prepare.

        Args:
            settings: The service's settings.
            metrics: Metrics of batches and queues.
            engine_loader: Function that loads an engine by name.
        """
        self._settings = settings
        self._metrics = metrics
        self._engine_loader = engine_loader
        self._factory = ServingFactory(settings, metrics)
        self.shadow = None if settings.shadow_bundle is None else Shadow(settings, metrics)
        self._versions = Versions[LocalVersion](
            keep_s=settings.rollback_keep_s,
            start=self._start_version,
            on_switch=self._switch,
            retire=self._retire,
        )
        self._retiring: set[asyncio.Task[bool]] = set()
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
            lambda: sum(version.batcher.in_flight for version in self._versions.all())
        )

    def busy_s(self) -> float:
        """See `ModelHost.busy_s`."""
        return max((v.batcher.oldest_batch_s() for v in self._versions.all()), default=0.0)

    def collect(self) -> Iterable[Metric]:
        """See `ModelHost.collect`."""
        return self._metrics.registry.collect()

    async def load(self, name: str, bundle: Path | None = None) -> Change:
        """See `ModelHost.load`."""
        return await self._versions.load(name, bundle)

    async def roll_back(self, name: str) -> Change:
        """See `ModelHost.roll_back`."""
        return await self._versions.roll_back(name)

    async def unload(self, name: str) -> None:
        """See `ModelHost.unload`."""
        await self._versions.unload(name)

    async def stop(self, remaining_s: Callable[[], float]) -> bool:
        """See `ModelHost.stop`."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self.shadow is not None:
            await self.shadow.stop(MIN_STOP_S)
        ends = [version.end(remaining_s) for version in self._versions.all()]
        ended = await asyncio.gather(*ends, *self._retiring, return_exceptions=True)
        self._factory.close()
        self._metrics.engine_up.set(0)
        return all(end is True for end in ended)

    async def _load_all(self, lifecycle: Lifecycle) -> None:
        for given_name, path in self._settings.model_paths().items():
            started_s = time.perf_counter()
            try:
                model = await load_model_in_thread(path, self._settings, self._engine_loader)
                if lifecycle.state is not State.STARTING:
                    model.engine.close()
                    break
                name = given_name or model.name
                self._versions.serve(name, self._put_to_work(name, model, path))
            except Exception as error:
                if lifecycle.state is not State.STARTING:
                    break  # stopped in the meantime: no client waits for the model
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
        if self.shadow is not None and lifecycle.state is State.READY:
            self._start_shadow(self.shadow)

    def _start_shadow(self, shadow: Shadow) -> None:
        """Start the shadow last: it must not disturb how the served engines are measured."""
        served = self._versions.served[
            self._settings.shadow_model or next(iter(self._versions.served))
        ]
        engine = served.working.loaded.engine
        shadow.start(engine.name, engine.precision)

    async def _start_version(self, name: str, path: Path) -> LocalVersion:
        model = await load_model_in_thread(path, self._settings, self._engine_loader)
        try:
            return self._put_to_work(name, model, path)
        except Exception:
            model.engine.close()
            raise

    def _put_to_work(self, name: str, model: LoadedModel, path: Path) -> LocalVersion:
        """Start the batcher and the self-test of a loaded model; runs on the event loop."""
        lifecycle = self._running_in()
        working = WorkingModel(
            model,
            self._settings,
            self._metrics,
            name=name,
            on_failure=lambda: lifecycle.fail("the engine loop has failed"),
            on_self_test=lambda problem: _judge(working.batcher, name, problem),
        )
        runner: TileRunner = working.batcher
        if self.shadow is not None:
            runner = self.shadow.watch(name, model.bundle, runner)
        serving = self._factory.make(
            name,
            model.bundle,
            engine=model.engine.name,
            precision=model.engine.precision,
            runner=runner,
        )
        return LocalVersion(path, serving, working)

    def _switch(self, name: str) -> None:
        """Publish the served version of a model, or withdraw an unloaded model."""
        version = self._versions.served.get(name)
        if version is None:
            self._running_in().withdraw(name)
        else:
            self._running_in().publish(version.serving)
        self._metrics.engine_up.set(len(self._versions.served))

    def _retire(self, version: LocalVersion) -> None:
        """End a version that no new request reaches, once its requests have been answered."""
        by_s = time.monotonic() + self._settings.shutdown_timeout_s

        async def retire() -> bool:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.shutdown_timeout_s):
                    await version.serving.upscaler.users.wait_gone()
            return await version.end(lambda: max(MIN_STOP_S, by_s - time.monotonic()))

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _depth(self, priority: Priority) -> int:
        return sum(version.batcher.depth_of(priority) for version in self._versions.all())

    def _running_in(self) -> Lifecycle:
        if self._lifecycle is None:
            raise RuntimeError("the host has not been started")
        return self._lifecycle


def _judge(batcher: Batcher, name: str, problem: str | None) -> None:
    """Suspend an engine whose self-test failed, and resume it once a self-test passes."""
    batcher.suspend(None if problem is None else f"the self-test of {name} fails: {problem}")
