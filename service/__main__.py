"""`python -m service`: settings, one uvicorn process, an exit code that means something."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from types import FrameType

import structlog
import uvicorn
from pydantic import ValidationError

from service.access import KeyFileError
from service.app import create_app
from service.http_protocol import bounded_protocol
from service.lifecycle import Lifecycle
from service.logs import configure_logs
from service.memory import keep_freed_memory
from service.settings import Settings, unknown_variables

log = structlog.get_logger()

EXIT_OK = 0
EXIT_CONFIGURATION = 2
EXIT_FAILED = 3
EXIT_ADDRESS = 4
EXIT_FORCED = 5


class TlsError(ValueError):
    """A certificate or key that cannot be used."""


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


def run(settings: Settings) -> int:
    """Serve until told to stop.

    Returns:
        0 after a graceful stop, 3 if the model could not be loaded or its engine loop has died,
        4 if the address is taken.
    """
    configure_logs(settings.log_level, settings.log_format)
    keep_freed_memory()
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        log.error(  # noqa: TRY400 (a trace would say nothing that the reason does not)
            "cannot_listen", host=settings.host, port=settings.port, error=str(error)
        )
        return EXIT_ADDRESS
    server: DrainingServer | None = None

    def stop() -> None:
        if server is not None:
            server.should_exit = True

    try:
        app = create_app(settings, on_failure=stop)
        _check_tls(settings)
    except (KeyFileError, TlsError) as error:
        log.error("cannot_serve", error=str(error))  # noqa: TRY400 (as above)
        listener.close()
        return EXIT_CONFIGURATION
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


def _check_tls(settings: Settings) -> None:
    """Refuse a certificate that cannot be used before anything is loaded.

    Raises:
        TlsError: One of certificate and key is missing, or they cannot be used.
    """
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return
    if cert is None or key is None:
        raise TlsError("SEMSR_TLS_CERT and SEMSR_TLS_KEY are set together or not at all")
    try:
        # A function as password: a key that is encrypted must not ask on a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"SEMSR_TLS_CERT {cert} and SEMSR_TLS_KEY {key}: {error}") from error


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything is loaded, so that a taken port is known at once."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def main() -> int:
    """Read the settings from the environment and serve."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "SEMSR_" + "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"{name}: {problem['msg']} (found {problem['input']!r})\n")
        return EXIT_CONFIGURATION
    unknown = unknown_variables(os.environ)
    if unknown:
        known = ", ".join(f"SEMSR_{name.upper()}" for name in Settings.model_fields)
        sys.stderr.write(f"unknown settings: {', '.join(unknown)}; known ones are {known}\n")
        return EXIT_CONFIGURATION
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
