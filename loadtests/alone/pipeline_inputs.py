"""Inputs of the model of the pipeline: times that were measured, and what follows from them.

The section "Model of the pipeline" of `docs/measurements/gpu.md` names the source of each.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

TILE_BYTES = 240 * 240 + 960 * 960
"""Bytes of a tile that cross to the card and back."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Times in seconds.

    Attributes:
        card_s: Time for which a call occupies the card, without transfers, by batch size.
        call_s: Host's part of a call of any size: launches, waiting, Python.
        copy_s: Host's part of each tile of a call: copies of answers between two memories.
        transfer_s: Transfer of a tile to the card and of its answer back.
        front_end_s: Core time of a front end for a raw tile.
        engine_host_s: Core time of an engine process for a tile, without the engine's call.
    """

    card_s: Mapping[int, float]
    call_s: float
    copy_s: float
    transfer_s: float
    front_end_s: float
    engine_host_s: float

    def card_of(self, count: int) -> float:
        """Seconds of the card for a batch, linear between the known sizes.

        Raises:
            ValueError: The batch is smaller or larger than all of them.
        """
        for low, high in itertools.pairwise(sorted(self.card_s)):
            if low <= count <= high:
                share = (count - low) / (high - low)
                return (1 - share) * self.card_s[low] + share * self.card_s[high]
        sizes = sorted(self.card_s)
        raise ValueError(f"batch is {count} tiles; expected {sizes[0]} to {sizes[-1]}, as measured")

    def call_of(self, count: int) -> float:
        """Seconds of one call with nothing else in flight."""
        return self.call_s + count * (self.copy_s + self.transfer_s) + self.card_of(count)


ONE_CALL = {1: 1491, 2: 1915, 4: 2248, 8: 2516, 16: 2672}
"""Tiles a second of the engine `torch` on the H200, one call at a time, by batch size."""

TWO_CALLS = {2: 2634, 4: 2864, 8: 3090, 16: 3168}
"""The same with two calls in flight."""

NETWORK = {1: 3102, 8: 4080, 32: 4522, 64: 4635}
"""Tiles a second of the network alone on the H200, as a CUDA graph without transfers."""

_TRANSFER_S = TILE_BYTES / 55e9


def _inputs(rates: Mapping[int, float], small: int, large: int) -> Inputs:
    """Split the rest of a call, without card and transfers, by two sizes of `ONE_CALL`.

    Args:
        rates: Tiles a second that keep the card busy, by batch size.
        small: The smaller size.
        large: The larger size.
    """
    card_s = {size: size / rate for size, rate in rates.items()}
    rest = {n: n / ONE_CALL[n] - card_s[n] - n * _TRANSFER_S for n in (small, large)}
    copy_s = (rest[large] - rest[small]) / (large - small)
    return Inputs(
        card_s=card_s,
        call_s=rest[small] - small * copy_s,
        copy_s=copy_s,
        transfer_s=_TRANSFER_S,
        front_end_s=FRONT_END_S,
        engine_host_s=ENGINE_HOST_S,
    )


FRONT_END_S = 0.30e-3
"""Core time of a front end for a raw tile, on the two cores of a PC."""

ENGINE_HOST_S = 1 / 3231 / 1.3
"""Upper bound: 3,231 raw tiles a second passed one engine process on the H200's host with
`identity`, whose enlargement is in it. This version took 1 / 1.3 of that version's core time on a
PC."""

# Both explain the calls that were measured; what the card does next to the network (flags,
# conversions, FP32 parts) has not been measured by itself.
BUSY_CARD = _inputs(TWO_CALLS, 2, 8)
"""Two calls in flight kept the card busy: a call is more than the network on the card."""

NETWORK_ALONE = _inputs(NETWORK, 1, 8)
"""A call occupies the card as long as the network alone; two calls did not keep it busy."""


def without_copies(inputs: Inputs, *, faster: float = 1.0) -> Inputs:
    """Return the inputs of an engine that copies answers straight to where they are sent from.

    Args:
        inputs: Inputs with copies on the host.
        faster: Factor by which the card is faster.
    """
    card_s = {size: seconds / faster for size, seconds in inputs.card_s.items()}
    return replace(inputs, copy_s=0.0, card_s=card_s)
