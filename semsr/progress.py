"""Progress of a long command: a bar on a terminal, lines in a pipe or a log file.

Everything goes to stderr. A terminal gets a tqdm bar whose clock also runs during a long
step. A pipe or file gets a line at the start, one every 10 seconds and one at the end, so that a
job's log shows the progress.

The clock is a daemon thread: do not fork a process inside a `progress` block (spawn is safe).
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TextIO, TypeVar

from tqdm import tqdm

LINE_PERIOD_S = 10.0
"""Time between two lines in a pipe, seconds."""
_REFRESH_S = 1.0

Item = TypeVar("Item")


class Progress(Protocol):
    """The progress of one piece of work."""

    def update(self, count: int = 1) -> None:
        """Count finished steps."""
        ...

    def say(self, note: str) -> None:
        """Show the current item, such as a file's name."""
        ...

    def grow(self, count: int) -> None:
        """Add steps that were not known at the start to the total."""
        ...


@contextlib.contextmanager
def progress(
    what: str,
    total: int | None = None,
    *,
    unit: str = "step",
    done: int = 0,
    stream: TextIO | None = None,
    period_s: float = LINE_PERIOD_S,
) -> Iterator[Progress]:
    """Show progress until the block ends.

    Args:
        what: Noun or participle that names the work, such as `bench` or `estimating the noise`.
        total: Number of steps; None where it is unknown.
        unit: Singular noun of a step.
        done: Steps that an earlier run has done.
        stream: Output stream; None takes the `sys.stderr` of the moment of the call.
        period_s: Time between two lines where the stream is not a terminal, seconds.
    """
    target: TextIO = sys.stderr if stream is None else stream
    view: _Bar | _Lines
    if target.isatty():
        view, beat_s = _Bar(what, total, unit, done, target), _REFRESH_S
    else:
        view, beat_s = _Lines(what, total, unit, done, target), period_s
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(beat_s):
            view.beat()

    clock = threading.Thread(target=beat, name="semsr-progress", daemon=True)
    clock.start()
    is_whole = False
    try:
        yield view
        is_whole = True
    finally:
        ended.set()
        clock.join()
        view.close(is_whole=is_whole)


def tracked(
    items: Iterable[Item],
    what: str,
    *,
    total: int | None = None,
    unit: str = "step",
    stream: TextIO | None = None,
) -> Iterator[Item]:
    """Yield items, and count each one when the next is requested; arguments as for `progress`."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with progress(what, total, unit=unit, stream=stream) as steps:
        for item in items:
            yield item
            steps.update()


def duration(seconds: float) -> str:
    """Write seconds for people: `8 s`, `3 min 14 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _Bar:
    """A tqdm bar."""

    def __init__(self, what: str, total: int | None, unit: str, done: int, stream: TextIO) -> None:
        without_steps = total is None and not done
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=what,
            unit=unit,
            file=stream,
            dynamic_ncols=True,
            bar_format="{desc}: {elapsed}{postfix}" if without_steps else None,
        )

    def update(self, count: int = 1) -> None:
        self._bar.update(count)

    def say(self, note: str) -> None:
        self._bar.set_postfix_str(note)

    def grow(self, count: int) -> None:
        self._bar.total = (self._bar.total or 0) + count
        self._bar.refresh()

    def beat(self) -> None:
        self._bar.refresh()

    def close(self, *, is_whole: bool) -> None:
        self._bar.close()


class _Lines:
    """A line at the start, one at every beat, one at the end."""

    def __init__(self, what: str, total: int | None, unit: str, done: int, stream: TextIO) -> None:
        self._what, self._total, self._unit, self._stream = what, total, unit, stream
        self._before = self._done = done
        self._note = ""
        self._started_s = time.monotonic()
        known = "" if total is None else f": {_count(total, unit)}"
        self._write(f"{what}{known}" + (f", {done} done before" if done else ""))

    def update(self, count: int = 1) -> None:
        self._done += count

    def say(self, note: str) -> None:
        self._note = note

    def grow(self, count: int) -> None:
        self._total = (self._total or 0) + count

    def beat(self) -> None:
        passed_s = time.monotonic() - self._started_s
        parts = [f"{self._amount()} after {duration(passed_s)}"]
        fresh = self._done - self._before
        if self._total is not None and fresh > 0 and self._done < self._total:
            left_s = passed_s / fresh * (self._total - self._done)
            parts.append(f"about {duration(left_s)} left")
        if self._note:
            parts.append(self._note)
        self._write(f"{self._what}: {', '.join(parts)}")

    def close(self, *, is_whole: bool) -> None:
        passed = duration(time.monotonic() - self._started_s)
        verb = "done" if is_whole else "stopped"
        self._write(f"{self._what}: {verb}, {self._amount()} after {passed}")

    def _amount(self) -> str:
        if self._total is not None:
            return f"{self._done} of {_count(self._total, self._unit)}"
        return _count(self._done, self._unit) if self._done else "at work"

    def _write(self, line: str) -> None:
        # A closed pipe (`… 2>&1 | head`) must not end the work.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()


def _count(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'' if count == 1 else 's'}"
