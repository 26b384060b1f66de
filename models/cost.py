"""Cost of a network: multiply-adds of one tile."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def count_gmac(network: nn.Module, *, tile: tuple[int, int]) -> float:
    """Count the multiply-adds of one tile, in units of 1e9.

    Convolutions and linear layers count; element-wise work does not, as is usual. Torch's own
    `FlopCounterMode` gives twice the figure, an addition and a multiplication each, but loads the
    whole compiler for it.

    Args:
        network: Network for (1, 1, H, W) float32, on the CPU.
        tile: H and W of an LR tile.
    """
    counter = _MultiplyAdds()
    with torch.no_grad(), counter:
        network(torch.zeros(1, 1, *tile))
    return counter.total / 1e9


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
    ) -> Any:  # noqa: ANN401 - any result of the function
        result = func(*args, **(kwargs or {}))
        # Weights are (out, in, …): one product for each output value and weight of its channel;
        # transposed (in, out, …): one for each input value and weight of its channel.
        if func in {torch.conv2d, nn.functional.linear}:
            self.total += result.numel() * args[1][0].numel()
        elif func is torch.conv_transpose2d:
            self.total += args[0].numel() * args[1][0].numel()
        return result
