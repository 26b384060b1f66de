"""An engine process: `python -m service.pool.engine CONFIG`, started by the supervisor.

Loads one model, proves it on its golden tile, and serves front ends until it is told to stop, its
supervisor is gone, or its engine fails.
"""

import asyncio
import functools
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import orjson
import structlog
import uvloop

from bundle_format.bundle import BundleError
from engines.process import run_and_end, signal_at_parents_end
from engines.registry import load_engine
from service.batching.batch_reporter import BatchReporter
from service.batching.batcher import Batcher
from service.batching.costs import BatchCosts
from service.ground.exit_codes import EXIT_FAILED, EXIT_OK
from service.ground.logs import configure_logs
from service.ground.memory import keep_freed_memory
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.hosting.loading import BATCH_OVERHEAD_S, LoadedModel, load_model
from service.hosting.self_test import start_self_test
from service.pool.arena import Arena
from service.pool.child_config import EngineConfig
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


class EngineProcess:
    """One engine process's life."""

    def __init__(self, config: EngineConfig, settings: Settings, model: LoadedModel) -> None:
        """Put the parts together; call on the event loop."""
        self._settings = settings
        self._model = model
        self._ended = asyncio.Event()
        self._has_failed = False
        self._is_alone = False
        self._metrics = Metrics()
        self._arena = Arena.attach(config.arena_fd)
        name = config.model
        reporter = BatchReporter(
            self._metrics,
            model=name,
            version=model.bundle.version,
            precision=model.engine.precision,
            on_loop_failure=lambda _: self._fail(),
        )
        self._batcher = Batcher(
            model.engine,
            costs=BatchCosts(model.batch_s, overhead_s=BATCH_OVERHEAD_S),
            max_queue=settings.max_queue,
            online_budget_s=settings.online_budget_ms / 1e3,
            observer=reporter,
        )
        for priority in Priority:
            depth = functools.partial(self._batcher.depth_of, priority)
            self._metrics.queue_depth.labels(priority).set_function(depth)
        self._metrics.tiles_in_flight.set_function(lambda: self._batcher.in_flight)
        self._metrics.engine_up.set(1)
        self._hello = Hello(
            model=name,
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
            self._batcher,
            hello=self._hello,
            scale=model.bundle.manifest.scale,
            row=config.row,
        )
        self._publisher = Publisher(self._arena, config.snapshot, self._metrics.registry)
        self._supervisor = SupervisorLink(
            config.supervisor, config.name, on_message=lambda _: None, on_lost=self._lose_supervisor
        )

    async def run(self) -> int:
        """Serve until the end.

        Returns:
            0 after SIGTERM, 3 after a failure, or if the supervisor is gone.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        self._batcher.start()
        self._server.start()
        self_test = start_self_test(
            self._model,
            self._batcher,
            name=self._hello.model,
            metrics=self._metrics,
            minutes=self._settings.self_test_minutes,
            on_result=self._judge,
        )
        tasks = [loop.create_task(self._publisher.run()), loop.create_task(self._tell_state())]
        batch_s = {str(size): seconds for size, seconds in self._hello.batch_s.items()}
        self._supervisor.tell(ready={**self._hello.__dict__, "batch_s": batch_s})
        log.info("engine_ready", model=self._hello.model, engine=self._hello.engine)
        await self._ended.wait()
        if self_test is not None:
            self_test.cancel()
        if not self._has_failed:
            await self._batcher.drain(self._settings.shutdown_timeout_s)
        self._server.close()
        self._listener.close()
        self._batcher.close()
        ended = await self._batcher.join(1.0)
        if ended:
            self._model.engine.close()
        self._metrics.engine_up.set(0)
        self._publisher.publish()
        self._supervisor.close()
        for task in tasks:
            task.cancel()
        return EXIT_FAILED if self._has_failed or self._is_alone else EXIT_OK

    def _lose_supervisor(self) -> None:
        """Finish what is there: front ends have clients that wait for it."""
        self._is_alone = True
        self._ended.set()

    def _fail(self) -> None:
        self._has_failed = True
        self._ended.set()

    def _judge(self, problem: str | None) -> None:
        """A wrong picture is worse than none: the next process must prove itself first."""
        if problem is not None:
            self._fail()

    async def _tell_state(self) -> None:
        while True:
            self._server.tell_state()
            await asyncio.sleep(_STATE_PERIOD_S)


def _check_same(model: LoadedModel, digest: str | None) -> None:
    """Refuse a bundle that was put in the place of the one that this process is to serve again.

    Raises:
        BundleError: It is another one. Nobody has asked for it, and answers would name the old one.
    """
    if digest not in {None, model.bundle.digest}:
        raise BundleError(
            f"it is another bundle than the one that was served ({model.bundle.version}, expected "
            f"{str(digest)[:12]}); load it, or start the service anew"
        )


def run(config: EngineConfig) -> int:
    """Load, then serve; returns the exit code."""
    keep_freed_memory()
    if config.cpus is not None:
        os.sched_setaffinity(0, config.cpus)
    changes: dict[str, Any] = {"device": config.device}
    if config.engine is not None:
        changes["engine"] = config.engine
    if config.precision is not None:
        changes["precision"] = config.precision
    settings = Settings(**changes)
    configure_logs(settings.log_level, settings.log_format, process=config.name)
    known = None
    if config.batch_s is not None:
        known = {int(size): seconds for size, seconds in config.batch_s.items()}
    try:
        with bound_to_supervisor(config.supervisor, code=EXIT_FAILED):
            model = load_model(Path(config.bundle), settings, load_engine, known_batch_s=known)
        _check_same(model, config.digest)
    except Exception as error:
        kind = type(error).__name__
        log.error("load_failed", bundle=config.bundle, error=str(error), kind=kind)  # noqa: TRY400
        report_failure(config.supervisor, config.name, f"{config.bundle}: {error}")
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
    # One that is stopped (SIGSTOP) would keep its memory: it goes on, and ends in order.
    signal_at_parents_end(signal.SIGCONT)
    return run(EngineConfig(**orjson.loads(sys.argv[1])))


if __name__ == "__main__":
    run_and_end(main)
