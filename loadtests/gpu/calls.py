"""Calls of an engine alone, as measurements of a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtests.alone.engine import EngineTurns
from loadtests.gpu.floor import share_of_floor
from loadtests.results import Row


@dataclass(frozen=True)
class Call:
    """A way to call an engine.

    Attributes:
        callers: Number of concurrent callers.
        is_registered: Whether their memory is registered.
        seconds: Time for a batch size.
        found: Limits by name.
    """

    callers: int
    is_registered: bool
    seconds: float
    found: Mapping[str, float]

    def on(self, alone: EngineTurns, batch: int) -> Callable[[], Sequence[Row]]:
        """Return the measurement of a batch size."""

        def measure() -> Sequence[Row]:
            turn = alone.run(
                2,
                seconds=self.seconds,
                batch=batch,
                callers=self.callers,
                registered=self.is_registered,
            )
            share = share_of_floor(turn.tiles_per_s, self.found)
            return [{"tiles_per_s": turn.tiles_per_s, "ms": turn.ms, **share}]

        return measure
