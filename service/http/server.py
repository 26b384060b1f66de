"""One app on one listening socket, by uvicorn, until a signal ends it."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Generator
from types import FrameType
from typing import cast

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engines.process import STOP_SIGNALS
from service.ground.exit_codes import EXIT_FAILED, EXIT_FORCED, EXIT_OK
from service.ground.listening import BACKLOG, url_of
from service.ground.logs import say_ready
from service.hosting.lifecycle import Lifecycle, State
from service.http.app import Application
from service.http.direct_protocol import http_protocol
from service.settings import Settings

log = structlog.get_logger()


class DrainingServer(uvicorn.Server):
    """uvicorn, with a pause between SIGTERM and the end, so that load balancers redirect first.

    After SIGTERM, `/readyz` returns 503 while requests are served for `drain_s`. Then the listening
    socket closes, requests in flight are finished, and the process ends with code 0. SIGINT skips
    the pause. A second signal ends the process at once, with code 5.
    """

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, *, is_whole_service: bool
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._is_whole_service = is_whole_service
        self._signals = 0
        self._ready: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take SIGINT and SIGTERM, and keep them to the end of the process."""
        self._loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            signal.signal(number, self.handle_exit)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, accept connections, and log the address.

        uvicorn's own method does the same, but limits TLS handshakes only to asyncio's minute.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            # Its error is in the log.
            self._lifecycle.fail("the application did not start")
            return
        config = self.config

        def make_protocol() -> asyncio.Protocol:
            return cast("type[HttpToolsProtocol]", config.http_protocol_class)(
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        handshake_s = self._lifecycle.settings.head_timeout_s if config.ssl else None
        self.servers = []
        for listener in sockets or []:
            server = await self._loop.create_server(
                make_protocol,
                sock=listener,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=handshake_s,
            )
            self.servers.append(server)
            host, port = listener.getsockname()[:2]
            log.info("listening", host=host, port=port, state=self._lifecycle.state)
        self.started = True
        if self._is_whole_service and sockets:
            self._ready = self._loop.create_task(self._say_ready(sockets[0]))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Act on SIGTERM and SIGINT."""
        self._signals += 1
        if self._signals > 1:
            # A second signal means that no part is to be waited for.
            os._exit(EXIT_FORCED)
        drain_s = self._lifecycle.settings.drain_s if sig == signal.SIGTERM else 0.0
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            self._loop.call_soon_threadsafe(self._drain, drain_s)

    async def _say_ready(self, listener: socket.socket) -> None:
        await self._lifecycle.wait_loaded()
        if self._lifecycle.state is State.READY:
            settings = self._lifecycle.settings
            say_ready(url_of(listener, is_tls=self.config.is_ssl), settings.log_format)

    def _drain(self, drain_s: float) -> None:
        wait_s = self._lifecycle.begin_drain(drain_s)
        asyncio.get_running_loop().call_later(wait_s, self._exit)

    def _exit(self) -> None:
        self.should_exit = True


def serve(
    settings: Settings,
    listener: socket.socket,
    make_app: Callable[..., Application],
    *,
    is_whole_service: bool,
) -> int:
    """Serve an app until it is stopped.

    Args:
        settings: The service's settings.
        listener: Socket for clients; closed at the end.
        make_app: Factory of the app; its argument `on_failure` ends the service.
        is_whole_service: Whether it is ready when this process is; then the log says so.

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
        http=http_protocol(
            head_timeout_s=settings.head_timeout_s,
            send_timeout_s=settings.send_timeout_s,
            direct=app.direct,
        ),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        # The default believes X-Forwarded-For of any client on this machine.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies or ()),
        timeout_keep_alive=75,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s)),
    )
    server = DrainingServer(config, app.lifecycle, is_whole_service=is_whole_service)
    with listener:
        server.run(sockets=[listener])
    return EXIT_FAILED if app.lifecycle.has_failed else EXIT_OK
