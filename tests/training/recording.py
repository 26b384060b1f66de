"""A display of training's progress that keeps what it is given to show."""

from collections.abc import Iterator
from contextlib import contextmanager

from training.ground.progress import Steps


class Recorder:
    """Keeps what it is given to show."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def __call__(
        self, what: str, total: int | None = None, *, unit: str = "step", done: int = 0
    ) -> Iterator[Steps]:
        """Record one piece of work: its name, and its count at the end."""
        counted = Counted(done)
        yield counted
        self.lines.append(f"{what}: {counted.done} of {total} {unit}")


class Counted:
    """Counts."""

    def __init__(self, done: int) -> None:
        self.done = done

    def update(self, count: int = 1) -> None:
        """Count steps."""
        self.done += count

    def say(self, note: str) -> None:
        """Ignore notes."""
