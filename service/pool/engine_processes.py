"""The engine processes of a pool: started for each version of a model, watched, and ended."""

import asyncio
import contextlib
import functools
import itertools
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from prometheus_client import Gauge

from bundle_format.bundle import Bundle
from engines.cpu import share_cpus
from service.pool.arena import BUSY_S, CONNECTIONS, HEARTBEAT, MAX_ENGINES, Arena
from service.pool.channel import listen
from service.pool.child_config import EngineConfig
from service.pool.children import Child, LoadError, end_children
from service.pool.control import VersionEntry
from service.pool.gpus import Devices
from service.pool.messages import Hello
from service.pool.processes import drop_state, python_command
from service.settings import Settings

log = structlog.get_logger()

_LOOK_EVERY_S = 0.5


@dataclass(eq=False)
class EnginePlace:
    """The place of one engine process.

    Attributes:
        row: Row of the arena.
        device: Device that it computes on.
        address: Address that front ends connect to.
        listener: Socket that listens there.
        child: The place's processes.
        hello: Greeting of the last process that was ready, or None.
    """

    row: int
    device: str
    address: str
    listener: socket.socket
    child: Child
    hello: Hello | None = None


@dataclass(eq=False)
class PoolVersion:
    """A version of a model in engine processes; see `service.hosting.versions.Version`."""

    name: str
    path: Path
    version_id: int
    engines: list[EnginePlace] = field(default_factory=list["EnginePlace"])

    @property
    def is_ready(self) -> bool:
        """Whether all its engine processes are ready now."""
        return all(engine.child.is_ready for engine in self.engines)

    @property
    def has_failed(self) -> bool:
        """Whether none of its engine processes can be kept running."""
        return all(engine.child.has_failed for engine in self.engines)

    @property
    def bundle_version(self) -> str:
        """Version of its bundle; known once its first engine process has been ready."""
        return self._hello.version

    @property
    def digest(self) -> str:
        """Digest of its bundle; known once its first engine process has been ready."""
        return self._hello.digest

    @property
    def entry(self) -> VersionEntry:
        """Entry for the list of models, with the addresses of its engine processes."""
        engines = [(engine.address, engine.row) for engine in self.engines]
        return VersionEntry(self.version_id, self.name, self.path, engines)

    @property
    def _hello(self) -> Hello:
        hello = self.engines[0].hello
        assert hello is not None, "asked before it was ready"  # noqa: S101 (our own invariant)
        return hello


class EngineProcesses:
    """The engine processes of all versions.

    Attributes:
        versions: Versions that have processes: served, kept, being loaded, or being retired.
    """

    def __init__(
        self,
        settings: Settings,
        arena: Arena,
        devices: Devices,
        *,
        supervisor: str,
        first_snapshot: int,
        run_child: Callable[[Child], None],
        on_failed: Callable[[PoolVersion, str], bool],
    ) -> None:
        """Begin without processes.

        Args:
            settings: The service's settings.
            arena: The pool's shared memory.
            devices: Devices that they compute on.
            supervisor: Address of the supervisor.
            first_snapshot: First row of the arena for their metrics.
            run_child: Function that runs a place's processes in the background.
            on_failed: Callback with a version of which a process cannot be kept running, and why;
                see `Child`.
        """
        self._settings = settings
        self._arena = arena
        self._devices = devices
        self._supervisor = supervisor
        self._first_snapshot = first_snapshot
        self._run_child = run_child
        self._on_failed = on_failed
        self._rows = set(range(MAX_ENGINES))
        self._version_ids = itertools.count(1)
        self._shown: set[tuple[str, str, str]] = set()
        self.versions: set[PoolVersion] = set()

    @property
    def children(self) -> list[Child]:
        """The places of all engine processes."""
        return [engine.child for engine in self._places()]

    def find(self, name: str) -> EnginePlace | None:
        """Return the place of the engine process with this name, or None."""
        return next((place for place in self._places() if place.child.name == name), None)

    def check_room(self, bundle: Bundle) -> None:
        """Check that the pool has room for another version.

        Raises:
            LoadError: Its tiles are too large, or the pool has too few free rows for its processes.
        """
        geometry = self._arena.geometry
        answer_bytes = self._settings.answer_bits // 8 * bundle.manifest.sr_bytes
        needed = bundle.manifest.lr_bytes, answer_bytes
        if needed[0] > geometry.lr_bytes or needed[1] > geometry.sr_bytes:
            raise LoadError(
                f"its tiles take {needed} bytes, the arena has room for "
                f"{(geometry.lr_bytes, geometry.sr_bytes)}; restart the service"
            )
        if len(self._rows) < self._settings.engine_processes:
            raise LoadError(f"the pool already has {len(self.children)} engine processes")

    def start(self, name: str, path: Path) -> PoolVersion:
        """Start the engine processes of a version of a model.

        Raises:
            OSError: The system has too few file descriptors for their sockets.
        """
        count = self._settings.engine_processes
        # First of all: where no file descriptors are left nothing has begun.
        addresses = [listen() for _ in range(count)]
        version = PoolVersion(name, path, next(self._version_ids))
        self.versions.add(version)
        for index, (listener, address) in enumerate(addresses):
            row = min(self._rows)
            self._rows.remove(row)
            device = self._devices.take()
            config = EngineConfig(
                name=f"engine-{row}",
                arena_fd=self._arena.fd,
                listener_fd=listener.fileno(),
                supervisor=self._supervisor,
                row=row,
                snapshot=self._first_snapshot + row,
                model=name,
                bundle=path,
                device=device,
                cpus=share_cpus(index, count) if device == "cpu" and count > 1 else None,
            )
            child = self._make_child(version, config)
            version.engines.append(EnginePlace(row, device, address, listener, child))
            self._run_child(child)
        return version

    async def retire(self, version: PoolVersion) -> None:
        """End the processes of a version once no front end is connected to them."""
        children = [engine.child for engine in version.engines]
        for child in children:
            child.is_wanted = False
        within_s = self._settings.shutdown_timeout_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._num_connections(version):  # noqa: ASYNC110 (shared memory has no events)
                    await asyncio.sleep(_LOOK_EVERY_S)
        await end_children(children, signal.SIGTERM, within_s=within_s)
        for engine in version.engines:
            engine.listener.close()
            self._rows.add(engine.row)
            self._devices.give_back(engine.device)
        self.versions.discard(version)

    def kill_hanging(self) -> None:
        """Kill processes that take too long to start, to run a batch, or to report their state."""
        timeout_s = self._settings.engine_timeout_s
        for place in self._places():
            place.child.kill_hanging_start(timeout_s)
            state = self._arena.engine_row(place.row)
            if not place.child.is_ready or not state[HEARTBEAT]:
                continue
            busy_s = max(float(state[BUSY_S]), time.monotonic() - float(state[HEARTBEAT]))
            if busy_s > timeout_s:
                log.error("engine_hangs", child=place.child.name, seconds=round(busy_s, 1))
                place.child.signal(signal.SIGKILL)

    def show(self, gauge: Gauge) -> None:
        """Set a gauge to 1 for each process that is ready, and to 0 for each that is not."""
        shown: set[tuple[str, str, str]] = set()
        for version in self.versions:
            for engine in version.engines:
                labels = engine.child.name, version.name, engine.device
                gauge.labels(*labels).set(engine.child.is_ready)
                shown.add(labels)
        for labels in self._shown - shown:
            gauge.remove(*labels)
        self._shown = shown

    def _make_child(self, version: PoolVersion, config: EngineConfig) -> Child:
        def command() -> list[str]:
            place = self.find(config.name)
            predecessor = None if place is None else place.hello
            return python_command("service.pool.engine", replace(config, predecessor=predecessor))

        def on_end() -> None:
            # Zero waits and zero connections: no front end chooses a process that is gone.
            self._arena.engine_row(config.row)[:] = 0
            drop_state(self._arena, config.snapshot)

        return Child(
            name=config.name,
            command=command,
            fds=(config.arena_fd, config.listener_fd),
            on_end=on_end,
            on_failed=functools.partial(self._on_failed, version),
            ready=asyncio.get_running_loop().create_future(),
        )

    def _num_connections(self, version: PoolVersion) -> int:
        rows = [self._arena.engine_row(engine.row) for engine in version.engines]
        return sum(int(row[CONNECTIONS]) for row in rows)

    def _places(self) -> list[EnginePlace]:
        return [engine for version in self.versions for engine in version.engines]
