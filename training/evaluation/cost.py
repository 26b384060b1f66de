"""What one tile costs: multiply-adds of the network, and measured milliseconds."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.overrides import TorchFunctionMode

Upscaler = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""(N, 1, h, w) uint8 to (N, 1, s*h, s*w) uint8."""


def count_gmac(network: nn.Module, *, tile_px: int) -> float:
    """Count the multiply-adds of one tile, in units of 1e9.

    Convolutions and linear layers count; element-wise work does not, as is usual. Torch's own
    `FlopCounterMode` gives twice the figure, an addition and a multiplication each, but loads the
    whole compiler for it.

    Args:
        network: Takes (1, 1, tile_px, tile_px) float32, on the CPU.
        tile_px: Side of an LR tile.
    """
    counter = _MultiplyAdds()
    with torch.no_grad(), counter:
        network(torch.zeros(1, 1, tile_px, tile_px))
    return counter.total / 1e9


def median_ms(
    upscaler: Upscaler, lr: NDArray[np.uint8], *, repeats: int = 15, warm_ups: int = 3
) -> float:
    """Time one tile at batch 1: the median over `repeats` calls, in milliseconds.

    Args:
        upscaler: As in `Upscaler`.
        lr: (h, w) uint8.
        repeats: Timed calls.
        warm_ups: Calls before, not timed.
    """
    batch = np.ascontiguousarray(lr[None, None])
    for _ in range(warm_ups):
        upscaler(batch)
    times_s = []
    for _ in range(repeats):
        start = time.perf_counter()
        upscaler(batch)
        times_s.append(time.perf_counter() - start)
    return statistics.median(times_s) * 1000


class _MultiplyAdds(TorchFunctionMode):
    """Counts multiply-adds while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        result = func(*args, **(kwargs or {}))
        # Weights are (out, in, …): one product for each output value and weight of its channel;
        # transposed (in, out, …): one for each input value and weight of its channel.
        if func in {torch.conv2d, nn.functional.linear}:
            self.total += result.numel() * args[1][0].numel()
        elif func is torch.conv_transpose2d:
            self.total += args[0].numel() * args[1][0].numel()
        return result
