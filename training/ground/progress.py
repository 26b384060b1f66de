"""Progress of training's long loops, shown by the command that runs them.

The loops say what they do and count their steps; a command decides where that is shown
(`shown_by`), so that nothing here knows terminals or log files. Without it they are silent.
"""

from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

_Item = TypeVar("_Item")


class Steps(Protocol):
    """The progress of one piece of work."""

    def update(self, count: int = 1) -> None:
        """Count steps that are done."""
        ...

    def say(self, note: str) -> None:
        """Show a note next to the count, such as the loss."""
        ...


class Display(Protocol):
    """Something that shows progress while a context lasts, such as `semsr.progress.progress`."""

    def __call__(
        self, what: str, total: int | None = None, *, unit: str = "step", done: int = 0
    ) -> AbstractContextManager[Steps]:
        """Show one piece of work; arguments as `progress`."""
        ...


class _Silent:
    def update(self, count: int = 1) -> None:
        pass

    def say(self, note: str) -> None:
        pass


SILENT: Steps = _Silent()
"""Shows nothing."""


@contextmanager
def _silent(
    what: str, total: int | None = None, *, unit: str = "step", done: int = 0
) -> Iterator[Steps]:
    del what, total, unit, done
    yield SILENT


_display: ContextVar[Display] = ContextVar("training_progress_display", default=_silent)


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Show the progress of everything that runs in this context."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


def progress(
    what: str, total: int | None = None, *, unit: str = "step", done: int = 0
) -> AbstractContextManager[Steps]:
    """Show one piece of work while a context lasts.

    Args:
        what: Noun or participle that names the work, such as "reading images".
        total: Number of steps; None where it is unknown.
        unit: Singular noun of a step.
        done: Steps that an earlier run has done.
    """
    return _display.get()(what, total, unit=unit, done=done)


def tracked(
    items: Iterable[_Item], what: str, *, total: int | None = None, unit: str = "tile"
) -> Iterator[_Item]:
    """Yield items and count each one when the next is requested; arguments as `progress`."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(what, total, unit=unit) as steps:
        for item in items:
            yield item
            steps.update()
