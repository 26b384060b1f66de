"""Structured logs: JSON lines in containers, readable lines on a terminal.

The event name is a constant and the data are keywords. Image bytes never reach a log.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import IO, Any, BinaryIO, Literal, TextIO, cast

import orjson
import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


Form = Literal["auto", "json", "console"]


def configure_logs(
    level: Literal["debug", "info", "warning", "error"],
    form: Form,
    *,
    process: str | None = None,
) -> None:
    """Set structlog up once for the process; logs go to stderr.

    Args:
        level: Least severe level that is written.
        form: Format: json, console, or auto (console if stderr is a terminal).
        process: Name of this process in every line, or None for no name.
    """

    def name_process(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if process is not None:
            event.setdefault("process", process)
        return event

    console = _is_console(form)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        name_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if console:
        structlog.configure(
            # Plain traces: the default ones print local variables, and those are pictures.
            processors=[
                *shared[:-1],
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(),
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Unbreakable(sys.stderr))),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.processors.JSONRenderer(serializer=orjson.dumps)],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            logger_factory=structlog.BytesLoggerFactory(
                cast("BinaryIO", _Unbreakable(sys.stderr.buffer))
            ),
            cache_logger_on_first_use=True,
        )
    # uvicorn and libraries log through the standard module; only their warnings matter here, and
    # they must not break the format.
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)


def say_ready(url: str, form: Form) -> None:
    """Log that the service is ready, with its URL; a console also gets a sentence.

    Args:
        url: URL of the service for a browser.
        form: Format, as for `configure_logs`.
    """
    structlog.get_logger().info("serving", url=url)
    if _is_console(form):
        _Unbreakable(sys.stderr).write(f"Ready: open {url} in a browser; Ctrl-C ends the service\n")


def _is_console(form: Form) -> bool:
    return form == "console" or (form == "auto" and sys.stderr.isatty())


class LineBudget:
    """Limits the log lines of one kind per second, and counts the lines left out."""

    def __init__(self, per_s: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._second = -1
        self._written = 0
        self._skipped = 0

    def take(self) -> int | None:
        """Request to write one line.

        Returns:
            Number of lines left out since the last written one; None if this line is left out.
        """
        second = int(self._clock())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= self._per_s:
            self._skipped += 1
            return None
        self._written += 1
        skipped, self._skipped = self._skipped, 0
        return skipped


class _Unbreakable:
    """A stream that ignores failed writes, so that a log on a full disk fails no request.

    It also ignores the ValueError of a closed stream.
    """

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream

    def write(self, text: str | bytes) -> int:
        """Write, and ignore errors."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        """Flush, and ignore errors."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Forward(logging.Handler):
    """Passes the records of the standard module `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            max(record.levelno, logging.WARNING),
            "library_message",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )
