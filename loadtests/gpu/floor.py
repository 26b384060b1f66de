"""The floor: the tiles or training steps a second that the rates of a machine allow, at most.

A tile takes a number of operations, and bytes that cross the link to the host and the memory of the
card. Each of them, with the rate that was measured in the same run, allows a number of tiles a
second. The smallest of these limits is the floor of the time of a tile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bundle_format.bundle import Precision
from loadtests.results import Row

MemoryKind = Literal["pinned", "pageable"]
VALUE_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
ACTIVATIONS = "activations (estimate)"


@dataclass
class Rates:
    """Measured rates of a machine; the others are absent.

    Attributes:
        operations_per_s: Operations of a matrix product by precision; a multiply-add counts as two.
        upload_bytes_per_s: Copies from the host by kind of its memory.
        download_bytes_per_s: Copies to the host by kind of its memory.
        memory_bytes_per_s: Bytes read plus bytes written by a copy within the device.
    """

    operations_per_s: dict[Precision, float] = field(default_factory=dict[Precision, float])
    upload_bytes_per_s: dict[MemoryKind, float] = field(default_factory=dict[MemoryKind, float])
    download_bytes_per_s: dict[MemoryKind, float] = field(default_factory=dict[MemoryKind, float])
    memory_bytes_per_s: float | None = None

    def add(self, row: Row) -> None:
        """Add a rate that `loadtests.gpu.rates` measured."""
        kind, per_s = row["kind"], row["per_s"]
        match row["name"]:
            case "operations":
                self.operations_per_s[kind] = per_s
            case "upload":
                self.upload_bytes_per_s[kind] = per_s
            case "download":
                self.download_bytes_per_s[kind] = per_s
            case _:
                self.memory_bytes_per_s = per_s


@dataclass(frozen=True)
class TileCost:
    """Work of one tile.

    Attributes:
        gmac: Multiply-adds in units of 1e9.
        lr_bytes: Bytes of the tile; 0 without transfers.
        sr_bytes: Bytes of its answer; 0 without transfers.
        values: Values that the convolutions read and write, without weights; 0 if unknown.
    """

    gmac: float
    lr_bytes: int = 0
    sr_bytes: int = 0
    values: int = 0


def limits(
    cost: TileCost, rates: Rates, precision: Precision, *, memory: MemoryKind = "pinned"
) -> dict[str, float]:
    """Return the tiles a second that each rate allows; rates that were not measured are left out.

    The limit of the activations is an estimate. It takes each convolution to read its input from
    memory and to write its output there once, with all other layers fused into it. A cache that
    holds activations between layers raises the limit, and layers that are not fused lower it.

    Args:
        cost: Work of a tile.
        rates: Rates of the machine.
        precision: Execution precision.
        memory: Kind of memory of tiles and answers on the host.
    """
    found: dict[str, float] = {}

    def allow(name: str, rate: float | None, work: float) -> None:
        if rate and work:
            found[name] = rate / work

    allow("operations", rates.operations_per_s.get(precision), 2e9 * cost.gmac)
    allow("upload", rates.upload_bytes_per_s.get(memory), cost.lr_bytes)
    allow("download", rates.download_bytes_per_s.get(memory), cost.sr_bytes)
    allow(ACTIVATIONS, rates.memory_bytes_per_s, VALUE_BYTES[precision] * cost.values)
    return found


def step_limits(
    rates: Rates, precision: Precision, *, operations: float, read_and_written: float, upload: float
) -> dict[str, float]:
    """Return the training steps a second that each rate allows.

    Args:
        rates: Rates of the machine.
        precision: Precision of most products.
        operations: Operations of a step.
        read_and_written: Bytes of the heavy layers' inputs, weights and outputs in a step; an
            estimate of its traffic, as for `limits`.
        upload: Bytes that a step copies from pageable memory of the host; 0 on a CPU.
    """
    found: dict[str, float] = {}
    for name, rate, work in (
        ("operations", rates.operations_per_s.get(precision), operations),
        ("upload", rates.upload_bytes_per_s.get("pageable"), upload),
        (ACTIVATIONS, rates.memory_bytes_per_s, read_and_written),
    ):
        if rate and work:
            found[name] = rate / work
    return found


def share_of_floor(per_s: float, found: Mapping[str, float]) -> dict[str, float | str]:
    """Relate a measured rate to the smallest limit; returns columns of a row.

    Args:
        per_s: Measured rate.
        found: Limits by name; without any, there are no columns.
    """
    if not found:
        return {}
    name = min(found, key=lambda key: found[key])
    return {
        "limit_per_s": found[name],
        "limited_by": name,
        "percent_of_limit": 100 * per_s / found[name],
    }
