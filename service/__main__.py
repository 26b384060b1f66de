"""`python -m service`: settings, one process or a pool of them, an exit code that means something.

0  stopped as asked          4  the address is taken
2  a setting is wrong        5  stopped by a second signal
3  the models could not, or can no longer, be served
"""

import functools
import os
import socket
import ssl
import sys

import structlog
from pydantic import ValidationError

from service.access import KeyFileError, read_keys
from service.app import create_app
from service.engines.cpu import available_cpus
from service.logs import configure_logs
from service.memory import keep_freed_memory
from service.pool.supervisor import run_pool
from service.scan_jobs.database import PostgresDatabase
from service.scans.errors import MissingExtraError
from service.server import serve
from service.settings import Settings, unknown_variables
from service.tracing import TracingError, check_tracing

log = structlog.get_logger()

EXIT_CONFIGURATION = 2
EXIT_ADDRESS = 4

# More front ends than that, and the engine is what is waited for.
_MAX_FRONT_ENDS = 4
# Settings whose values must not be seen: a URL may hold a password.
_SECRETS = frozenset({"SEMSR_SCAN_DATABASE"})


class TlsError(ValueError):
    """A certificate or key that cannot be used."""


def run(settings: Settings) -> int:
    """Serve until told to stop; returns the exit code."""
    is_pool = settings.mode == "pool"
    configure_logs(
        settings.log_level, settings.log_format, process="supervisor" if is_pool else None
    )
    keep_freed_memory()
    try:
        listeners = _listen(settings.host, settings.port, count=_num_front_ends(settings))
    except OSError as error:
        log.error(  # noqa: TRY400 (a trace would say nothing that the reason does not)
            "cannot_listen", host=settings.host, port=settings.port, error=str(error)
        )
        return EXIT_ADDRESS
    try:
        if settings.api_keys is not None:
            read_keys(settings.api_keys)
        _check_tls(settings)
        check_tracing(settings)
        if settings.scan_database is not None:
            # Says so if its package is not installed; whether it answers is seen later.
            PostgresDatabase(settings.scan_database.get_secret_value())
    except (KeyFileError, TlsError, TracingError, MissingExtraError) as error:
        log.error("cannot_serve", error=str(error))  # noqa: TRY400 (as above)
        return EXIT_CONFIGURATION
    if is_pool:
        return run_pool(settings, listeners)
    return serve(settings, listeners[0], functools.partial(create_app, settings))


def _num_front_ends(settings: Settings) -> int:
    if settings.mode == "single":
        return 1
    return settings.front_ends or max(1, min(_MAX_FRONT_ENDS, available_cpus() // 2))


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


def _listen(host: str, port: int, *, count: int) -> list[socket.socket]:
    """Bind before anything is loaded, so that a taken port is known at once.

    Several sockets share the address, and the kernel deals connections out to them; each front end
    has its own, so that one that is busy takes no more than its share.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listeners: list[socket.socket] = []
    with socket.socket(family, kind, protocol) as probe:
        # Sockets that share would also share with another service of the same user.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    try:
        for _ in range(count):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            # With port 0 the first one is given one, and the others take the same.
            address = listener.getsockname()
            if count > 1:
                listener.listen(2048)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def main() -> int:
    """Read the settings from the environment and serve."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "SEMSR_" + "_".join(str(part) for part in problem["loc"]).upper()
            found = "" if name in _SECRETS else f" (found {problem['input']!r})"
            sys.stderr.write(f"{name}: {problem['msg']}{found}\n")
        return EXIT_CONFIGURATION
    unknown = unknown_variables(os.environ)
    if unknown:
        known = ", ".join(f"SEMSR_{name.upper()}" for name in Settings.model_fields)
        sys.stderr.write(f"unknown settings: {', '.join(unknown)}; known ones are {known}\n")
        return EXIT_CONFIGURATION
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
