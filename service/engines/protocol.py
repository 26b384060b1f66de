"""What an engine is: uint8 tiles in, uint8 tiles out, on a thread of its own."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from export.bundle import Precision


class EngineError(Exception):
    """An engine cannot be loaded, does not fit the bundle, or failed its golden tile."""


@dataclass(frozen=True)
class EngineOptions:
    """How to run an engine.

    Attributes:
        precision: Execution precision, always set explicitly.
        threads: CPU threads that one call may use.
    """

    precision: Precision
    threads: int


class Engine(Protocol):
    """One loaded model on one runtime.

    Attributes:
        name: The engine's name, as in `SEMSR_ENGINE`.
        precision: Execution precision.
        slots: How many calls of `run` may be under way at once.
    """

    name: str
    precision: Precision
    slots: int

    def run(self, lr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Super-resolve one batch; releases the GIL while it computes.

        Args:
            lr: (N, 1, H, W) uint8, C-contiguous.

        Returns:
            (N, 1, scale*H, scale*W) uint8, C-contiguous, owned by the caller.
        """
        ...

    def close(self) -> None:
        """Give back what the runtime holds; no call of `run` may be under way."""
        ...
