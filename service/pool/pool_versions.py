"""The supervisor's part of a change: which versions of the models a pool serves, keeps and loads.

A switch to another version has two steps. First, front ends get ready to serve it: they connect to
its engine processes and read its bundle. When all front ends hold the version, one message makes
them serve it. A rollback needs the second step only.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from bundle_format.bundle import load_bundle
from service.ground.errors import LoadFailed, ServiceError
from service.hosting.versions import Versions
from service.pool.children import LoadError
from service.pool.control import Answer, ModelList, Order
from service.pool.engine_processes import EngineProcesses, PoolVersion

log = structlog.get_logger()

# Time limit for front ends to get ready.
_TAKE_OVER_S = 30.0


class PoolVersions:
    """Carries out orders of an admin, one at a time; use it on one event loop."""

    def __init__(
        self,
        engines: EngineProcesses,
        *,
        keep_s: float,
        tell_fronts: Callable[[], None],
        retire: Callable[[PoolVersion], None],
    ) -> None:
        """Begin without models.

        Args:
            engines: Engine processes of all versions.
            keep_s: Seconds for which the previous version is kept.
            tell_fronts: Function that sends `model_list` to every front end.
            retire: Function that ends a version's engine processes once no front end uses them.
        """
        self._engines = engines
        self._tell_fronts = tell_fronts
        self._retire_version = retire
        self._versions = Versions[PoolVersion](
            keep_s=keep_s,
            start=self._start,
            on_switch=lambda _: tell_fronts(),
            retire=self._retire,
            check_kept=self._check_kept,
        )
        # Versions that are being loaded.
        self._coming: set[PoolVersion] = set()
        # Ids of the versions that each connected front end can serve at once.
        self._held: dict[str, set[int]] = {}
        self._held_changed = asyncio.Event()

    def begin(self, version: PoolVersion) -> None:
        """Serve the first version of a model; front ends do so as soon as it is ready."""
        self._versions.serve(version.name, version)

    def is_served(self, version: PoolVersion) -> bool:
        """Whether this version is the served one."""
        return self._versions.served.get(version.name) is version

    def lose(self, version: PoolVersion, reason: str) -> None:
        """Drop a kept version whose engine processes cannot be kept running."""
        if self._versions.kept.get(version.name) is version:
            log.error("kept_version_lost", model=version.name, error=reason)
            self._versions.drop_kept(version.name)

    def model_list(self, *, is_started: bool) -> ModelList:
        """Return the list of versions that front ends serve or hold ready."""
        others = [*self._versions.kept.values(), *self._coming]
        return ModelList(
            served=[version.entry for version in self._versions.served.values()],
            others=[version.entry for version in others],
            default=next(iter(self._versions.paths)),
            is_started=is_started,
        )

    def hear_held(self, front: str, version_ids: Iterable[int]) -> None:
        """Store the ids of the versions that a front end can serve without delay."""
        self._held[front] = set(version_ids)
        self._held_changed.set()

    def forget_front(self, front: str) -> None:
        """Remove a front end that has disconnected; no switch waits for it."""
        self._held.pop(front, None)
        self._held_changed.set()

    async def obey(self, order: Order) -> Answer:
        """Carry out an order; returns the answer for the front end that sent it."""
        try:
            match order.verb:
                case "load":
                    change = await self._versions.load(order.model, order.bundle)
                case "roll_back":
                    change = await self._versions.roll_back(order.model)
                case "unload":
                    change = await self._versions.unload(order.model)
        except ServiceError as error:
            return Answer(order.number, error_code=error.code, detail=error.detail)
        return Answer(order.number, change)

    async def _start(self, name: str, path: Path) -> PoolVersion:
        """Start engine processes, and wait until every front end could serve them.

        Raises:
            BundleError: The bundle cannot be used.
            LoadError: There is no room, or an engine process or a front end did not become ready.
            OSError: The system has too few file descriptors for their sockets.
        """
        self._engines.check_room(await asyncio.to_thread(load_bundle, path))
        version = self._engines.start(name, path)
        try:
            await asyncio.gather(*(engine.child.ready for engine in version.engines))
            self._coming.add(version)
            self._tell_fronts()
            await self._wait_held(version)
        except BaseException:
            self._coming.discard(version)
            self._retire(version)
            raise
        self._coming.discard(version)
        return version

    async def _wait_held(self, version: PoolVersion) -> None:
        """Wait until every connected front end holds a version, so that all can switch at once.

        Raises:
            LoadError: One did not get ready, or an engine process has ended in the meantime.
        """
        try:
            async with asyncio.timeout(_TAKE_OVER_S):
                while self._not_holding(version):
                    self._held_changed.clear()
                    await self._held_changed.wait()
        except TimeoutError:
            late = ", ".join(self._not_holding(version))
            raise LoadError(f"{late} did not get ready for it in {_TAKE_OVER_S:g} s") from None
        if not version.is_ready:
            raise LoadError("its engine has ended again; the log says why")

    def _not_holding(self, version: PoolVersion) -> list[str]:
        return [name for name, held in self._held.items() if version.version_id not in held]

    def _check_kept(self, version: PoolVersion) -> None:
        """Check that a rollback takes effect at once.

        Raises:
            LoadFailed: A process has been restarted and is not ready for the kept version.
        """
        without = self._not_holding(version)
        if without or not version.is_ready:
            raise LoadFailed(
                f"the previous version of {version.name} cannot be served now: "
                f"{', '.join(without) or 'its engine'} was restarted and is not ready for it; "
                f"retry, or load {version.path} if it still holds that version"
            )

    def _retire(self, version: PoolVersion) -> None:
        """Send the list without a version, so that front ends leave it, and end its processes."""
        self._tell_fronts()
        self._retire_version(version)
