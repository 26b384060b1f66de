"""Starts the service: checks the files that the settings name, then serves."""

import functools
import os
import ssl

import structlog

from engines.cpu import available_cpus
from service.ground.exit_codes import EXIT_ADDRESS, EXIT_CONFIGURATION
from service.ground.listening import listen
from service.ground.memory import keep_freed_memory
from service.hosting.front_ends import num_front_ends
from service.http.access import KeyFileError, read_keys
from service.http.app import create_app
from service.http.server import serve
from service.http.tracing import TracingError, check_tracing
from service.pool.supervisor import run_pool
from service.scan_jobs.database import PostgresDatabase
from service.scans.errors import MissingExtraError
from service.settings import Settings

log = structlog.get_logger()


class TlsError(ValueError):
    """A certificate or key that cannot be used."""


class FolderError(ValueError):
    """A folder that cannot be used."""


def run(settings: Settings) -> int:
    """Serve until stopped; returns the exit code."""
    keep_freed_memory()
    try:
        _check(settings)
    except (KeyFileError, TlsError, FolderError, TracingError, MissingExtraError) as error:
        log.error("cannot_serve", error=str(error))  # noqa: TRY400 (the reason says it all)
        return EXIT_CONFIGURATION
    try:
        listeners = listen(
            settings.host, settings.port, count=num_front_ends(settings, available_cpus())
        )
    except OSError as error:
        log.error(  # noqa: TRY400 (as above)
            "cannot_listen", host=settings.host, port=settings.port, error=str(error)
        )
        return EXIT_ADDRESS
    if settings.mode == "pool":
        return run_pool(settings, listeners)
    make_app = functools.partial(create_app, settings)
    return serve(settings, listeners[0], make_app, is_whole_service=True)


def _check(settings: Settings) -> None:
    """Refuse unusable files, folders and packages of the settings before anything is loaded.

    Raises:
        KeyFileError: The file of API keys cannot be used.
        TlsError: Certificate and key cannot be used.
        FolderError: The folder for uploads, or for pictures of a shadow, cannot be used.
        TracingError: Traces cannot be sent.
        MissingExtraError: The database of scans needs a package.
    """
    if settings.api_keys is not None:
        read_keys(settings.api_keys)
    _check_tls(settings)
    for name, folder in (
        ("SEMSR_SPOOL_DIR", settings.spool_dir),
        ("SEMSR_SHADOW_PICTURES", settings.shadow_pictures),
    ):
        if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise FolderError(f"{name} {folder}: expected a folder that can be written to")
    check_tracing(settings)
    if settings.scan_database is not None:
        # Whether the database answers shows later.
        PostgresDatabase(settings.scan_database.get_secret_value())


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
        # A function as password: an encrypted key must not prompt on a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"SEMSR_TLS_CERT {cert} and SEMSR_TLS_KEY {key}: {error}") from error
