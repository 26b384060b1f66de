"""Starts the processes of a pool, keeps them running, and ends them in order.

Serves nothing itself and imports no runtime, so there is little that could make it fail. It holds
what must outlive the others: the arena, the listening sockets (those of HTTP and those of the
engines: connections wait in them while a process is started anew), and what an engine was measured
with, so that its successor need not measure again.
"""

import asyncio
import contextlib
import functools
import itertools
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import structlog

from bundle_format.bundle import Bundle, BundleError, load_bundle
from engines.cpu import share_cpus
from engines.process import STOP_SIGNALS
from service.ground.exit_codes import EXIT_FAILED, EXIT_FORCED, EXIT_OK
from service.ground.listening import url_of
from service.ground.logs import say_ready
from service.ground.metrics import Metrics
from service.hosting.gpu_metrics import start_gpu_metrics
from service.pool.arena import (
    BUSY_S,
    CONNECTIONS,
    HEARTBEAT,
    MAX_ENGINES,
    Arena,
    ArenaError,
    Geometry,
)
from service.pool.channel import Acceptor, Channel, listen
from service.pool.child_config import EngineConfig, FrontEndConfig
from service.pool.children import Child, EnginePlace, LoadError, Model, end_children
from service.pool.pool_versions import PoolVersions
from service.pool.processes import Publisher, drop_state
from service.settings import Settings

log = structlog.get_logger()

_WATCH_PERIOD_S = 0.5
# A process may take so many times as long to start as it may be silent later; a minute at least.
_START_FACTOR, _MIN_START_S = 10.0, 60.0
# Partitions beyond those in use: the one of a front end that has died rests for a while.
_SPARE_PARTITIONS = 2
# What an engine process is told of its predecessor: the same bundle, chosen and measured before.
_KEPT_FACTS = ("engine", "precision", "batch_s", "digest")


class Supervisor:
    """One pool; create it on its event loop."""

    def __init__(self, settings: Settings, listeners: Sequence[socket.socket]) -> None:
        """Lay everything out; `run` starts it.

        Args:
            settings: The service's settings.
            listeners: One listening socket for each front end.

        Raises:
            ArenaError: There is not as much memory.
            BundleError: A bundle is damaged or unknown.
        """
        self._settings = settings
        self._listeners = list(listeners)
        bundles = {name: load_bundle(path) for name, path in settings.model_paths().items()}
        num_fronts = len(self._listeners)
        self._arena = Arena.create(
            Geometry(
                partitions=num_fronts + _SPARE_PARTITIONS,
                # Tiles that nobody waits for any more keep theirs until their batch is done, and
                # admitted ones must never lack one.
                slots=2 * settings.max_queue,
                lr_bytes=max(_tile_bytes(bundle) for bundle in bundles.values()),
                sr_bytes=max(_answer_bytes(bundle) for bundle in bundles.values()),
                snapshots=1 + num_fronts + MAX_ENGINES,
            )
        )
        self._metrics = Metrics()
        self._publisher = Publisher(self._arena, 0, self._metrics.registry)
        self._control, self._address = listen()
        self._partitions = deque(range(num_fronts + _SPARE_PARTITIONS))
        self._rows = set(range(MAX_ENGINES))
        self._generations = itertools.count(1)
        self._models = PoolVersions(
            {
                name or _default_name(settings, bundle): bundle.path
                for name, bundle in bundles.items()
            },
            keep_s=settings.rollback_keep_s,
            start=self._start_beside,
            tell_fronts=self._tell_fronts,
            retire=lambda model: self._keep(self._retire(model)),
        )
        # Those too that are being loaded, or are served no longer and not yet gone.
        self._alive: set[Model] = set()
        self._fronts: list[Child] = []
        # Front ends that can serve every model. The kernel deals connections out, so that the pool
        # is ready when all of them are; one that is started anew later does not turn the others.
        self._serving: set[str] = set()
        self._channels: dict[str, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._exit_code = EXIT_OK
        self._stop_signal = signal.SIGTERM
        self._signals = 0

    async def run(self) -> int:
        """Run the pool until it is told to stop, or cannot go on.

        Returns:
            0 after a graceful stop, 3 after a failure.
        """
        for number in STOP_SIGNALS:
            # Not the loop's own way: it would give up the signals before the process ends.
            signal.signal(number, self._handle_signal)
        self._acceptor = Acceptor(self._control, self._accept)
        for name, path in self._models.paths.items():
            model = self._start_model(name, path)
            self._models.begin(model)
            for engine in model.engines:
                engine.child.ready.add_done_callback(self._fail_if_never_ready)
        for index, listener in enumerate(self._listeners):
            child = self._make_front(index, listener)
            child.ready.add_done_callback(self._fail_if_never_ready)
            self._fronts.append(child)
            self._keep(self._run_child(child))
        start_gpu_metrics(self._settings.device, self._metrics)
        self._keep(self._watch())
        await self._stopping.wait()
        await self._stop()
        return self._exit_code

    # --- starting and keeping ---

    def _start_model(self, name: str, path: Path) -> Model:
        """Start the engine processes of one loading of a model.

        Raises:
            OSError: The system has no room for them.
        """
        count = self._settings.engine_processes
        # First of all: where no file descriptors are left nothing has begun.
        addresses = [listen() for _ in range(count)]
        model = Model(name, path, next(self._generations))
        self._alive.add(model)
        for index, (listener, address) in enumerate(addresses):
            row = min(self._rows)
            self._rows.remove(row)
            device = _device(self._settings.device, index)
            cpus = share_cpus(index, count) if device == "cpu" and count > 1 else None
            config = EngineConfig(
                name=f"engine-{row}",
                arena_fd=self._arena.fd,
                listener_fd=listener.fileno(),
                supervisor=self._address,
                row=row,
                snapshot=self._engine_snapshot(row),
                model=name,
                bundle=str(path),
                device=device,
                cpus=cpus,
            )
            child = self._make_engine_child(config, functools.partial(self._engine_failed, model))
            model.engines.append(EnginePlace(row, address, listener, child))
            self._keep(self._run_child(child))
        return model

    def _make_engine_child(self, config: EngineConfig, on_failed: Callable[[str], None]) -> Child:
        def command() -> list[str]:
            known = child.ready.result() if child.ready.done() else {}
            changes = {name: known[name] for name in _KEPT_FACTS if name in known}
            return _command("service.pool.engine", {**asdict(config), **changes})

        def on_end() -> None:
            # Zero waits and zero connections: nobody asks a process that is gone.
            self._arena.engine_row(config.row)[:] = 0
            drop_state(self._arena, config.snapshot)

        child = Child(
            name=config.name,
            command=command,
            fds=(config.arena_fd, config.listener_fd),
            on_end=on_end,
            on_failed=on_failed,
            ready=self._loop.create_future(),
        )
        return child

    def _make_front(self, index: int, listener: socket.socket) -> Child:
        partitions: list[int] = []

        def command() -> list[str]:
            # The one that has rested longest: what an engine may still write for the process that
            # died goes to its old one.
            partitions.append(self._partitions.popleft())
            config = FrontEndConfig(
                name=f"front-{index}",
                arena_fd=self._arena.fd,
                listener_fd=listener.fileno(),
                supervisor=self._address,
                partition=partitions[-1],
                snapshot=1 + index,
            )
            return _command("service.front_end", asdict(config))

        def on_end() -> None:
            partition = partitions.pop()
            self._arena.free_partition(partition)
            self._partitions.append(partition)
            drop_state(self._arena, 1 + index)

        return Child(
            name=f"front-{index}",
            command=command,
            fds=(self._arena.fd, listener.fileno()),
            on_end=on_end,
            on_failed=self._fail,
            ready=self._loop.create_future(),
        )

    async def _run_child(self, child: Child) -> None:
        await child.run(
            is_stopping=self._stopping.is_set,
            on_restart=self._metrics.process_restarts.labels(child.name.partition("-")[0]).inc,
        )

    async def _watch(self) -> None:
        """Publish metrics, and kill processes that hang."""
        while True:
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
            for front in self._fronts:
                self._check_silent(front)
            for model in self._alive:
                for engine in model.engines:
                    self._check_hanging(engine)

    def _check_starting(self, child: Child, timeout_s: float) -> None:
        """Kill a process that hangs before it can give any sign of life."""
        most_s = max(_MIN_START_S, _START_FACTOR * timeout_s)
        if child.starting_s > most_s:
            child.reason = f"{child.name} was not ready after {most_s:.0f} s"
            log.error("start_hangs", child=child.name, seconds=round(child.starting_s, 1))
            child.signal(signal.SIGKILL)

    def _check_silent(self, front: Child) -> None:
        self._check_starting(front, self._settings.front_end_timeout_s)
        silent_s = time.monotonic() - front.heard_s
        if front.is_ready and silent_s > self._settings.front_end_timeout_s:
            log.error("front_end_hangs", child=front.name, seconds=round(silent_s, 1))
            front.signal(signal.SIGKILL)

    def _check_hanging(self, engine: EnginePlace) -> None:
        self._check_starting(engine.child, self._settings.engine_timeout_s)
        state = self._arena.engine_row(engine.row)
        if not engine.child.is_ready or not state[HEARTBEAT]:
            return
        busy_s = max(float(state[BUSY_S]), time.monotonic() - float(state[HEARTBEAT]))
        if busy_s > self._settings.engine_timeout_s:
            log.error("engine_hangs", child=engine.child.name, seconds=round(busy_s, 1))
            engine.child.signal(signal.SIGKILL)

    # --- what children say ---

    def _accept(self, accepted: socket.socket) -> None:
        name: list[str] = []

        def receive(message: bytes) -> None:
            fields = orjson.loads(message)
            if "process" in fields:
                name.append(fields["process"])
                self._channels[name[0]] = channel
            self._hear(name[0], fields)

        def lost() -> None:
            if name and self._channels.get(name[0]) is channel:
                del self._channels[name[0]]
                self._models.forget_front(name[0])

        channel = Channel(accepted, on_message=receive, on_close=lost)

    def _hear(self, name: str, fields: dict[str, Any]) -> None:
        for child in self._children():
            if child.name == name:
                self._hear_child(child, fields)
        if "request" in fields:
            self._keep(self._answer(name, fields))

    def _hear_child(self, child: Child, fields: dict[str, Any]) -> None:
        child.heard_s = time.monotonic()
        if "failed" in fields:
            child.reason = str(fields["failed"])
        is_front = child in self._fronts
        if "ready" in fields or (is_front and "process" in fields):
            child.is_ready = True
            if not child.ready.done():
                child.ready.set_result(fields.get("ready", {}))
        if is_front and "process" in fields:
            self._models.hear_held(child.name, ())
            self._channels[child.name].send(self._list())
        if is_front and "holds" in fields:
            self._models.hear_held(child.name, fields["holds"])
        if is_front and "serving" in fields:
            was_started = self._is_started
            self._serving.add(child.name)
            if self._is_started:
                self._tell_fronts()
            if self._is_started and not was_started:
                url = url_of(self._listeners[0], is_tls=self._settings.tls_cert is not None)
                say_ready(url, self._settings.log_format)

    @property
    def _is_started(self) -> bool:
        return len(self._serving) == len(self._listeners)

    def _list(self) -> bytes:
        """Say what is to be served, what else to be ready for, and if all front ends can serve."""
        return orjson.dumps({**self._models.entries(), "started": self._is_started})

    def _tell_fronts(self) -> None:
        for child in self._fronts:
            if child.name in self._channels:
                self._channels[child.name].send(self._list())

    async def _answer(self, name: str, order: dict[str, Any]) -> None:
        """Do what a front end asks for, and tell it how it went."""
        answer = await self._models.obey(order)
        if name in self._channels:
            self._channels[name].send(orjson.dumps(answer))

    def _start_beside(self, name: str, path: Path, bundle: Bundle) -> Model:
        """Start the engine processes of another version of a model.

        Raises:
            LoadError: There is no room for it.
            OSError: The system has none.
        """
        geometry = self._arena.geometry
        needed = _tile_bytes(bundle), _answer_bytes(bundle)
        if needed[0] > geometry.lr_bytes or needed[1] > geometry.sr_bytes:
            raise LoadError(
                f"its tiles take {needed} bytes, the arena has room for "
                f"{(geometry.lr_bytes, geometry.sr_bytes)}; restart the service"
            )
        if len(self._rows) < self._settings.engine_processes:
            raise LoadError("there are too many engine processes already")
        return self._start_model(name, path)

    def _engine_failed(self, model: Model, reason: str) -> None:
        """The engine processes of a model cannot be kept running."""
        if self._models.is_served(model):
            self._fail(reason)
        else:
            self._models.lose(model, reason)

    async def _retire(self, model: Model) -> None:
        """End the engine processes of a model that is served no longer, when nobody uses them."""
        for engine in model.engines:
            engine.child.is_wanted = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown_timeout_s):
                while self._num_connections(model):  # noqa: ASYNC110 (memory tells nobody)
                    await asyncio.sleep(_WATCH_PERIOD_S)
        await end_children(
            [engine.child for engine in model.engines],
            signal.SIGTERM,
            within_s=self._settings.shutdown_timeout_s,
        )
        for engine in model.engines:
            engine.listener.close()
            self._rows.add(engine.row)
        self._alive.discard(model)

    def _num_connections(self, model: Model) -> int:
        rows = [self._arena.engine_row(engine.row) for engine in model.engines]
        return sum(int(row[CONNECTIONS]) for row in rows)

    # --- the end ---

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            # Someone who signals twice wants no more waiting.
            for child in self._children():
                child.signal(signal.SIGKILL)
            os._exit(EXIT_FORCED)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            self._loop.call_soon_threadsafe(self._begin_stop, signal.Signals(number))

    def _begin_stop(self, number: signal.Signals) -> None:
        if not self._stopping.is_set():
            self._stop_signal = number
            self._stopping.set()

    def _fail_if_never_ready(self, ready: asyncio.Future[dict[str, Any]]) -> None:
        if not ready.cancelled() and ready.exception() is not None:
            self._fail(str(ready.exception()))

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
        await end_children(self._engine_children(), signal.SIGTERM, within_s=last_s)
        for task in self._tasks:
            task.cancel()
        log.info("stopped", code=self._exit_code)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _children(self) -> list[Child]:
        return [*self._fronts, *self._engine_children()]

    def _engine_children(self) -> list[Child]:
        return [engine.child for model in self._alive for engine in model.engines]

    def _engine_snapshot(self, row: int) -> int:
        return 1 + len(self._listeners) + row

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("supervisor_failed", exc_info=task.exception())
            self._fail(f"the supervisor failed: {task.exception()!r}")


def run_pool(settings: Settings, listeners: Sequence[socket.socket]) -> int:
    """Run a pool in this process; returns its exit code."""

    async def serve() -> int:
        try:
            supervisor = Supervisor(settings, listeners)
        except (ArenaError, BundleError) as error:
            log.error("load_failed", error=str(error))  # noqa: TRY400
            return EXIT_FAILED
        return await supervisor.run()

    return asyncio.run(serve())


def _command(module: str, config: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", module, orjson.dumps(config).decode()]


def _device(device: str, index: int) -> str:
    """Return the device of the engine process with that index: the next GPU, or the CPU."""
    if device == "cpu":
        return device
    first = int(device.partition(":")[2] or 0)
    return f"cuda:{first + index}"


def _default_name(settings: Settings, bundle: Bundle) -> str:
    return "identity" if settings.engine == "identity" else bundle.manifest.name


def _tile_bytes(bundle: Bundle) -> int:
    height, width = bundle.manifest.tile
    return height * width


def _answer_bytes(bundle: Bundle) -> int:
    return bundle.manifest.scale**2 * _tile_bytes(bundle)
