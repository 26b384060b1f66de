"""Interface of an engine: uint8 tiles in, uint8 tiles out, on a thread of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

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
        fuse: Whether the engine `torch` on a GPU fuses layers with `torch.compile` while it loads.
            That takes minutes and needs a C compiler, so no setting selects it.
        answer_bits: 16 also loads the bundle's 16-bit graph (`engines.sixteen_bit`).
    """

    precision: Precision
    threads: int
    device: str = "cpu"
    hint: Hint = "latency"
    plan_cache: str = ""
    fuse: bool = False
    answer_bits: Literal[8, 16] = 8


Tile = npt.NDArray[np.uint8]
"""One image (H, W) uint8, C-contiguous."""


class Engine(Protocol):
    """One loaded model on one runtime.

    Attributes:
        name: The engine's name, as in `SEMSR_ENGINE`.
        precision: Execution precision.
        scale: Upscaling factor.
        slots: Maximum number of concurrent calls of `run`.
    """

    name: str
    precision: Precision
    scale: int
    slots: int

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Super-resolve one batch into the caller's memory; releases the GIL while it computes.

        The caller owns all arrays, so that answers are computed, or copied from a GPU, straight to
        where they are sent from.

        Args:
            lr: N tiles (H, W) of one shape.
            sr: N arrays (scale*H, scale*W), to be filled with the answers.

        Returns:
            Flags (N, K) float32, columns as `bundle_format.bundle.FLAGS`; a new array.
        """
        ...

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Prepare memory of later `lr` and `sr` arrays for direct copies.

        An engine on a GPU page-locks it (`cudaHostRegister`), and copies to and from memory that
        is not registered take longer. It stays locked until `close`, and its pages must not be
        given back to the system before. Other engines do nothing.

        Args:
            memory: One-dimensional, in whole pages.
        """
        ...

    def close(self) -> None:
        """Release the runtime's resources; no call of `run` may be in flight."""
        ...


def batch_buckets(max_batch_size: int) -> list[int]:
    """Return the batch sizes that engines prepare for: powers of two, and the largest batch."""
    powers = {1 << power for power in range(max_batch_size.bit_length())}
    return sorted({size for size in powers if size < max_batch_size} | {max_batch_size})
