"""Starting, ready, draining: what state the service is in, and which models it serves.

    starting ──every model loaded──> ready ──SIGTERM──> draining ──> stopped
        ├──> failed                    └──engine dies or hangs──> failed
        └──SIGTERM──> draining ──> stopped

Where the models run is the model host's business: `local_models` runs them in this process,
`service.pool` in processes of their own. Loading goes on in the background, so that `/livez`
answers meanwhile and `/readyz` says why not yet.
"""

import asyncio
import enum
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client.metrics_core import Metric

from service.ground.errors import NotReady, UnknownModel
from service.ground.metrics import Metrics
from service.hosting.serving import Serving
from service.hosting.versions import Change
from service.settings import Settings

log = structlog.get_logger()

_WATCH_PERIOD_S = 0.5
MIN_STOP_S = 0.5
"""Seconds in which an engine thread surely notices that no tile is left."""


class State(enum.StrEnum):
    """Where the service is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class ModelHost(Protocol):
    """Where models run. Tells the lifecycle of each by `publish`, then `started`, or `fail`."""

    async def start(self, lifecycle: "Lifecycle") -> None:
        """Begin to load what the settings name, in the background."""
        ...

    def busy_s(self) -> float:
        """How long an engine of this process has worked on the batch that it began first."""
        ...

    def collect(self) -> Iterable[Metric]:
        """Give every metric of the whole service now."""
        ...

    async def load(self, name: str, bundle: Path | None = None) -> Change:
        """Load a model of the settings beside what is served, and put it in its place.

        Args:
            name: Of the model.
            bundle: Folder of its bundle; None reads that of the last version anew.

        Raises:
            service.ground.errors.UnknownModel: The settings name no such model.
            service.ground.errors.LoadFailed: Its bundle cannot be served; what was served still is.
        """
        ...

    async def roll_back(self, name: str) -> Change:
        """Serve the version again that was served before, and keep the present one.

        Raises:
            service.ground.errors.UnknownModel: The model is not served.
            service.ground.errors.NothingKept: No earlier version is there any more.
            service.ground.errors.LoadFailed: It cannot be served any more; what was served still
                is.
        """
        ...

    async def unload(self, name: str) -> None:
        """Serve a model no longer; what is under way is finished.

        Raises:
            service.ground.errors.UnknownModel: It is not served.
        """
        ...

    async def stop(self, remaining_s: Callable[[], float]) -> bool:
        """Finish what is under way and free everything.

        Args:
            remaining_s: Seconds that are left for it.

        Returns:
            Whether all of it was finished in time.
        """
        ...


class Lifecycle:
    """Owns the state of one app and what it serves.

    Attributes:
        draining: Set when the service has been asked to end: long requests come to theirs.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        host: ModelHost,
        *,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `start` loads in the background.

        Args:
            settings: The service's settings.
            metrics: Told of the state and the models.
            host: Runs the models.
            on_failure: Called when the service cannot, or can no longer, serve.
        """
        self.settings = settings
        self.metrics = metrics
        self.host = host
        self.state = State.STARTING
        self.reason = "the model is being loaded"
        self.models: dict[str, Serving] = {}
        self._default: str | None = None
        self._on_failure = on_failure
        self._watcher: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self.draining = asyncio.Event()
        self._stop_by_s: float | None = None

    async def start(self) -> None:
        """Begin to load."""
        self._watcher = asyncio.get_running_loop().create_task(self._watch())
        await self.host.start(self)

    async def wait_loaded(self) -> None:
        """Wait until loading has ended, well or not."""
        await self._settled.wait()

    # --- what the host tells ---

    def publish(self, serving: Serving) -> Serving | None:
        """Serve a model from now on; the first one is the one that requests get unasked.

        Returns:
            What was served under its name.
        """
        before = self.models.get(serving.name)
        if before is not None:
            self.metrics.model_info.remove(*_info(before))
        self.models[serving.name] = serving
        self._default = self._default or serving.name
        self.metrics.model_info.labels(*_info(serving)).set(1)
        return before

    def set_default(self, name: str) -> None:
        """Name the model that requests get unasked, whichever is served first."""
        self._default = name

    def withdraw(self, name: str) -> Serving:
        """Serve a model no longer.

        Raises:
            UnknownModel: It is not served.
        """
        serving = self.models.pop(name, None)
        if serving is None:
            raise UnknownModel(f"the model {name} is not served")
        self.metrics.model_info.remove(*_info(serving))
        return serving

    def started(self) -> None:
        """Every model is loaded."""
        if self.state is State.STARTING:
            self.state = State.READY
            self.reason = "ready"
        self._settled.set()

    def fail(self, reason: str) -> None:
        """Turn both probes and ask the process to end, so that whoever watches restarts it."""
        self.state = State.FAILED
        self.reason = reason
        self._settled.set()
        self._on_failure()

    # --- what the routes ask ---

    def find_model(self, name: str | None = None, version: str | None = None) -> Serving:
        """Return what serves a model; without a name, the default one.

        Raises:
            NotReady: Nothing is loaded, or its engine is not there now.
            UnknownModel: No such model, or another version of it, is served.
        """
        if self.state is State.FAILED or (not self.models and self.state is not State.READY):
            raise NotReady(self.reason, retry_after_s=1.0)
        served = self.models.get(name or self._default or "")
        if served is None or not served.has_version(version):
            asked = name or self._default or "(any)"
            asked = asked if version is None else f"{asked} version {version}"
            known = [f"{model.name} version {model.bundle.version}" for model in self._listed()]
            raise UnknownModel(
                f"the model {asked} is not served; served are: {', '.join(known) or 'none'}"
            )
        if served.runner.unavailable is not None:
            raise NotReady(served.runner.unavailable, retry_after_s=1.0)
        return served

    def unready(self) -> str | None:
        """Why the service is not ready; None if it is."""
        if self.state is not State.READY:
            return self.reason
        reasons = [model.runner.unavailable for model in self._listed()]
        if not reasons:
            return "no model is loaded"
        return next((reason for reason in reasons if reason is not None), None)

    @property
    def has_failed(self) -> bool:
        """Whether the service could not, or can no longer, serve."""
        return self.state is State.FAILED

    def common_headers(
        self, answered_by: list[tuple[bytes, bytes]] | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Headers that every answer carries now.

        Args:
            answered_by: Headers of the `Serving` that computed the answer, which may have been
                replaced meanwhile; None takes those of the default model.
        """
        headers = answered_by
        if headers is None:
            serving = self.models.get(self._default or "")
            headers = [] if serving is None else serving.headers
        if self.state is State.DRAINING:
            return [*headers, (b"connection", b"close")]
        return headers

    # --- the end ---

    def begin_drain(self, drain_s: float = 0.0) -> float:
        """Turn `/readyz` to 503; requests are still served.

        Args:
            drain_s: Wish for how long to go on; nothing is served yet while starting.

        Returns:
            Seconds after which the process should stop accepting.
        """
        if self.state is State.STARTING:
            drain_s = 0.0
        if self.state in {State.STARTING, State.READY}:
            self.state = State.DRAINING
            self.reason = "the service is draining"
            self.draining.set()
            log.info("draining", drain_s=drain_s)
        if self._stop_by_s is None:
            self._stop_by_s = time.monotonic() + drain_s + self.settings.shutdown_timeout_s
        return drain_s

    async def stop(self) -> None:
        """Finish what is under way and free the engines, within what is left of the time."""
        self.begin_drain()
        if self._watcher is not None:
            self._watcher.cancel()
        finished = await self.host.stop(self.remaining_s)
        self._settled.set()
        log.info("stopped", finished=finished)

    def remaining_s(self) -> float:
        """Seconds that are left of the time to stop, once that has begun; never quite none."""
        assert self._stop_by_s is not None, "begin_drain sets it"  # noqa: S101 (our own invariant)
        return max(MIN_STOP_S, self._stop_by_s - time.monotonic())

    def _listed(self) -> list[Serving]:
        return list(self.models.values())

    async def _watch(self) -> None:
        """Measure the event loop's lag, and notice an engine that hangs."""
        while True:
            due_s = time.monotonic() + _WATCH_PERIOD_S
            await asyncio.sleep(_WATCH_PERIOD_S)
            self.metrics.event_loop_lag.set(max(0.0, time.monotonic() - due_s))
            busy_s = self.host.busy_s()
            if busy_s > self.settings.engine_timeout_s and self.state is not State.FAILED:
                self.metrics.engine_up.set(0)
                log.error("engine_hangs", seconds=round(busy_s, 1))
                self.fail(f"the engine has worked on one batch for {busy_s:.0f} s")


def _info(serving: Serving) -> tuple[str, str, str, str, str]:
    """Labels of `semsr_model_info`."""
    bundle = serving.bundle
    return serving.name, bundle.version, serving.engine, serving.precision, bundle.digest
