"""The models of `SEMSR_MODE=pool` as a front end sees them: engine processes elsewhere."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from export.bundle import Bundle, BundleError, load_bundle
from service.errors import LoadFailed, ServiceError, UnknownModel
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.pool.arena import Arena
from service.pool.messages import Hello
from service.pool.processes import Publisher, SupervisorLink, collect
from service.pool.remote import EngineLink, RemoteRunner, Slots
from service.serving import ServingFactory
from service.settings import Settings

log = structlog.get_logger()

_GREETING_S = 1.0


class _Generation:
    """One loading of one model: the engine processes that serve it."""

    def __init__(self, model: str, bundle: Path, number: int) -> None:
        self.model = model
        self.bundle = bundle
        self.number = number
        self.links: list[EngineLink] = []
        self.runner: RemoteRunner | None = None
        self.is_published = False
        self.task: asyncio.Task[None] | None = None


class PoolModels:
    """A model host; see `service.lifecycle.ModelHost`."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        arena: Arena,
        partition: int,
        snapshot: int,
        supervisor: str,
        name: str,
    ) -> None:
        """Prepare.

        Args:
            settings: The service's settings.
            metrics: Of this front end.
            arena: Where tiles are exchanged.
            partition: This front end's part of it.
            snapshot: Row of its metrics.
            supervisor: The supervisor's address.
            name: Name of this process.
        """
        self._settings = settings
        self._arena = arena
        self._slots = Slots(arena, partition)
        self._factory = ServingFactory(settings, metrics)
        self._publisher = Publisher(arena, snapshot, metrics.registry)
        self._address = supervisor
        self._name = name
        self._generations: dict[str, _Generation] = {}
        self._requests: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lifecycle: Lifecycle | None = None
        self._supervisor: SupervisorLink | None = None
        self._pool_started = False

    async def start(self, lifecycle: Lifecycle) -> None:
        """Connect to the supervisor, which says which engine processes there are.

        Waits a moment for engines that are there already: when a front end is started anew, clients
        wait for it in the kernel's queue, and need not be sent away.
        """
        self._lifecycle = lifecycle
        try:
            self._supervisor = SupervisorLink(
                self._address,
                self._name,
                on_message=self._receive,
                on_lost=lambda: lifecycle.fail("the supervisor is gone"),
            )
        except OSError as error:
            lifecycle.fail(f"the supervisor is gone: {error}")
            return
        self._keep(self._publisher.run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GREETING_S):
                await lifecycle.wait_loaded()

    def busy_s(self) -> float:
        """No engine runs here; the supervisor watches those that do."""
        return 0.0

    def collect(self) -> Iterable[Metric]:
        """See `ModelHost.collect`."""
        self._publisher.publish()
        return collect(self._arena)

    async def load(self, name: str) -> None:
        """See `ModelHost.load`."""
        await self._ask(load=name)

    async def unload(self, name: str) -> None:
        """See `ModelHost.unload`."""
        await self._ask(unload=name)

    async def stop(self, remaining_s: Callable[[], float]) -> bool:
        """See `ModelHost.stop`."""
        runners = [g.runner for g in self._generations.values() if g.runner is not None]
        finished = [await runner.drain(remaining_s()) for runner in runners]
        for runner in runners:
            runner.close()
        for task in self._tasks:
            task.cancel()
        self._publisher.publish()
        if self._supervisor is not None:
            self._supervisor.close()
        self._factory.close()
        return all(finished)

    def _receive(self, message: dict[str, Any]) -> None:
        if "models" in message:
            self._pool_started = message["started"]
            self._update(message["models"])
        if "answered" in message:
            future = self._requests.pop(message["answered"], None)
            if future is not None and not future.done():
                _settle(future, message.get("error"))

    def _update(self, models: list[dict[str, Any]]) -> None:
        """Follow the supervisor's list of models and their engine processes."""
        named = {model["name"] for model in models}
        for name in set(self._generations) - named:
            generation = self._generations.pop(name)
            if generation.is_published:
                self._serving_in().withdraw(name)
            self._keep(self._retire(generation))
        for model in models:
            current = self._generations.get(model["name"])
            if current is not None and current.number == model["generation"]:
                continue
            generation = _Generation(model["name"], Path(model["bundle"]), model["generation"])
            self._generations[generation.model] = generation
            generation.task = self._keep(self._open(generation, model["engines"], replaces=current))
        self._check_published()

    async def _open(
        self,
        generation: _Generation,
        engines: list[dict[str, Any]],
        *,
        replaces: _Generation | None,
    ) -> None:
        """Connect to a generation's engine processes, and serve it when the first one is ready."""
        greeted: asyncio.Queue[tuple[EngineLink, Hello]] = asyncio.Queue()
        generation.links = [
            EngineLink(
                engine["address"],
                engine["row"],
                self._arena,
                on_hello=lambda link, hello: greeted.put_nowait((link, hello)),
            )
            for engine in engines
        ]
        while True:
            link, hello = await greeted.get()
            if generation.runner is None:
                await self._publish(generation, hello)
                if replaces is not None:
                    self._keep(self._retire(replaces))
            if generation.runner is not None and link.is_up:
                generation.runner.add(link)
            self._check_published()

    async def _publish(self, generation: _Generation, hello: Hello) -> None:
        lifecycle, settings = self._serving_in(), self._settings
        try:
            bundle = await asyncio.to_thread(_load_same, generation.bundle, hello.digest)
        except BundleError as error:
            lifecycle.fail(f"the model cannot be served: {error}")
            return
        generation.runner = RemoteRunner(
            self._slots,
            model=generation.model,
            scale=bundle.manifest.scale,
            max_queue=settings.max_queue,
            online_budget_s=settings.online_budget_ms / 1e3,
        )
        serving = self._factory.make(
            generation.model,
            bundle,
            engine=hello.engine,
            precision=hello.precision,
            runner=generation.runner,
        )
        lifecycle.publish(serving)
        generation.is_published = True

    def _check_published(self) -> None:
        """Tell the supervisor that every model can be served here; it says when all can do so."""
        if not all(generation.is_published for generation in self._generations.values()):
            return
        if self._pool_started:
            self._serving_in().started()
        elif self._supervisor is not None:
            self._supervisor.tell(serving=True)

    async def _retire(self, generation: _Generation) -> None:
        """Leave a generation when what it has under way is done."""
        if generation.task is not None:
            generation.task.cancel()
        if generation.runner is not None:
            await generation.runner.drain(self._settings.shutdown_timeout_s)
            generation.runner.close()
        for link in generation.links:
            link.close()

    async def _ask(self, **command: object) -> None:
        """Ask the supervisor for something, and wait until it is done."""
        if self._supervisor is None:
            raise LoadFailed("the supervisor is gone")
        number = next(self._numbers)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests[number] = future
        self._supervisor.tell(request=number, **command)
        await future

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("front_end_failed", exc_info=task.exception())
            self._serving_in().fail(f"the front end failed: {task.exception()!r}")

    def _serving_in(self) -> Lifecycle:
        if self._lifecycle is None:
            raise RuntimeError("the host has not been started")
        return self._lifecycle


def _load_same(path: Path, digest: str) -> Bundle:
    """Load the bundle that an engine process serves.

    Raises:
        BundleError: It cannot be used, or has been replaced meanwhile.
    """
    bundle = load_bundle(path)
    if bundle.digest != digest:
        raise BundleError(
            f"{path} is not what the engine process serves: its digest is {bundle.digest[:12]}, "
            f"the engine's {digest[:12]}"
        )
    return bundle


def _settle(future: asyncio.Future[None], error: dict[str, str] | None) -> None:
    if error is None:
        future.set_result(None)
        return
    kinds: dict[str, type[ServiceError]] = {"unknown": UnknownModel, "failed": LoadFailed}
    future.set_exception(kinds[error["kind"]](error["text"]))
