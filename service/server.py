"""One app on one listening socket, by uvicorn, until a signal ends it."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn

from service.app import Application
from service.http_protocol import bounded_protocol
from service.lifecycle import Lifecycle
from service.settings import Settings

log = structlog.get_logger()

EXIT_OK = 0
EXIT_FAILED = 3
EXIT_FORCED = 5


class DrainingServer(uvicorn.Server):
    """uvicorn, with a pause between SIGTERM and the end so that load balancers turn away first.

    SIGTERM: `/readyz` says 503, requests are still served for `drain_s`, then the listening socket
    closes, what is under way is finished, and the process ends with 0. SIGINT skips the pause. A
    second signal ends at once, with 5.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then say where."""
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                log.info("listening", host=host, port=port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Act on SIGTERM and SIGINT."""
        self._signals += 1
        if self._signals > 1:
            # Whoever signals twice wants no more waiting, whichever part it is that waits.
            os._exit(EXIT_FORCED)
        drain_s = self._lifecycle.settings.drain_s if sig == signal.SIGTERM else 0.0
        asyncio.get_event_loop().call_soon_threadsafe(self._drain, drain_s)

    def _drain(self, drain_s: float) -> None:
        wait_s = self._lifecycle.begin_drain(drain_s)
        asyncio.get_running_loop().call_later(wait_s, self._exit)

    def _exit(self) -> None:
        self.should_exit = True


def serve(
    settings: Settings,
    listener: socket.socket,
    make_app: Callable[..., Application],
) -> int:
    """Serve an app until told to stop.

    Args:
        settings: The service's settings.
        listener: Where clients connect; closed at the end.
        make_app: Makes the app; its argument `on_failure` ends the service.

    Returns:
        0 after a graceful stop, 3 if the models could not, or can no longer, be served.
    """
    server: DrainingServer | None = None

    def stop() -> None:
        if server is not None:
            server.should_exit = True

    app = make_app(on_failure=stop)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=bounded_protocol(
            head_timeout_s=settings.head_timeout_s, send_timeout_s=settings.send_timeout_s
        ),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=75,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s)),
    )
    server = DrainingServer(config, app.lifecycle)
    with listener:
        server.run(sockets=[listener])
    return EXIT_FAILED if app.lifecycle.has_failed else EXIT_OK
