"""The models of `SEMSR_MODE=pool` as a front end sees them; engine processes run them."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import structlog
from prometheus_client.metrics_core import Metric

from bundle_format.bundle import BundleError
from service.ground.errors import LoadFailed, NothingKept, ServiceError, UnknownModel
from service.ground.metrics import Metrics
from service.hosting.lifecycle import Lifecycle
from service.hosting.serving import ServingFactory
from service.hosting.versions import Change
from service.pool.arena import Arena
from service.pool.control import Answer, FrontEndState, Message, ModelList, Order
from service.pool.processes import Background, Publisher, SupervisorLink, collect
from service.pool.remote_version import RemoteVersion
from service.pool.slots import Slots
from service.settings import Settings

log = structlog.get_logger()

_GREETING_S = 1.0
_SIGN_PERIOD_S = 1.0
# Longer than any in the settings; an order must fit into a message.
_MAX_NAME = 256
# What a supervisor refuses an order with.
_REFUSALS = {error.code: error for error in (UnknownModel, LoadFailed, NothingKept)}


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
            metrics: Metrics of this front end.
            arena: Memory in which tiles are exchanged.
            partition: This front end's partition of it.
            snapshot: Row of the arena with its metrics.
            supervisor: Address of the supervisor.
            name: Name of this process.
        """
        self._settings = settings
        # The settings refuse one: each front end would need its own, or share one and its report.
        self.shadow = None
        self._arena = arena
        self._slots = Slots(arena, partition)
        self._factory = ServingFactory(settings, metrics)
        self._publisher = Publisher(arena, snapshot, metrics.registry)
        self._address = supervisor
        self._name = name
        self._models: ModelList | None = None
        # By id: the served versions, those being loaded, and those kept for a rollback.
        self._versions: dict[int, RemoteVersion] = {}
        self._answers: dict[int, asyncio.Future[Change | None]] = {}
        self._numbers = itertools.count(1)
        self._background = Background(self._fail_by_fault)
        self._lifecycle: Lifecycle | None = None
        self._supervisor: SupervisorLink | None = None

    async def start(self, lifecycle: Lifecycle) -> None:
        """Connect to the supervisor, which lists the engine processes.

        Waits at most a second until every model is served. When a front end is restarted, its
        clients wait in the kernel's queue, and this wait saves them a rejection.
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
        self._background.run(self._publisher.run())
        self._background.run(self._give_signs_of_life())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GREETING_S):
                await lifecycle.wait_loaded()

    def busy_s(self) -> float:
        """Return 0: the engines run in other processes, which the supervisor watches."""
        return 0.0

    def collect(self) -> Iterable[Metric]:
        """See `ModelHost.collect`."""
        self._publisher.publish()
        return collect(self._arena)

    async def load(self, name: str, bundle: Path | None = None) -> Change:
        """See `ModelHost.load`."""
        return _change(await self._ask("load", name, bundle))

    async def roll_back(self, name: str) -> Change:
        """See `ModelHost.roll_back`."""
        return _change(await self._ask("roll_back", name))

    async def unload(self, name: str) -> None:
        """See `ModelHost.unload`."""
        await self._ask("unload", name)

    async def stop(self, remaining_s: Callable[[], float]) -> bool:
        """See `ModelHost.stop`."""
        runners = [v.runner for v in self._versions.values() if v.runner is not None]
        finished = [await runner.drain(remaining_s()) for runner in runners]
        for runner in runners:
            runner.close()
        self._background.cancel()
        self._publisher.publish()
        if self._supervisor is not None:
            self._supervisor.close()
        self._factory.close()
        return all(finished)

    def _lose_supervisor(self) -> None:
        """End this process; only tiles that an engine process holds are still answered."""
        for version in self._versions.values():
            if version.runner is not None:
                version.runner.abandon()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(LoadFailed("the supervisor is gone"))
        self._running_in().fail("the supervisor is gone")

    def _receive(self, message: Message) -> None:
        match message:
            case ModelList():
                self._models = message
                self._running_in().set_default(message.default)
                self._update(message)
            case Answer():
                future = self._answers.pop(message.number, None)
                if future is not None and not future.done():
                    _settle(future, message)
            case _:
                raise ValueError(f"the supervisor sent a {type(message).__name__}")

    def _update(self, models: ModelList) -> None:
        """Follow the supervisor's list of models and their engine processes."""
        lifecycle = self._running_in()
        for name in set(lifecycle.models) - {entry.model for entry in models.served}:
            lifecycle.withdraw(name)
        for entry in [*models.served, *models.others]:
            if entry.version_id not in self._versions:
                version = RemoteVersion(
                    entry,
                    self._settings,
                    self._slots,
                    self._factory,
                    on_held=self._tell_state,
                    on_engine=self._follow,
                )
                self._versions[entry.version_id] = version
                version.task = self._background.run(self._run(version))
        self._follow()

    def _follow(self) -> None:
        """Serve the listed versions that are ready, and close the versions not listed."""
        lifecycle, models = self._running_in(), self._models
        if models is None:
            return
        for entry in models.served:
            serving = self._versions[entry.version_id].serving
            if serving is not None and lifecycle.models.get(entry.model) is not serving:
                lifecycle.publish(serving)
        listed = {entry.version_id for entry in [*models.served, *models.others]}
        for version_id, version in list(self._versions.items()):
            # One whose successor is not ready yet goes on.
            if version_id not in listed and not self._is_served(version):
                del self._versions[version_id]
                self._background.run(version.close(self._settings.shutdown_timeout_s))
        if models.is_started and self._serves_all():
            lifecycle.started()
        self._tell_state()

    def _serves_all(self) -> bool:
        entries = [] if self._models is None else self._models.served
        return all(self._is_served(self._versions[entry.version_id]) for entry in entries)

    def _is_served(self, version: RemoteVersion) -> bool:
        served = self._running_in().models.get(version.entry.model)
        return served is not None and served is version.serving

    async def _run(self, version: RemoteVersion) -> None:
        try:
            await version.run()
        except BundleError as error:
            served = [] if self._models is None else self._models.served
            if version.entry in served:
                self._running_in().fail(f"the model cannot be served: {error}")
            else:
                log.error(  # noqa: TRY400 (the reason says it all)
                    "version_not_held", model=version.entry.model, error=str(error)
                )

    def _tell_state(self) -> None:
        if self._supervisor is not None and self._models is not None:
            held = [number for number, one in self._versions.items() if one.serving is not None]
            self._supervisor.send(FrontEndState(held, serves=self._serves_all()))

    async def _give_signs_of_life(self) -> None:
        """Send this front end's state at intervals; the supervisor kills a silent process."""
        while True:
            self._tell_state()
            await asyncio.sleep(_SIGN_PERIOD_S)

    async def _ask(
        self, verb: Literal["load", "roll_back", "unload"], name: str, bundle: Path | None = None
    ) -> Change | None:
        """Send an order to the supervisor, and wait for its answer."""
        if len(name) > _MAX_NAME:
            raise UnknownModel(f"no model has a name of {len(name)} characters")
        if self._supervisor is None:
            raise LoadFailed("the supervisor is gone")
        order = Order(next(self._numbers), verb, name, bundle)
        future: asyncio.Future[Change | None] = asyncio.get_running_loop().create_future()
        self._answers[order.number] = future
        self._supervisor.send(order)
        return await future

    def _fail_by_fault(self, error: BaseException) -> None:
        log.error("front_end_failed", exc_info=error)
        self._running_in().fail(f"the front end failed: {error!r}")

    def _running_in(self) -> Lifecycle:
        if self._lifecycle is None:
            raise RuntimeError("the host has not been started")
        return self._lifecycle


def _settle(future: asyncio.Future[Change | None], answer: Answer) -> None:
    if answer.error_code is None:
        future.set_result(answer.change)
        return
    refusal: type[ServiceError] = _REFUSALS[answer.error_code]
    future.set_exception(refusal(answer.detail))


def _change(change: Change | None) -> Change:
    if change is None:
        raise LoadFailed("the supervisor does not say what is served")
    return change
