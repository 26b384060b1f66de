"""Interface of an engine: uint8 tiles in, uint8 tiles out, on a thread of its own."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Precision

Hint = Literal["latency", "throughput"]


class EngineError(Exception):
    """An engine cannot be loaded, does not fit the bundle, or failed its golden tile."""


@dataclass(frozen=True)
class EngineOptions:
    """Options of an engine.

    Attributes:
        precision: Execution precision, always set explicitly.
        threads: Number of CPU threads that the engine may use.
        device: `cpu`, `cuda` (the first GPU) or `cuda:N`.
        hint: Optimisation for the latency of one call or for the throughput of concurrent calls,
            for engines that have the choice.
        plan_cache: Folder of TensorRT plans.
    """

    precision: Precision
    threads: int
    device: str = "cpu"
    hint: Hint = "latency"
    plan_cache: str = ""


class EngineOutput(NamedTuple):
    """Results of a batch; the engine does not reuse the arrays.

    Attributes:
        sr: (N, 1, scale*H, scale*W) uint8, C-contiguous.
        flags: (N, K) float32, columns as `bundle_format.bundle.FLAGS`.
    """

    sr: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.float32]


class Engine(Protocol):
    """One loaded model on one runtime.

    Attributes:
        name: The engine's name, as in `SEMSR_ENGINE`.
        precision: Execution precision.
        slots: Maximum number of concurrent calls of `run`.
    """

    name: str
    precision: Precision
    slots: int

    def run(self, lr: npt.NDArray[np.uint8]) -> EngineOutput:
        """Super-resolve one batch; releases the GIL while it computes.

        Args:
            lr: (N, 1, H, W) uint8, C-contiguous.

        Returns:
            Answers and their flags.
        """
        ...

    def close(self) -> None:
        """Release the runtime's resources; no call of `run` may be in flight."""
        ...


def batch_buckets(max_batch_size: int) -> list[int]:
    """Return the batch sizes that engines prepare for: powers of two, and the largest batch."""
    powers = {1 << power for power in range(max_batch_size.bit_length())}
    return sorted({size for size in powers if size < max_batch_size} | {max_batch_size})
