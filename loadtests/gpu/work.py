"""Work of a network, counted while it runs: operations, and bytes of its heavy layers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_COPIES = (torch.ops.aten.copy_, torch.ops.aten._to_copy)


class CountedWork(TorchDispatchMode):
    """Counts convolutions and matrix products, forward and backward, while it is entered.

    Attributes:
        operations: Number of operations; a multiply-add counts as two.
        bytes: Bytes of the inputs, weights and outputs of the counted layers.
        uploaded: Bytes copied from the CPU to another device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.bytes = 0
        self.uploaded = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an overload, which has no public type
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - any result of the operator
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = getattr(func, "overloadpacket", None)
        count: Callable[..., int] | None = flop_registry.get(packet)
        if count is not None:
            self.operations += int(count(*args, **kwargs, out_val=result))
            self.bytes += sum(
                leaf.numel() * leaf.element_size()
                for leaf in tree_leaves((args, kwargs, result))
                if isinstance(leaf, torch.Tensor)
            )
        elif packet in _COPIES:
            source = args[1] if packet is torch.ops.aten.copy_ else args[0]
            if source.device.type == "cpu" and result.device.type != "cpu":
                self.uploaded += source.numel() * source.element_size()
        return result


def count_tile(network: nn.Module, *, tile: tuple[int, int]) -> tuple[float, int]:
    """Count the work of one tile, without computing it.

    Args:
        network: Network for (N, 1, H, W) float32 on the device `meta`.
        tile: H and W of an LR tile.

    Returns:
        Multiply-adds in units of 1e9, and the number of values that convolutions read and write;
        weights are left out, because a batch reads them once.
    """
    counts: list[CountedWork] = []
    for size in (1, 2):
        with torch.no_grad(), CountedWork() as work:
            network(torch.zeros(size, 1, *tile, device="meta"))
        counts.append(work)
    one, two = counts
    return one.operations / 2e9, (two.bytes - one.bytes) // 4
