"""Feed of batches to a method, made in the training process or ahead in worker processes.

A method adds each of its samplers to the run's feed and draws batches from the returned `Fed`.
While the training loop runs, worker processes, if any, prepare each sampler's batch of the current
step ahead of time (`data.prefetch`). Batches of other steps, such as for pictures, are made in the
training process. Both ways give the same bits.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from training.data.prefetch import Prefetch

Batch = TypeVar("Batch", covariant=True)


class Sampler(Protocol[Batch]):
    """Sampler that draws a batch in two stages, each a function of its arguments alone.

    Attributes:
        batch_size: Crops of a batch.
    """

    batch_size: int

    def make(self, step: int) -> Any:  # noqa: ANN401 - what `finish` takes; it can be pickled
        """Draw the data of a step's batch; may run in another process."""
        ...

    def finish(self, made: Any) -> Batch:  # noqa: ANN401 - what `make` returned
        """Turn the result of `make` into the batch; runs in the training process."""
        ...


class Feed:
    """Source of a run's batches.

    Args:
        workers: Number of processes that make batches ahead; with 0, none are made ahead.

    Attributes:
        seconds: Time that the steps so far have waited for their batches.
    """

    def __init__(self, *, workers: int = 0) -> None:
        self.workers = workers
        self.seconds = 0.0
        self._samplers: dict[str, Sampler[Any]] = {}
        self._prefetch: Prefetch | None = None
        self._step: int | None = None
        self._taken: set[str] = set()

    def add(self, name: str, sampler: Sampler[Batch]) -> "Fed[Batch]":
        """Register a sampler; return the object from which the method draws its batches.

        Args:
            name: Name of its batches within the run.
            sampler: Sampler that makes them.

        Raises:
            ValueError: The name is taken.
        """
        if name in self._samplers:
            raise ValueError(f"two samplers of the name {name!r} in one run")
        self._samplers[name] = sampler
        return Fed(self, name, sampler)

    @contextmanager
    def running(self, first: int, last: int) -> Iterator[None]:
        """Run the workers within a context.

        Args:
            first: First step.
            last: Step after the last one.
        """
        # A part of the batch that a recipe leaves empty is never drawn.
        used = {name: of for name, of in self._samplers.items() if of.batch_size}
        if not (self.workers and used and first < last):
            yield
            return
        with Prefetch(
            {name: sampler.make for name, sampler in used.items()},
            workers=self.workers,
            first=first,
            last=last,
            label=lambda step: f"the batch of step {step + 1}",
        ) as self._prefetch:
            try:
                yield
            finally:
                self._prefetch = None

    def begin(self, step: int) -> None:
        """Set the current step."""
        self._step = step
        self._taken.clear()

    def end(self) -> None:
        """End the current step; batches are then made in the training process."""
        self._step = None

    def made(self, name: str, step: int) -> Any:  # noqa: ANN401 - see `Sampler`
        """Return the result of a sampler's `make`, from the workers if they make it."""
        if self._prefetch is None or step != self._step or name in self._taken:
            return self._samplers[name].make(step)
        self._taken.add(name)
        return self._prefetch.take(name, step)

    def draw(self, sampler: "Fed[Batch]", step: int) -> Batch:
        """Return a batch; for the current step, add the time to `seconds`."""
        started = time.perf_counter()
        batch = sampler.sampler.finish(self.made(sampler.name, step))
        if step == self._step:
            self.seconds += time.perf_counter() - started
        return batch


class Fed(Generic[Batch]):
    """A sampler whose batches come from the feed.

    Attributes:
        name: Name of its batches.
        sampler: Sampler that makes them.
    """

    def __init__(self, feed: Feed, name: str, sampler: Sampler[Batch]) -> None:
        self.name = name
        self.sampler = sampler
        self._feed = feed

    @property
    def batch_size(self) -> int:
        """Crops of a batch."""
        return self.sampler.batch_size

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        return self._feed.draw(self, step)
