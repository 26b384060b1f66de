"""The state of the service, and the models that it serves.

    starting ──every model loaded──> ready ──SIGTERM──> draining ──> stopped
        ├──> failed                    └──engine dies or hangs──> failed
        └──SIGTERM──> draining ──> stopped

A model host runs the models: `local_models` in this process, `service.pool` in engine processes.
Loading goes on in the background: `/livez` answers, and `/readyz` gives the reason.
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
from service.shadow.shadow import Shadow

log = structlog.get_logger()

_WATCH_PERIOD_S = 0.5
MIN_STOP_S = 0.5
"""Shortest time limit of a stop in seconds: an engine thread needs it to notice the end."""


class State(enum.StrEnum):
    """State of the service."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class ModelHost(Protocol):
    """Runs the models; calls `publish` for each served model, then `started`, or else `fail`."""

    shadow: Shadow | None
    """Model that sees a share of the tiles and never answers; None without one."""

    async def start(self, lifecycle: "Lifecycle") -> None:
        """Begin to load the models of the settings, in the background."""
        ...

    def busy_s(self) -> float:
        """Seconds for which an engine of this process has computed its oldest batch."""
        ...

    def collect(self) -> Iterable[Metric]:
        """Return every metric of the whole service."""
        ...

    async def load(self, name: str, bundle: Path | None = None) -> Change:
        """Load another version of a model next to the served one, and serve it.

        Args:
            name: Model name.
            bundle: Folder of its bundle; None reads the folder of the last version again.

        Raises:
            service.ground.errors.UnknownModel: The settings name no such model.
            service.ground.errors.LoadFailed: The new version cannot be served; the previous one
                still is.
        """
        ...

    async def roll_back(self, name: str) -> Change:
        """Swap the served version of a model with the previous one, which was kept for a rollback.

        Raises:
            service.ground.errors.UnknownModel: The model is not served.
            service.ground.errors.NothingKept: No earlier version is kept.
            service.ground.errors.LoadFailed: The kept version failed; the present one stays.
        """
        ...

    async def unload(self, name: str) -> None:
        """Stop serving a model; requests in flight are answered.

        Raises:
            service.ground.errors.UnknownModel: The model is not served.
        """
        ...

    async def stop(self, remaining_s: Callable[[], float]) -> bool:
        """Answer the requests in flight and free everything.

        Args:
            remaining_s: Function that returns the seconds that are left.

        Returns:
            Whether the time sufficed.
        """
        ...


class Lifecycle:
    """The state of one app and its models.

    Attributes:
        draining: Event that is set when the drain begins; long requests then finish early.
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
            metrics: Metrics of the state and the models.
            host: Host that runs the models.
            on_failure: Callback for a failure after which the process must end.
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
        """Wait until loading has succeeded or failed."""
        await self._settled.wait()

    # --- what the host reports ---

    def publish(self, serving: Serving) -> Serving | None:
        """Serve a version of a model from now on; the first model is the default one.

        Returns:
            The version that it replaces, or None.
        """
        before = self.models.get(serving.name)
        if before is not None:
            self.metrics.model_info.remove(*before.info_labels)
        self.models[serving.name] = serving
        self._default = self._default or serving.name
        self.metrics.model_info.labels(*serving.info_labels).set(1)
        return before

    def set_default(self, name: str) -> None:
        """Set the default model, which answers the requests that name no model."""
        self._default = name

    def withdraw(self, name: str) -> Serving:
        """Stop serving a model.

        Raises:
            UnknownModel: The model is not served.
        """
        serving = self.models.pop(name, None)
        if serving is None:
            raise UnknownModel(f"the model {name} is not served")
        self.metrics.model_info.remove(*serving.info_labels)
        return serving

    def started(self) -> None:
        """Turn a starting service ready: every model is loaded."""
        if self.state is State.STARTING:
            self.state = State.READY
            self.reason = "ready"
        self._settled.set()

    def fail(self, reason: str) -> None:
        """Fail both probes and end the process, so that the orchestrator restarts it."""
        self.state = State.FAILED
        self.reason = reason
        self._settled.set()
        self._on_failure()

    # --- what the routes need ---

    def find_model(self, name: str | None = None, version: str | None = None) -> Serving:
        """Return the serving of a model; None stands for the default one.

        Raises:
            NotReady: No model is loaded, or its engine is not ready now.
            UnknownModel: The model is not served in this version, or not at all.
        """
        if self.state is State.FAILED or (not self.models and self.state is not State.READY):
            raise NotReady(self.reason, retry_after_s=1.0)
        served = self.models.get(name or self._default or "")
        if served is None or not served.has_version(version):
            asked = name or self._default or "(any)"
            asked = asked if version is None else f"{asked} version {version}"
            known = [f"{of.name} version {of.bundle.version}" for of in self.models.values()]
            raise UnknownModel(
                f"the model {asked} is not served; served are: {', '.join(known) or 'none'}"
            )
        if served.runner.unavailable is not None:
            raise NotReady(served.runner.unavailable, retry_after_s=1.0)
        return served

    def unready(self) -> str | None:
        """Reason why the service is not ready; None if it is."""
        if self.state is not State.READY:
            return self.reason
        reasons = [model.runner.unavailable for model in self.models.values()]
        if not reasons:
            return "no model is loaded"
        return next((reason for reason in reasons if reason is not None), None)

    @property
    def has_failed(self) -> bool:
        """Whether the service has failed, before or after it was ready."""
        return self.state is State.FAILED

    def common_headers(
        self, answered_by: list[tuple[bytes, bytes]] | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Return the headers that every answer carries now.

        Args:
            answered_by: Headers of the `Serving` that computed the answer and may have been
                replaced since; None takes those of the default model.
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
        """Turn `/readyz` to 503; requests are still answered.

        Args:
            drain_s: Seconds for which the process still accepts requests; a service that is
                still starting uses 0.

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
        """Answer the requests in flight and free the engines, within the time limit."""
        self.begin_drain()
        if self._watcher is not None:
            self._watcher.cancel()
        finished = await self.host.stop(self.remaining_s)
        self._settled.set()
        log.info("stopped", finished=finished)

    def remaining_s(self) -> float:
        """Seconds that are left of the time limit of a stop; at least `MIN_STOP_S`."""
        assert self._stop_by_s is not None, "begin_drain sets it"  # noqa: S101 (our own invariant)
        return max(MIN_STOP_S, self._stop_by_s - time.monotonic())

    async def _watch(self) -> None:
        """Measure the lag of the event loop, and detect an engine that hangs."""
        while True:
            due_s = time.monotonic() + _WATCH_PERIOD_S
            await asyncio.sleep(_WATCH_PERIOD_S)
            self.metrics.event_loop_lag.set(max(0.0, time.monotonic() - due_s))
            busy_s = self.host.busy_s()
            if busy_s > self.settings.engine_timeout_s and self.state is not State.FAILED:
                self.metrics.engine_up.set(0)
                log.error("engine_hangs", seconds=round(busy_s, 1))
                self.fail(f"the engine has worked on one batch for {busy_s:.0f} s")
