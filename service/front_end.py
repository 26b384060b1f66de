"""A front end of a pool: `python -m service.front_end CONFIG`, started by the supervisor."""

import functools
import signal
import socket
import sys

from engines.process import run_and_end, signal_at_parents_end
from service.ground.logs import configure_logs
from service.ground.memory import keep_freed_memory
from service.http.app import create_app
from service.http.server import serve
from service.pool.arena import Arena
from service.pool.child_config import FrontEndConfig, read_argument
from service.pool.pool_models import PoolModels
from service.settings import Settings


def run(config: FrontEndConfig) -> int:
    """Serve until asked to stop; returns the exit code."""
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format, process=config.name)
    keep_freed_memory()
    make_host = functools.partial(
        PoolModels,
        arena=Arena.attach(config.arena_fd),
        partition=config.partition,
        snapshot=config.snapshot,
        supervisor=config.supervisor,
        name=config.name,
    )
    listener = socket.socket(fileno=config.listener_fd)
    make_app = functools.partial(create_app, settings, make_host=make_host)
    return serve(settings, listener, make_app, is_whole_service=False)


def main() -> int:
    """Read the argument and run."""
    # A stopped process (SIGSTOP) would keep the port: SIGCONT lets it end in order.
    signal_at_parents_end(signal.SIGCONT)
    return run(read_argument(FrontEndConfig, sys.argv[1]))


if __name__ == "__main__":
    run_and_end(main)
