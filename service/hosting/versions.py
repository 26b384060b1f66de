"""Decides which versions of the models are served, and which are kept for a rollback.

    load ──> start ──> serve ──> previous version kept for a while ──> retire

Changes run one at a time. Both model hosts follow this policy, and each starts and ends versions in
its own way: see `service.hosting.local_models` and `service.pool.pool_versions`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from service.ground.errors import LoadFailed, NothingKept, UnknownModel

log = structlog.get_logger()


@dataclass(frozen=True)
class Change:
    """Result of a load or a rollback.

    Attributes:
        name: Model name.
        version: Version that is served now.
        sha: Digest of its bundle.
        kept: Version that a rollback would bring back, or None.
    """

    name: str
    version: str
    sha: str
    kept: str | None


class Version(Protocol):
    """One loaded state of a model, ready to serve."""

    @property
    def path(self) -> Path:
        """Folder of its bundle."""
        ...

    @property
    def bundle_version(self) -> str:
        """Version of its bundle."""
        ...

    @property
    def digest(self) -> str:
        """Digest of its bundle."""
        ...


V = TypeVar("V", bound=Version)


class Versions(Generic[V]):
    """The versions of every model; use it on one event loop.

    Attributes:
        paths: Folder of the last bundle of each model, also of unloaded ones; the first is the
            default model.
        served: Served version by model name.
        kept: Previous version by model name, kept for a rollback.
    """

    def __init__(
        self,
        *,
        keep_s: float,
        start: Callable[[str, Path], Awaitable[V]],
        on_switch: Callable[[str], None],
        retire: Callable[[V], None],
        check_kept: Callable[[V], None] = lambda _: None,
    ) -> None:
        """Begin without models.

        Args:
            keep_s: Seconds for which the previous version is kept; 0 keeps none.
            start: Function that starts a version of a model from a bundle's folder.
            on_switch: Callback with the name of a model whose served version has changed.
            retire: Function that ends a version once its requests have been answered.
            check_kept: Check of a kept version before a rollback; raises LoadFailed.
        """
        self.paths: dict[str, Path] = {}
        self.served: dict[str, V] = {}
        self.kept: dict[str, V] = {}
        self._keep_s = keep_s
        self._start = start
        self._on_switch = on_switch
        self._retire = retire
        self._check_kept = check_kept
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._changing = asyncio.Lock()

    def all(self) -> list[V]:
        """List the served and the kept versions."""
        return [*self.served.values(), *self.kept.values()]

    def serve(self, name: str, version: V) -> None:
        """Serve a version, keep the previous one, and retire the version that was kept before."""
        previous = self.served.get(name)
        self.served[name] = version
        self.paths[name] = version.path
        if previous is not None:
            self.drop_kept(name)
            if self._keep_s:
                self.kept[name] = previous
                loop = asyncio.get_running_loop()
                self._timers[name] = loop.call_later(self._keep_s, self.drop_kept, name)
            else:
                self._retire(previous)
        self._on_switch(name)

    def drop_kept(self, name: str) -> None:
        """Retire the kept version of a model, if there is one."""
        version = self._take_kept(name)
        if version is not None:
            self._retire(version)

    async def load(self, name: str, bundle: Path | None = None) -> Change:
        """Start another version next to the served one, and serve it; see `ModelHost.load`."""
        async with self._changing:
            if name not in self.paths:
                raise UnknownModel(
                    f"the settings name no model {name}; they name {', '.join(self.paths)}"
                )
            try:
                version = await self._start(name, bundle or self.paths[name])
            except Exception as error:
                log.error("load_failed", model=name, error=str(error))  # noqa: TRY400
                raise LoadFailed(f"the model {name} cannot be served: {error}") from error
            self.serve(name, version)
            return self._changed("loaded", name)

    async def roll_back(self, name: str) -> Change:
        """Swap the kept version of a model with the served one; see `ModelHost.roll_back`."""
        async with self._changing:
            self._check_served(name)
            if name not in self.kept:
                raise NothingKept(
                    f"no earlier version of {name} is kept: none was replaced, or its time is over "
                    "(SEMSR_ROLLBACK_KEEP_S)"
                )
            self._check_kept(self.kept[name])
            version = self._take_kept(name)
            assert version is not None  # noqa: S101 (it was there above)
            self.serve(name, version)
            return self._changed("rolled_back", name)

    async def unload(self, name: str) -> None:
        """Retire the served and the kept version of a model; see `ModelHost.unload`."""
        async with self._changing:
            self._check_served(name)
            version = self.served.pop(name)
            self._on_switch(name)
            self.drop_kept(name)
            self._retire(version)
            log.info("unloaded", model=name)

    def _check_served(self, name: str) -> None:
        if name not in self.served:
            raise UnknownModel(f"the model {name} is not served")

    def _take_kept(self, name: str) -> V | None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        return self.kept.pop(name, None)

    def _changed(self, event: str, name: str) -> Change:
        version, kept = self.served[name], self.kept.get(name)
        change = Change(
            name,
            version.bundle_version,
            version.digest,
            None if kept is None else kept.bundle_version,
        )
        log.info(event, model=name, version=change.version, kept=change.kept)
        return change
