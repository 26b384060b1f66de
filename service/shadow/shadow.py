"""The shadow of one served model: draws tiles, counts what becomes of them, and keeps the report.

The event loop draws a tile and hands it over by reference; the rest happens on a thread and in a
process of their own. At most `_LIMIT` tiles are held at a time, and a tile is skipped rather than
queued.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from bundle_format.bundle import Bundle, Precision
from service.batching.tile_runner import TileRunner
from service.ground.daemon_thread import in_daemon_thread
from service.ground.metrics import Metrics
from service.settings import Settings
from service.shadow.entry import FLAG_OUTCOMES, Entry
from service.shadow.report import VERSION, Report
from service.shadow.tap import Sample, Served, ShadowedRunner
from service.shadow.worker import Worker, WorkerOptions

log = structlog.get_logger()

Outcome = Literal["compared", "busy", "full", "down", "unsuitable", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("compared", "busy", "full", "down", "unsuitable", "failed")

_LIMIT = 2
"""Tiles that the shadow holds: one in its process, and one for it to go on with."""

_BUSY_S = 0.01
"""Wait for a batch in seconds that shows other tiles ahead: an idle engine takes a tile within a
millisecond."""


@dataclass(eq=False)
class _State:
    """What the shadow is doing, for the report."""

    name: Literal["waiting", "starting", "running", "restarting", "failed", "stopped"] = "waiting"
    reason: str | None = "the served model is not loaded yet"
    hello: dict[str, Any] | None = None


class Shadow:
    """Use it on one event loop."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        make_worker: Callable[..., Worker] = Worker,
    ) -> None:
        """Prepare; the shadow starts with the first version that it can be compared with.

        Args:
            settings: Settings with a shadow bundle.
            metrics: Metrics of the service.
            make_worker: Factory of the worker, as `Worker`.

        Raises:
            ValueError: The settings have no shadow bundle.
        """
        if settings.shadow_bundle is None:
            raise ValueError("SEMSR_SHADOW_BUNDLE is not set")
        self._settings = settings
        self._bundle: Path = settings.shadow_bundle
        self._metrics = metrics
        self._make_worker = make_worker
        self._report = Report(keep=settings.shadow_keep)
        self._model = settings.shadow_model
        self._state = _State()
        self._held = 0
        self._counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self._engine: tuple[str, Precision] | None = None
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, name: str, bundle: Bundle, runner: TileRunner) -> TileRunner:
        """Return the runner of a version: for the shadow's model one that shows tiles to it.

        Without a name in the settings, the first model is the one, as it is the default model.
        """
        self._model = self._model or name
        if name != self._model:
            return runner
        manifest = bundle.manifest
        served = Served(bundle.version, bundle.digest, manifest.tile, manifest.scale)
        return ShadowedRunner(runner, served, share=self._settings.shadow_share, offer=self._offer)

    def start(self, engine: str, precision: Precision) -> None:
        """Start the shadow process, now that the service serves.

        Args:
            engine: Engine that runs the served model, and the shadow if the settings say `auto`:
                a measurement would disturb what it measures.
            precision: Its execution precision, taken if the shadow's bundle has it.
        """
        self._loop = asyncio.get_running_loop()
        self._engine = engine, precision
        name = self._model or ""
        # All from the start: a counter that begins with its first drop shows no increase.
        for outcome in OUTCOMES:
            self._metrics.shadow_tiles.labels(name, outcome)
        for flags in FLAG_OUTCOMES:
            self._metrics.shadow_flags.labels(name, flags)
        self._metrics.shadow_up.labels(name).set(0)
        self._start_worker(engine, precision)

    def describe(self) -> dict[str, Any]:
        """Return the report, as JSON holds it."""
        hello = self._state.hello
        settings = self._settings
        return {
            "format": "semsr-shadow-report",
            "format_version": VERSION,
            "model": self._model,
            "state": self._state.name,
            "reason": self._state.reason,
            "shadow": {
                "bundle": str(self._bundle),
                **{
                    key: None if hello is None else hello[key]
                    for key in ("name", "version", "sha", "engine", "precision")
                },
            },
            "share": settings.shadow_share,
            "limit_grey": settings.shadow_limit_grey,
            "tiles": dict(self._counts),
            **self._report.describe(),
        }

    def reset(self) -> None:
        """Empty the report, and start a shadow again that has failed for good."""
        self._drop_pictures(self._report.reset())
        self._counts = dict.fromkeys(OUTCOMES, 0)
        if self._state.name == "failed" and self._engine is not None:
            self._start_worker(*self._engine)

    async def stop(self, timeout_s: float) -> bool:
        """End the shadow process at once; returns whether its thread ended in time.

        Args:
            timeout_s: Time limit. A killed process that gets no processor time may exceed it, and
                nothing depends on its end.
        """
        worker, self._worker = self._worker, None
        self._state = _State("stopped", "the service is stopping", self._state.hello)
        if worker is None:
            return True
        return await in_daemon_thread(lambda: worker.stop(timeout_s))

    # --- on the event loop ---

    def _start_worker(self, engine: str, precision: Precision) -> None:
        settings = self._settings
        self._state = _State("starting", "the shadow is being loaded")
        self._held = 0
        config = {
            "bundle": str(self._bundle),
            "engine": engine if settings.engine == "auto" else settings.engine,
            "precision": settings.precision,
            "wanted_precision": precision,
            "threads": settings.threads,
            "device": settings.device,
            "hint": settings.hint,
            "plan_cache": None if settings.plan_cache is None else str(settings.plan_cache),
            "limit_grey": settings.shadow_limit_grey,
            "pictures": None if settings.shadow_pictures is None else str(settings.shadow_pictures),
            "log_level": settings.log_level,
            "log_format": settings.log_format,
        }
        options = WorkerOptions(
            config=config,
            timeout_s=settings.engine_timeout_s,
            pictures=settings.shadow_pictures,
        )
        self._worker = self._make_worker(options, _OnLoop(self, self._running_loop()))
        self._worker.start()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the shadow has not been started")
        return self._loop

    def _offer(self, sample: Sample) -> None:
        """Take a drawn tile, or skip it."""
        hello, worker = self._state.hello, self._worker
        if self._state.name != "running" or hello is None or worker is None:
            self._count("down")
        elif (sample.served.tile, sample.served.scale) != (tuple(hello["tile"]), hello["scale"]):
            self._count("unsuitable")
        elif sample.result.queue_s > _BUSY_S:
            self._count("busy")
        elif self._held >= _LIMIT:
            self._count("full")
        else:
            self._held += 1
            worker.give(sample)

    def _count(self, outcome: Outcome) -> None:
        self._counts[outcome] += 1
        self._metrics.shadow_tiles.labels(self._model or "", outcome).inc()

    def _drop_pictures(self, entries: Any) -> None:  # noqa: ANN401 (a sequence of entries)
        for entry in entries:
            if entry.pictures is not None and self._worker is not None:
                self._worker.forget(entry.pictures)

    def set_running(self, hello: dict[str, Any]) -> None:
        """Begin to take tiles."""
        self._state = _State("running", None, hello)
        self._metrics.shadow_up.labels(self._model or "").set(1)
        log.info("shadow_running", model=self._model, version=hello["version"])

    def set_down(self, reason: str, *, is_final: bool) -> None:
        """Take no tiles for now, or for good."""
        if self._state.name == "stopped":
            return
        self._state = _State("failed" if is_final else "restarting", reason, self._state.hello)
        self._metrics.shadow_up.labels(self._model or "").set(0)
        log.error("shadow_down", model=self._model, error=reason, is_final=is_final)

    def add(self, entry: Entry) -> None:
        """Count a compared tile."""
        self._held -= 1
        self._count("compared")
        name, differences = self._model or "", entry.differences
        metrics = self._metrics
        metrics.shadow_flags.labels(name, entry.flags).inc()
        metrics.shadow_grey.labels(name).observe(differences.grey)
        metrics.shadow_above.labels(name).observe(differences.above)
        metrics.shadow_edges.labels(name).observe(differences.edges)
        metrics.shadow_duration.labels(name, "served").observe(entry.served_s)
        metrics.shadow_duration.labels(name, "shadow").observe(entry.shadow_s)
        version = self._state.hello["version"] if self._state.hello else ""
        self._drop_pictures(self._report.add(entry, shadow_version=version))

    def add_failure(self, sample: Sample, reason: str) -> None:
        """Count a tile that the shadow could not answer."""
        self._held -= 1
        self._count("failed")
        log.warning("shadow_tile_failed", request_id=sample.request_id, error=reason)

    def ranks(self, entry: Entry) -> bool:
        """Whether a tile would be listed; a stale answer costs a picture, so any thread may ask."""
        return self._report.ranks(entry)


class _OnLoop:
    """The events of a worker, carried from its thread to the event loop."""

    def __init__(self, shadow: Shadow, loop: asyncio.AbstractEventLoop) -> None:
        self._shadow = shadow
        self._loop = loop

    def on_running(self, hello: dict[str, Any]) -> None:
        self._later(lambda: self._shadow.set_running(hello))

    def on_down(self, reason: str, *, is_final: bool) -> None:
        self._later(lambda: self._shadow.set_down(reason, is_final=is_final))

    def on_compared(self, _sample: Sample, entry: Entry) -> None:
        self._later(lambda: self._shadow.add(entry))

    def on_failed(self, sample: Sample, reason: str) -> None:
        self._later(lambda: self._shadow.add_failure(sample, reason))

    def ranks(self, entry: Entry) -> bool:
        return self._shadow.ranks(entry)

    def _later(self, work: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:
            return  # the loop is closed: the process is ending
