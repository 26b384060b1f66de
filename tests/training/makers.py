"""Makers for worker processes: they need a module that a spawned process can import."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Makes noise of a seed and a number, added to an array; fails or dies where it is asked to."""

    seed: int = 0
    base: NDArray[np.float64] | None = None
    fails_at: int = -1
    dies_at: int = -1
    raised: type[Exception] = ValueError

    def __call__(self, number: int) -> NDArray[np.float64]:
        """Return (3,) float64."""
        if number == self.fails_at:
            raise self.raised(f"no noise at {number}")
        if number == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        noise = np.random.default_rng((self.seed, number)).standard_normal(3)
        return noise if self.base is None else noise + self.base[:3]


class UnpicklableError(Exception):
    """An error that cannot be pickled, as it holds a lock of its process."""

    def __reduce__(self) -> str:
        raise TypeError("cannot be pickled")


@dataclass(frozen=True, kw_only=True)
class Gated:
    """Says in a file that it began, and waits until another file is there."""

    folder: Path

    def __call__(self, number: int) -> int:
        """Return the number."""
        (self.folder / f"began-{number}").touch()
        while not (self.folder / "go").exists():
            time.sleep(0.01)
        return number


@dataclass(kw_only=True)
class NoiseSampler:
    """A sampler of noise that says in which process the first half of a batch was made."""

    noise: Noise
    batch_size: int = 1

    def make(self, step: int) -> tuple[NDArray[np.float64], int]:
        """Return noise and the process id."""
        return self.noise(step), os.getpid()

    def finish(self, made: tuple[NDArray[np.float64], int]) -> tuple[NDArray[np.float64], int]:
        """Return it."""
        return made
