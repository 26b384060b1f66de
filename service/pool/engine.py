"""An engine process: `python -m service.pool.engine CONFIG`, started by the supervisor.

The process loads one model, proves it on its golden tile, and serves front ends. It ends when it is
asked to stop, when its supervisor is gone, or when its engine fails.
"""

import asyncio
import functools
import os
import signal
import socket
import sys
from typing import Any

import structlog
import uvloop

from bundle_format.bundle import BundleError
from engines.process import run_and_end, signal_at_parents_end
from engines.registry import load_engine
from service.ground.exit_codes import EXIT_FAILED, EXIT_OK
from service.ground.logs import configure_logs
from service.ground.memory import keep_freed_memory
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.hosting.loading import LoadedModel, load_model
from service.hosting.working_model import WorkingModel
from service.pool.arena import Arena
from service.pool.child_config import EngineConfig, read_argument
from service.pool.control import EngineReady
from service.pool.engine_server import EngineServer
from service.pool.messages import Hello
from service.pool.processes import (
    Publisher,
    SupervisorLink,
    bound_to_supervisor,
    report_failure,
)
from service.settings import Settings

log = structlog.get_logger()

_STATE_PERIOD_S = 0.25
# Failed batches in a row after which the process ends. A card that fails every call answers sooner
# than a sound one works, and would draw all tiles; some faults end only with the process.
_MAX_FAILED_BATCHES = 3


class EngineProcess:
    """The life of one engine process."""

    def __init__(self, config: EngineConfig, settings: Settings, model: LoadedModel) -> None:
        """Put the parts together; call on the event loop."""
        self._settings = settings
        self._ended = asyncio.Event()
        self._has_failed = False
        self._is_alone = False
        self._failed_batches = 0
        self._metrics = Metrics()
        self._arena = Arena.attach(config.arena_fd)
        self._working = WorkingModel(
            model,
            settings,
            self._metrics,
            name=config.model,
            on_failure=self._fail,
            on_batch=self._count_failures,
            on_self_test=self._judge,
        )
        batcher = self._working.batcher
        for priority in Priority:
            depth = functools.partial(batcher.depth_of, priority)
            self._metrics.queue_depth.labels(priority).set_function(depth)
        self._metrics.tiles_in_flight.set_function(lambda: batcher.in_flight)
        self._metrics.engine_up.set(1)
        self._hello = Hello(
            model=config.model,
            version=model.bundle.version,
            digest=model.bundle.digest,
            engine=model.engine.name,
            precision=model.engine.precision,
            batch_s=model.batch_s,
        )
        self._listener = socket.socket(fileno=config.listener_fd)
        self._server = EngineServer(
            self._listener,
            self._arena,
            batcher,
            hello=self._hello,
            engine=model.engine,
            row=config.row,
        )
        self._publisher = Publisher(self._arena, config.snapshot, self._metrics.registry)
        self._supervisor = SupervisorLink(
            config.supervisor, config.name, on_lost=self._lose_supervisor
        )

    async def run(self) -> int:
        """Serve until the end.

        Returns:
            0 after SIGTERM, 3 after a failure, or if the supervisor is gone.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        self._server.start()
        tasks = [loop.create_task(self._publisher.run()), loop.create_task(self._tell_state())]
        self._supervisor.send(EngineReady(self._hello))
        log.info("engine_ready", model=self._hello.model, engine=self._hello.engine)
        await self._ended.wait()
        if not self._has_failed:
            await self._working.drain(self._settings.shutdown_timeout_s)
        self._server.close()
        self._listener.close()
        await self._working.close(1.0)
        self._metrics.engine_up.set(0)
        self._publisher.publish()
        self._supervisor.close()
        for task in tasks:
            task.cancel()
        return EXIT_FAILED if self._has_failed or self._is_alone else EXIT_OK

    def _lose_supervisor(self) -> None:
        """Finish the queued tiles, because clients still wait for them, and end."""
        self._is_alone = True
        self._ended.set()

    def _fail(self) -> None:
        self._has_failed = True
        self._ended.set()

    def _count_failures(self, failed: bool) -> None:
        """End after several failed batches in a row; the successor proves itself first."""
        self._failed_batches = self._failed_batches + 1 if failed else 0
        if self._failed_batches == _MAX_FAILED_BATCHES:
            log.error("engine_fails", model=self._hello.model, batches=_MAX_FAILED_BATCHES)
            self._fail()

    def _judge(self, problem: str | None) -> None:
        """End after a failed self-test: a wrong picture is worse than none."""
        if problem is not None:
            self._fail()

    async def _tell_state(self) -> None:
        while True:
            self._server.tell_state()
            await asyncio.sleep(_STATE_PERIOD_S)


def _check_same(model: LoadedModel, predecessor: Hello | None) -> None:
    """Refuse a bundle that differs from the one that the previous process served.

    Raises:
        BundleError: The bundle differs. No admin has loaded it, and answers would name the old one.
    """
    if predecessor is not None and predecessor.digest != model.bundle.digest:
        raise BundleError(
            f"it is another bundle than the one that was served ({model.bundle.version}, expected "
            f"{predecessor.version}); load it, or restart the service"
        )


def run(config: EngineConfig) -> int:
    """Load, then serve; returns the exit code."""
    keep_freed_memory()
    if config.cpus is not None:
        os.sched_setaffinity(0, config.cpus)
    changes: dict[str, Any] = {"device": config.device}
    predecessor, known_batch_s = config.predecessor, None
    if predecessor is not None:
        changes |= {"engine": predecessor.engine, "precision": predecessor.precision}
        known_batch_s = predecessor.batch_s
    settings = Settings(**changes)
    configure_logs(settings.log_level, settings.log_format, process=config.name)
    bundle = str(config.bundle)
    try:
        with bound_to_supervisor(config.supervisor, code=EXIT_FAILED):
            model = load_model(config.bundle, settings, load_engine, known_batch_s=known_batch_s)
        _check_same(model, predecessor)
    except Exception as error:
        kind = type(error).__name__
        log.error("load_failed", bundle=bundle, error=str(error), kind=kind)  # noqa: TRY400
        where = "" if config.device == "cpu" else f" on {config.device}"
        report_failure(config.supervisor, config.name, f"{bundle}{where}: {error}")
        return EXIT_FAILED

    async def serve() -> int:
        try:
            process = EngineProcess(config, settings, model)
        except OSError as error:
            log.error("supervisor_gone", error=str(error))  # noqa: TRY400
            return EXIT_FAILED
        return await process.run()

    return uvloop.run(serve())


def main() -> int:
    """Read the argument and run."""
    # A stopped process (SIGSTOP) would keep its memory: SIGCONT lets it end in order.
    signal_at_parents_end(signal.SIGCONT)
    return run(read_argument(EngineConfig, sys.argv[1]))


if __name__ == "__main__":
    run_and_end(main)
