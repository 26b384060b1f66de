"""Which versions of the models a pool serves, keeps and gets ready; the supervisor's part of it.

A switch has two steps. Front ends first get ready for a version: they read its bundle and greet its
engine processes. When all of them say so, one message lets them serve it. Going back to a version
that is kept is the second step alone.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structlog

from bundle_format.bundle import Bundle, BundleError, load_bundle
from service.hosting.versions import Versions
from service.pool.children import LoadError, Model

log = structlog.get_logger()

# For front ends to get ready.
_TAKE_OVER_S = 30.0


class NothingKeptError(Exception):
    """No earlier version of a model is there to go back to."""


class PoolVersions:
    """Does what an admin orders, one order after the other; use it on one event loop.

    Attributes:
        paths: Folder of the bundle of each model, the default one first.
    """

    def __init__(
        self,
        paths: dict[str, Path],
        *,
        keep_s: float,
        start: Callable[[str, Path, Bundle], Model],
        tell_fronts: Callable[[], None],
        retire: Callable[[Model], None],
    ) -> None:
        """Begin with nothing that is served.

        Args:
            paths: Folder of the bundle of each model.
            keep_s: For how long the version before is kept.
            start: Starts the engine processes of another version; raises LoadError or OSError.
            tell_fronts: Sends `entries` to every front end.
            retire: Ends the engine processes of a version, when nobody uses them.
        """
        self.paths = paths
        self._start = start
        self._tell_fronts = tell_fronts
        self._retire = retire
        self._versions = Versions[Model](keep_s=keep_s, retire=self._let_go)
        self._coming: set[Model] = set()
        # Generations that each front end that is there can serve at once.
        self._held: dict[str, set[int]] = {}
        self._told = asyncio.Event()
        self._changing = asyncio.Lock()

    def begin(self, model: Model) -> None:
        """Serve a first version, as soon as it can be."""
        self._versions.serve(model.name, model)

    def is_served(self, model: Model) -> bool:
        """Whether this version is the one that is served."""
        return self._versions.served.get(model.name) is model

    def lose(self, model: Model, reason: str) -> None:
        """Note that a version that is not served cannot be kept running."""
        if self._versions.kept.get(model.name) is model:
            log.error("kept_version_lost", model=model.name, error=reason)
            self._versions.let_go(model.name)

    def entries(self) -> dict[str, Any]:
        """Say what is to be served, and what front ends are to be ready for beside it."""
        others = [*self._versions.kept.values(), *self._coming]
        return {
            "models": [model.entry() for model in self._versions.served.values()],
            "others": [model.entry() for model in others],
            "default": next(iter(self.paths)),
        }

    def hear_held(self, front: str, generations: Iterable[int]) -> None:
        """Note what a front end can serve at once."""
        self._held[front] = set(generations)
        self._told.set()

    def forget_front(self, front: str) -> None:
        """Note that a front end has gone."""
        self._held.pop(front, None)
        self._told.set()

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do an order; returns what the front end that sent it is told."""
        error: dict[str, str] | None = None
        change: dict[str, Any] | None = None
        try:
            async with self._changing:
                change = await self._change(order)
        except KeyError as unknown:
            known = ", ".join(self.paths)
            error = {"kind": "unknown", "text": f"no model {unknown}; the settings name {known}"}
        except NothingKeptError as nothing:
            error = {"kind": "nothing-kept", "text": str(nothing)}
        except (BundleError, LoadError, OSError) as failure:
            log.error("load_failed", order=order, error=str(failure))  # noqa: TRY400
            error = {"kind": "failed", "text": f"the model cannot be served: {failure}"}
        return {"answered": order["request"], "error": error, "change": change}

    async def _change(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """Do one order; returns what is served then, but for an order to serve it no longer."""
        if "unload" in order:
            self._versions.remove(order["unload"])
            self._tell_fronts()
            return None
        if "load" in order:
            name = str(order["load"])
            present = self.paths[name]
            await self._load(name, Path(order["bundle"] or present))
        else:
            name = str(order["roll_back"])
            self._roll_back(name)
        facts, kept = self._versions.served[name].facts(), self._versions.kept.get(name)
        version = None if kept is None else kept.facts()["version"]
        change = {"version": facts["version"], "sha": facts["digest"], "kept": version}
        log.info("model_changed", model=name, order=order, **change)
        return {"name": name, **change}

    async def _load(self, name: str, path: Path) -> None:
        """Start new engine processes for a model, and put them in place when all can be used.

        Raises:
            BundleError: Its bundle cannot be used.
            LoadError: An engine process or a front end did not become ready.
        """
        bundle = await asyncio.to_thread(load_bundle, path)
        model = self._start(name, path, bundle)
        try:
            await asyncio.gather(*(engine.child.ready for engine in model.engines))
            self._coming.add(model)
            self._tell_fronts()
            await self._wait_held(model)
        except BaseException:
            self._coming.discard(model)
            self._let_go(model)
            raise
        self._coming.discard(model)
        self.paths[name] = path
        self._versions.serve(name, model)
        self._tell_fronts()

    async def _wait_held(self, model: Model) -> None:
        """Wait until every front end that is there could serve a version: then all switch at once.

        Raises:
            LoadError: One did not get ready, or an engine process has ended meanwhile.
        """
        try:
            async with asyncio.timeout(_TAKE_OVER_S):
                while self._not_holding(model):
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            late = ", ".join(self._not_holding(model))
            raise LoadError(f"{late} did not get ready for it in {_TAKE_OVER_S:g} s") from None
        if not model.is_ready:
            raise LoadError("its engine has ended again; the log says why")

    def _not_holding(self, model: Model) -> list[str]:
        return [name for name, held in self._held.items() if model.generation not in held]

    def _roll_back(self, name: str) -> None:
        """Serve the version before again.

        Raises:
            KeyError: The model is not served.
            NothingKeptError: Nothing is kept.
            LoadError: It cannot be used now.
        """
        if name not in self._versions.served:
            raise KeyError(name)
        model = self._versions.kept.get(name)
        if model is None:
            raise NothingKeptError(
                f"no earlier version of {name} is there: none was replaced, or it was let go "
                "(SEMSR_ROLLBACK_KEEP_S)"
            )
        without = self._not_holding(model)
        if without or not model.is_ready:
            raise LoadError(
                f"a process of the version before was started anew and is not ready for it "
                f"({', '.join(without) or 'its engine'}); try again, or load {model.path} if it "
                "still holds that version"
            )
        self._versions.roll_back(name)
        self.paths[name] = model.path
        self._tell_fronts()

    def _let_go(self, model: Model) -> None:
        """Serve a version no longer, nor keep it."""
        self._tell_fronts()
        self._retire(model)
