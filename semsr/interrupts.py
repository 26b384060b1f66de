"""Handling of SIGTERM in those parts of a command that have no handler of their own."""

import contextlib
import signal
import threading
from collections.abc import Generator
from typing import NoReturn


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


@contextlib.contextmanager
def sigterm_interrupts() -> Generator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does; restore the old handler at the end.

    Only the main thread can set handlers: in other threads this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
