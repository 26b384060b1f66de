"""A model of the pipeline on a GPU: what bounds it, computed from figures that were measured.

`python -m loadtests.alone.pipeline` prints the table of `docs/measurements/gpu.md`, whose section
"Model of the pipeline" names the source of each figure. A prediction is to be compared with a
measurement as soon as there is one.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.protocol import batch_buckets
from loadtests.alone.card_simulation import simulate_cards
from loadtests.alone.cards import CardLoad
from loadtests.results import Column, Row, format_table, markdown_table, write_into_page

TILE_BYTES = 240 * 240 + 960 * 960
"""Bytes of a tile that cross to the card and back."""

CORES_OF_ENGINE = 2
"""Cores that an engine process on a GPU needs, as `service.hosting.front_ends` leaves them."""


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


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the model predicts, in tiles a second unless a unit is named.

    Attributes:
        engine: Engine alone with its transfers.
        front_ends: Limit of the front ends.
        engine_process: Limit of the engine process's own work on one core.
        busy: Share of the time in which the card computes, through HTTP under full load.
    """

    engine: float
    front_ends: float
    engine_process: float
    busy: float

    @property
    def http(self) -> float:
        """The service: the smallest limit."""
        return min(self._limits.values())

    @property
    def bound(self) -> str:
        """Part that bounds the service."""
        return min(self._limits, key=lambda name: self._limits[name])

    @property
    def _limits(self) -> dict[str, float]:
        return {
            "engine": self.engine,
            "front ends": self.front_ends,
            "engine process": self.engine_process,
        }


def predict(inputs: Inputs, *, batch: int, calls: int, front_ends: int, cores: int) -> Prediction:
    """Predict the throughput of one card.

    Args:
        inputs: Times.
        batch: Tiles in a batch.
        calls: Calls in flight. One leaves the card idle during the rest of each call; several
            hide the rest behind each other.
        front_ends: Number of front ends.
        cores: Number of cores for all processes.
    """
    card_s = inputs.card_of(batch)
    engine = min(calls * batch / inputs.call_of(batch), batch / card_s)
    used_cores = min(front_ends, max(1, cores - CORES_OF_ENGINE))
    prediction = Prediction(
        engine=engine,
        front_ends=used_cores / inputs.front_end_s,
        engine_process=1 / (inputs.engine_host_s + inputs.call_s / batch),
        busy=0.0,
    )
    return replace(prediction, busy=prediction.http * card_s / batch)


def p99_in_batches(inputs: Inputs, *, batch: int, calls: int, share: float = 0.8) -> float:
    """Simulate the 99th percentile of latency, in full batches, at a share of the capacity.

    The service's scheduler runs on a simulated clock (`loadtests.alone.card_simulation`).
    """
    smallest = min(inputs.card_s)
    sizes = [size for size in batch_buckets(batch) if size >= smallest]
    costs = {size: inputs.call_of(size) for size in sizes}
    # A scheduler needs the cost of one tile: where it is unknown, it is that of the smallest size.
    costs.setdefault(1, costs[smallest])
    alone = max(size / seconds for size, seconds in costs.items())
    capacity = min(calls * batch / costs[batch], batch / inputs.card_of(batch))
    load = CardLoad(
        speeds=[1.0],
        share=share * capacity / alone,
        slots=calls,
        card_share=inputs.card_of(batch) / costs[batch],
        seconds=5000 / capacity,
        budget_s=10 * costs[batch],
    )
    return simulate_cards(costs, load).p99_s / costs[batch]


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


FRONT_END_S = 0.36e-3
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


PLACE = "pipeline"
"""Name of the table's place in the page."""

COLUMNS = [
    Column("name", "Case"),
    Column("calls", "Calls in flight"),
    Column("batch", "Batch"),
    Column("engine", "Engine, tiles/s", 0),
    Column("http", "HTTP raw, tiles/s", 0),
    Column("bound", "Bound by"),
    Column("busy", "Card busy, %", 0),
    Column("p99", "p99 at 80 % load, full batches"),
]


def rows(*, front_ends: int, cores: int) -> list[Row]:
    """Return the predictions of the page, one row a case."""
    # What an engine of 6,000 tiles a second needs of the card.
    busy_faster, network_faster = 6000 / TWO_CALLS[16], 6000 / NETWORK[32]
    cases = [
        ("busy card, copies as on 2026-11-29", BUSY_CARD, 16),
        ("network alone, copies as on 2026-11-29", NETWORK_ALONE, 16),
        ("busy card, no copies", without_copies(BUSY_CARD), 16),
        ("network alone, no copies", without_copies(NETWORK_ALONE), 32),
        (
            f"busy card, no copies, {busy_faster:.2f} times as fast",
            without_copies(BUSY_CARD, faster=busy_faster),
            16,
        ),
        (
            f"network alone, no copies, {network_faster:.2f} times as fast",
            without_copies(NETWORK_ALONE, faster=network_faster),
            32,
        ),
    ]
    return [
        _row(name, inputs, calls=calls, batch=batch, front_ends=front_ends, cores=cores)
        for name, inputs, batch in cases
        for calls in (1, 2)
    ]


def _row(name: str, inputs: Inputs, *, calls: int, batch: int, front_ends: int, cores: int) -> Row:
    prediction = predict(inputs, batch=batch, calls=calls, front_ends=front_ends, cores=cores)
    return {
        "name": name,
        "calls": calls,
        "batch": batch,
        "engine": prediction.engine,
        "http": prediction.http,
        "bound": prediction.bound,
        "busy": 100 * prediction.busy,
        "p99": p99_in_batches(inputs, batch=batch, calls=calls),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.alone.pipeline", description=__doc__)
    parser.add_argument("--front-ends", type=int, default=8, help="number of front ends")
    parser.add_argument("--cores", type=int, default=16, help="number of cores")
    parser.add_argument("--page", type=Path, help="page to write the table into (default: none)")
    options = parser.parse_args(arguments)
    shown = rows(front_ends=options.front_ends, cores=options.cores)
    if options.page is not None:
        write_into_page(options.page, PLACE, markdown_table(COLUMNS, shown))
    sys.stdout.write(f"{format_table(COLUMNS, shown)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
