"""Starts the processes of a pool, keeps them running, and ends them in order.

The supervisor serves no requests and imports no runtime, so that little can make it fail. It holds
the resources that must outlive the other processes. These are the arena, the listening sockets of
HTTP and of the engines, and the measured times of each engine. Connections wait in the sockets
while a process is restarted, and a restarted engine need not measure again.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable, Sequence
from types import FrameType

import structlog

from bundle_format.bundle import Bundle, BundleError, load_bundle
from engines.process import STOP_SIGNALS
from service.ground.exit_codes import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_FORCED, EXIT_OK
from service.ground.listening import url_of
from service.ground.logs import say_ready
from service.ground.metrics import Metrics
from service.hosting.gpu_metrics import start_gpu_metrics
from service.pool.arena import MAX_ENGINES, Arena, ArenaError, Geometry
from service.pool.channel import listen
from service.pool.children import Child, end_children
from service.pool.control_server import ControlServer
from service.pool.engine_processes import EngineProcesses, PoolVersion
from service.pool.front_end_processes import SPARE_PARTITIONS, kill_hanging, make_front_ends
from service.pool.gpus import Devices, GpuError, count_gpus
from service.pool.pool_versions import PoolVersions
from service.pool.processes import Background, Publisher
from service.settings import Settings

log = structlog.get_logger()

_WATCH_PERIOD_S = 0.5


class Supervisor:
    """One pool; create it on its event loop."""

    def __init__(
        self, settings: Settings, listeners: Sequence[socket.socket], devices: Devices
    ) -> None:
        """Make the parts of the pool; `run` starts it.

        Args:
            settings: The service's settings.
            listeners: One listening socket for each front end.
            devices: Devices of the engine processes.

        Raises:
            ArenaError: There is not enough memory.
            BundleError: A bundle is damaged or unknown.
        """
        self._settings = settings
        self._url = url_of(listeners[0], is_tls=settings.tls_cert is not None)
        self._bundles = {name: load_bundle(path) for name, path in settings.model_paths().items()}
        arena = Arena.create(_geometry(settings, self._bundles.values(), len(listeners)))
        self._metrics = Metrics()
        self._publisher = Publisher(arena, 0, self._metrics.registry)
        self._background = Background(self._fail_by_fault)
        self._control, address = listen()
        self._listeners = listeners
        self._fronts = make_front_ends(
            arena,
            listeners,
            supervisor=address,
            first_snapshot=1,
            frees_memory=settings.device == "cpu",
            on_failed=self._front_failed,
        )
        self._engines = EngineProcesses(
            settings,
            arena,
            devices,
            supervisor=address,
            first_snapshot=1 + len(listeners),
            run_child=self._run_child,
            on_failed=self._engine_failed,
        )
        self._versions = PoolVersions(
            self._engines,
            keep_s=settings.rollback_keep_s,
            tell_fronts=lambda: self._server.tell_fronts(),
            retire=self._retire,
        )
        self._server = ControlServer(
            self._control,
            self._fronts,
            self._engines,
            self._versions,
            on_started=lambda: say_ready(self._url, settings.log_format),
            background=self._background,
        )
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._exit_code = EXIT_OK
        self._stop_signal = signal.SIGTERM
        self._signals = 0

    async def run(self) -> int:
        """Run the pool until it is asked to stop, or cannot go on.

        Returns:
            0 after a graceful stop, 3 after a failure.
        """
        for number in STOP_SIGNALS:
            # Not the loop's own way: it would give up the signals before the process ends.
            signal.signal(number, self._handle_signal)
        self._server.start()
        for name, bundle in self._bundles.items():
            version = self._engines.start(name or self._default_name(bundle), bundle.path)
            self._versions.begin(version)
        for child in self._fronts:
            self._run_child(child)
        for child in self._children():
            child.ready.add_done_callback(self._fail_if_never_ready)
        start_gpu_metrics(self._settings.device, self._metrics)
        self._background.run(self._watch())
        await self._stopping.wait()
        await self._stop()
        return self._exit_code

    # --- keeping ---

    def _run_child(self, child: Child) -> None:
        kind = child.name.partition("-")[0]
        self._background.run(
            child.run(
                is_stopping=self._stopping.is_set,
                on_restart=self._metrics.process_restarts.labels(kind).inc,
            )
        )

    def _retire(self, version: PoolVersion) -> None:
        self._background.run(self._engines.retire(version))

    async def _watch(self) -> None:
        """Publish metrics, and kill processes that hang."""
        while True:
            self._engines.show(self._metrics.engine_process_up)
            self._publisher.publish()
            asked_s = time.monotonic()
            await asyncio.sleep(_WATCH_PERIOD_S)
            paused_s = time.monotonic() - asked_s - _WATCH_PERIOD_S
            if paused_s > _WATCH_PERIOD_S:
                # The whole machine has paused, or this process: the others may not have been able
                # to give a sign of life either, or to start.
                for child in self._children():
                    child.started_s += paused_s
                continue
            kill_hanging(self._fronts, self._settings.front_end_timeout_s)
            self._engines.kill_hanging()

    def _children(self) -> list[Child]:
        return [*self._fronts, *self._engines.children]

    def _default_name(self, bundle: Bundle) -> str:
        return "identity" if self._settings.engine == "identity" else bundle.manifest.name

    # --- the end ---

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            # An operator who signals twice does not want to wait.
            for child in self._children():
                child.signal(signal.SIGKILL)
            os._exit(EXIT_FORCED)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            self._loop.call_soon_threadsafe(self._begin_stop, signal.Signals(number))

    def _begin_stop(self, number: signal.Signals) -> None:
        if not self._stopping.is_set():
            self._stop_signal = number
            self._stopping.set()

    def _fail_if_never_ready(self, ready: asyncio.Future[None]) -> None:
        if not ready.cancelled() and ready.exception() is not None:
            self._fail(str(ready.exception()))

    def _front_failed(self, reason: str) -> bool:
        self._fail(reason)
        return False

    def _engine_failed(self, version: PoolVersion, reason: str) -> bool:
        """Decide what follows from an engine process that cannot be kept running.

        As long as another one of the version can, the pool serves without it, and goes on trying:
        its card may return. Otherwise a served version ends the pool, and a kept one is dropped.
        """
        if not version.has_failed:
            log.error("engine_down", model=version.name, error=reason)
            return True
        if self._versions.is_served(version):
            self._fail(reason)
        else:
            self._versions.lose(version, reason)
        return False

    def _fail_by_fault(self, error: BaseException) -> None:
        log.error("supervisor_failed", exc_info=error)
        self._fail(f"the supervisor failed: {error!r}")

    def _fail(self, reason: str) -> None:
        if not self._stopping.is_set():
            log.error("pool_failed", error=reason)
            self._exit_code = EXIT_FAILED
            self._stop_signal = signal.SIGINT
            self._stopping.set()

    async def _stop(self) -> None:
        """Drain the front ends, then end the engines."""
        drain_s = self._settings.drain_s if self._stop_signal is signal.SIGTERM else 0.0
        log.info("draining", drain_s=drain_s)
        # New connections are turned away when the front ends no longer take them.
        self._loop.call_later(drain_s, self._close_listeners)
        last_s = self._settings.shutdown_timeout_s
        await end_children(self._fronts, self._stop_signal, within_s=drain_s + last_s)
        await end_children(self._engines.children, signal.SIGTERM, within_s=last_s)
        self._background.cancel()
        log.info("stopped", code=self._exit_code)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()


def run_pool(settings: Settings, listeners: Sequence[socket.socket]) -> int:
    """Run a pool in this process; returns its exit code."""

    async def serve() -> int:
        try:
            num_gpus = 0 if settings.device == "cpu" else count_gpus()
            supervisor = Supervisor(settings, listeners, Devices(settings.device, num_gpus))
        except GpuError as error:
            log.error("cannot_serve", error=str(error))  # noqa: TRY400
            return EXIT_CONFIGURATION
        except (ArenaError, BundleError) as error:
            log.error("load_failed", error=str(error))  # noqa: TRY400
            return EXIT_FAILED
        return await supervisor.run()

    return asyncio.run(serve())


def _geometry(settings: Settings, bundles: Iterable[Bundle], num_fronts: int) -> Geometry:
    manifests = [bundle.manifest for bundle in bundles]
    return Geometry(
        partitions=num_fronts + SPARE_PARTITIONS,
        # A tile that is no longer wanted keeps its slot until its batch is done, and an admitted
        # tile must never lack one.
        slots=2 * settings.max_queue,
        lr_bytes=max(manifest.lr_bytes for manifest in manifests),
        sr_bytes=settings.answer_bits // 8 * max(manifest.sr_bytes for manifest in manifests),
        snapshots=1 + num_fronts + MAX_ENGINES,
    )
