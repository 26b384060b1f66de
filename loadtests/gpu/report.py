"""The report of a run: rows as they are measured, within a time limit, saved after each.

A run on a rented machine ends when its time is over. So the measurements are ordered by their
value, each begins only if there is time for it, and a measurement that fails or no longer fits is a
row with the reason.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loadtests.gpu.card import describe_card
from loadtests.gpu.table import rates_note
from loadtests.machine import describe_machine
from loadtests.results import Column, Result, Row
from semsr.error_text import error_text
from semsr.whole_file import write_whole_text

Shape = tuple[Sequence[Column], Sequence[Row]]
NO_TIME = "not measured: the time was over"
_LONGEST_PROBLEM = 200
_COMMAND = (sys.executable, "-m")


class ChildError(RuntimeError):
    """A process of a measurement failed; the message is its last line, or its time limit."""


class Report:
    """Rows of a run.

    Attributes:
        rows: Rows so far.
        notes: Sentences under the table.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[Column],
        options: argparse.Namespace,
        *,
        settings: dict[str, Any],
        shape: Callable[[Sequence[Row]], Shape] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            name: Name of the result, and of its files.
            columns: Columns of the table; `problem` is added.
            options: Options of `add_options`.
            settings: Options that the table names.
            shape: Columns and rows of the table from all rows; None shows the rows themselves.
            clock: Clock in seconds.
        """
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self._name = name
        self._columns = [*columns, Column("problem", "Problem")]
        self._settings = settings
        self._folder: Path = options.out
        self._machine = {**describe_machine(), **describe_card(options.device)}
        self._shape = shape or self._plain
        self._clock = clock
        self._end_s = clock() + 60 * options.minutes

    @property
    def left_s(self) -> float:
        """Seconds until the time limit; at least 0."""
        return max(0.0, self._end_s - self._clock())

    def measure(self, about: Row, needs_s: float, measurement: Callable[[], Iterable[Row]]) -> bool:
        """Take a measurement if there is time for it, and save all rows.

        Args:
            about: Columns that name the measurement; they are put in front of its own.
            needs_s: Seconds that must be left.
            measurement: Function that returns or yields rows.

        Returns:
            Whether it succeeded.
        """
        if self.left_s < needs_s:
            self.add({**about, "problem": NO_TIME})
            return False
        try:
            for row in measurement():
                self.add({**about, **row})
        except Exception as error:  # any failure costs its own row only
            text = " ".join(error_text(error).split())
            self.add({**about, "problem": text[:_LONGEST_PROBLEM]})
            return False
        return True

    def add(self, row: Row) -> None:
        """Add a row, report it on stderr, and save all rows."""
        self.rows.append(row)
        shown = ", ".join(f"{key} {_short(value)}" for key, value in row.items())
        sys.stderr.write(f"[{self.left_s:.0f} s left] {shown}\n")
        self.save()

    def result(self) -> Result:
        """Return all present rows."""
        return self._result(self._columns, self.rows, self.notes)

    def table(self) -> str:
        """Return the present rows as Markdown."""
        notes = [note for note in (rates_note(self.rows), *self.notes) if note]
        return self._result(*self._shape(self.rows), notes).as_markdown()

    def _result(
        self, columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()
    ) -> Result:
        return Result(self._name, self._machine, self._settings, columns, rows, notes)

    def _plain(self, rows: Sequence[Row]) -> Shape:
        """Leave out rates, which are in the notes, and columns without a value."""
        shown = [row for row in rows if "rate" not in row]
        columns = [
            column
            for column in self._columns
            if any(row.get(column.key) is not None for row in shown)
        ]
        return columns, shown

    def save(self) -> None:
        """Write JSON and Markdown."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole_text(self._folder / f"{self._name}.json", self.result().as_json())
        write_whole_text(self._folder / f"{self._name}.md", self.table() + "\n")

    def finish(self) -> int:
        """Print the table; returns the exit code: 1 if no row but the rates has a figure."""
        self.save()
        sys.stdout.write(f"{self.table()}\n")
        return 0 if any({"problem", "rate"}.isdisjoint(row) for row in self.rows) else 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every script."""
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="device (default: cuda)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=5.0,
        help="time limit of the run; measurements that no longer fit are left out (default: 5)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/gpu"),
        help="folder of the table and its JSON, saved after each row (default: out/gpu)",
    )


def json_lines(module: str, arguments: Sequence[str], *, time_limit_s: float) -> Iterator[Row]:
    """Run a module in a process of its own, and yield the objects that it prints, one a line.

    Args:
        module: Module name.
        arguments: Its arguments.
        time_limit_s: Time after which the process is killed.

    Raises:
        ChildError: The process failed or was killed; the objects before were yielded.
    """
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [*_COMMAND, module, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Its own group: what it starts is ended with it.
            start_new_session=True,
        )
        is_late = threading.Event()
        timer = threading.Timer(time_limit_s, _end_late, [child, is_late])
        timer.start()
        try:
            with child.stdout or contextlib.nullcontext(()) as lines:
                for line in lines:
                    yield json.loads(line)
            child.wait()
        finally:
            timer.cancel()
            _end_group(child)
        if is_late.is_set():
            raise ChildError(f"{module} was stopped; expected its end within {time_limit_s:.0f} s")
        if child.returncode:
            errors.seek(0)
            words = errors.read().strip().splitlines()[-1:]
            raise ChildError(words[0] if words else f"{module} exited with {child.returncode}")


def _end_late(child: subprocess.Popen[str], is_late: threading.Event) -> None:
    is_late.set()
    _end_group(child)


def _end_group(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, 9)
    child.wait()


def _short(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    return str(value)
