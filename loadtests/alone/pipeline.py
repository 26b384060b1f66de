"""A model of the pipeline on a GPU: what bounds it, computed from figures that were measured.

`python -m loadtests.alone.pipeline` prints the table of `docs/measurements/gpu.md`, whose section
"Model of the pipeline" names the source of each figure. A prediction is to be compared with a
measurement as soon as there is one.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.protocol import batch_buckets
from loadtests.alone.card_simulation import simulate_cards
from loadtests.alone.cards import CardLoad
from loadtests.alone.pipeline_inputs import (
    BUSY_CARD,
    NETWORK,
    NETWORK_ALONE,
    TWO_CALLS,
    Inputs,
    without_copies,
)
from loadtests.results import Column, Row, format_table, markdown_table, write_into_page

CORES_OF_ENGINE = 2
"""Cores that an engine process on a GPU needs, as `service.hosting.front_ends` leaves them."""


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


def predict(
    inputs: Inputs, *, batch: int, calls: int, front_ends: int, cores: int, processes: int = 1
) -> Prediction:
    """Predict the throughput of one card.

    Args:
        inputs: Times.
        batch: Tiles in a batch.
        calls: Calls in flight of each engine process. A single one in all leaves the card idle
            during the rest of each call; several hide the rest behind each other.
        front_ends: Number of front ends.
        cores: Number of cores for all processes.
        processes: Engine processes that share the card.
    """
    card_s = inputs.card_of(batch)
    engine = min(processes * calls * batch / inputs.call_of(batch), batch / card_s)
    used_cores = min(front_ends, max(1, cores - processes * CORES_OF_ENGINE))
    prediction = Prediction(
        engine=engine,
        front_ends=used_cores / inputs.front_end_s,
        engine_process=processes / (inputs.engine_host_s + inputs.call_s / batch),
        busy=0.0,
    )
    return replace(prediction, busy=prediction.http * card_s / batch)


def p99_in_batches(
    inputs: Inputs, *, batch: int, calls: int, processes: int = 1, share: float = 0.8
) -> float:
    """Simulate the 99th percentile of latency, in full batches, at a share of the capacity.

    The service's scheduler runs on a simulated clock (`loadtests.alone.card_simulation`).
    """
    smallest = min(inputs.card_s)
    sizes = [size for size in batch_buckets(batch) if size >= smallest]
    costs = {size: inputs.call_of(size) for size in sizes}
    # A scheduler needs the cost of one tile: where it is unknown, it is that of the smallest size.
    costs.setdefault(1, costs[smallest])
    alone = max(size / seconds for size, seconds in costs.items())
    capacity = min(processes * calls * batch / costs[batch], batch / inputs.card_of(batch))
    load = CardLoad(
        speeds=[1.0],
        share=share * capacity / alone,
        per_card=processes,
        slots=calls,
        card_share=inputs.card_of(batch) / costs[batch],
        seconds=5000 / capacity,
        budget_s=10 * costs[batch],
    )
    return simulate_cards(costs, load).p99_s / costs[batch]


PLACE = "pipeline"
"""Name of the table's place in the page."""

COLUMNS = [
    Column("name", "Case"),
    Column("processes", "Engine processes"),
    Column("calls", "Calls in flight of each"),
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
        _row(
            name,
            inputs,
            calls=calls,
            batch=batch,
            front_ends=front_ends,
            cores=cores,
            processes=processes,
        )
        for name, inputs, batch in cases
        for processes, calls in ((1, 1), (1, 2), (2, 1))
    ]


def _row(
    name: str,
    inputs: Inputs,
    *,
    batch: int,
    calls: int,
    processes: int,
    front_ends: int,
    cores: int,
) -> Row:
    prediction = predict(
        inputs,
        batch=batch,
        calls=calls,
        front_ends=front_ends,
        cores=cores,
        processes=processes,
    )
    return {
        "name": name,
        "processes": processes,
        "calls": calls,
        "batch": batch,
        "engine": prediction.engine,
        "http": prediction.http,
        "bound": prediction.bound,
        "busy": 100 * prediction.busy,
        "p99": p99_in_batches(inputs, batch=batch, calls=calls, processes=processes),
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
