"""The models of `SEMSR_MODE=pool` as a front end sees them: engine processes elsewhere."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from bundle_format.bundle import Bundle, BundleError, load_bundle
from service.ground.errors import LoadFailed, NothingKept, ServiceError, UnknownModel
from service.ground.metrics import Metrics
from service.hosting.lifecycle import Change, Lifecycle
from service.hosting.serving import Serving, ServingFactory
from service.pool.arena import Arena
from service.pool.messages import Hello
from service.pool.processes import Publisher, SupervisorLink, collect
from service.pool.remote import EngineLink, RemoteRunner, Slots
from service.settings import Settings

log = structlog.get_logger()

_GREETING_S = 1.0
_SIGN_PERIOD_S = 1.0
# Longer than any in the settings; what is asked for must fit into a message.
_MAX_NAME = 256


class _Generation:
    """One loading of one model: the engine processes that run it."""

    def __init__(self, model: str, bundle: Path, number: int) -> None:
        self.model = model
        self.bundle = bundle
        self.number = number
        self.links: list[EngineLink] = []
        self.runner: RemoteRunner | None = None
        self.serving: Serving | None = None
        self.task: asyncio.Task[None] | None = None


class PoolModels:
    """A model host; see `service.hosting.lifecycle.ModelHost`."""

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
        # By number: those that are served, those to come, and those kept for a rollback.
        self._generations: dict[int, _Generation] = {}
        self._wanted: dict[str, int] = {}
        self._listed: set[int] = set()
        self._requests: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
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
                on_lost=self._lose_supervisor,
            )
        except OSError as error:
            lifecycle.fail(f"the supervisor is gone: {error}")
            return
        self._keep(self._publisher.run())
        self._keep(self._give_signs_of_life(self._supervisor))
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

    async def load(self, name: str, bundle: Path | None = None) -> Change:
        """See `ModelHost.load`."""
        _check_name(name)
        return _change(await self._ask(load=name, bundle=None if bundle is None else str(bundle)))

    async def roll_back(self, name: str) -> Change:
        """See `ModelHost.roll_back`."""
        _check_name(name)
        return _change(await self._ask(roll_back=name))

    async def unload(self, name: str) -> None:
        """See `ModelHost.unload`."""
        _check_name(name)
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

    def _lose_supervisor(self) -> None:
        """Come to an end: what the engines still have is answered, the rest is told at once."""
        for generation in self._generations.values():
            if generation.runner is not None:
                generation.runner.abandon()
        for future in self._requests.values():
            if not future.done():
                future.set_exception(LoadFailed("the supervisor is gone"))
        self._serving_in().fail("the supervisor is gone")

    def _receive(self, message: dict[str, Any]) -> None:
        if "models" in message:
            self._pool_started = message["started"]
            self._serving_in().set_default(message["default"])
            self._update(message["models"], message["others"])
        if "answered" in message:
            future = self._requests.pop(message["answered"], None)
            if future is not None and not future.done():
                _settle(future, message)

    def _update(self, models: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
        """Follow the supervisor's list of models and their engine processes.

        Args:
            models: To be served.
            others: To be ready for: new versions, and those before, kept for a rollback.
        """
        self._wanted = {model["name"]: model["generation"] for model in models}
        for name in set(self._serving_in().models) - set(self._wanted):
            self._serving_in().withdraw(name)
        self._listed = {entry["generation"] for entry in [*models, *others]}
        for entry in [*models, *others]:
            number = entry["generation"]
            if number not in self._generations:
                generation = _Generation(entry["name"], Path(entry["bundle"]), number)
                self._generations[number] = generation
                generation.task = self._keep(self._open(generation, entry["engines"]))
        self._follow()

    def _follow(self) -> None:
        """Serve what is wanted, as soon as it is ready, and leave what is wanted no longer."""
        lifecycle = self._serving_in()
        for name, number in self._wanted.items():
            serving = self._generations[number].serving
            if serving is not None and lifecycle.models.get(name) is not serving:
                lifecycle.publish(serving)
        for generation in list(self._generations.values()):
            # One whose successor is not ready yet goes on.
            if generation.number not in self._listed and not self._is_served(generation):
                del self._generations[generation.number]
                self._keep(self._retire(generation))
        self._check_published()

    def _is_served(self, generation: _Generation) -> bool:
        served = self._serving_in().models.get(generation.model)
        return served is not None and served is generation.serving

    async def _open(self, generation: _Generation, engines: list[dict[str, Any]]) -> None:
        """Connect to a generation's engine processes; it can be served when the first is ready."""
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
                try:
                    bundle = await asyncio.to_thread(_load_same, generation.bundle, hello.digest)
                except BundleError as error:
                    self._cannot_serve(generation, error)
                    return
                self._prepare(generation, bundle, hello)
            if generation.runner is not None and link.is_up:
                generation.runner.add(link)
            self._follow()

    def _cannot_serve(self, generation: _Generation, error: BundleError) -> None:
        if generation.number in self._wanted.values():
            self._serving_in().fail(f"the model cannot be served: {error}")
        else:
            log.error("version_not_held", model=generation.model, error=str(error))

    def _prepare(self, generation: _Generation, bundle: Bundle, hello: Hello) -> None:
        """Put together what serves a generation, and tell the supervisor that it could."""
        generation.runner = RemoteRunner(
            self._slots,
            model=generation.model,
            scale=bundle.manifest.scale,
            max_queue=self._settings.max_queue,
            online_budget_s=self._settings.online_budget_ms / 1e3,
        )
        generation.serving = self._factory.make(
            generation.model,
            bundle,
            engine=hello.engine,
            precision=hello.precision,
            runner=generation.runner,
        )
        if self._supervisor is not None:
            held = [g.number for g in self._generations.values() if g.serving is not None]
            self._supervisor.tell(holds=held)

    def _check_published(self) -> None:
        """Tell the supervisor that every model can be served here; it says when all can do so."""
        if not all(self._is_served(self._generations[n]) for n in self._wanted.values()):
            return
        if self._pool_started:
            self._serving_in().started()
        elif self._supervisor is not None:
            self._supervisor.tell(serving=True)

    async def _retire(self, generation: _Generation) -> None:
        """Leave a generation when nobody uses it any more."""
        if generation.task is not None:
            generation.task.cancel()
        if generation.runner is not None and generation.serving is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.shutdown_timeout_s):
                    await generation.serving.upscaler.users.wait_gone()
                    await generation.runner.drain(self._settings.shutdown_timeout_s)
            generation.runner.close()
        for link in generation.links:
            link.close()

    async def _give_signs_of_life(self, supervisor: SupervisorLink) -> None:
        """Keep the supervisor from taking this process for one that hangs."""
        while True:
            supervisor.tell(alive=True)
            await asyncio.sleep(_SIGN_PERIOD_S)

    async def _ask(self, **command: object) -> dict[str, Any] | None:
        """Ask the supervisor for something, and wait until it is done."""
        if self._supervisor is None:
            raise LoadFailed("the supervisor is gone")
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._requests[number] = future
        self._supervisor.tell(request=number, **command)
        return await future

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


def _check_name(name: str) -> None:
    if len(name) > _MAX_NAME:
        raise UnknownModel(f"no model has a name of {len(name)} characters")


def _settle(future: asyncio.Future[dict[str, Any] | None], message: dict[str, Any]) -> None:
    error: dict[str, str] | None = message["error"]
    if error is None:
        future.set_result(message["change"])
        return
    kinds: dict[str, type[ServiceError]] = {
        "unknown": UnknownModel,
        "failed": LoadFailed,
        "nothing-kept": NothingKept,
    }
    future.set_exception(kinds[error["kind"]](error["text"]))


def _change(fields: dict[str, Any] | None) -> Change:
    if fields is None:
        raise LoadFailed("the supervisor does not say what is served")
    return Change(**fields)
