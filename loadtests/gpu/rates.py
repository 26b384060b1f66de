"""Measured rates of a device and of its link to the host: the basis of the floor.

Run as a process of its own (`python -m loadtests.gpu.rates DEVICE SECONDS PRECISION…`), so that it
leaves no memory on the card. It prints a line of JSON for each rate.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from bundle_format.bundle import Precision, parse_precision
from loadtests.results import Row
from semsr.error_text import last_words

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
_WARM_UP_CALLS = 3
# Shortest time between two looks at the clock: a launch alone takes some microseconds.
_CHUNK_S = 0.01
# Sides of matrices and bytes of copies that fill a GPU, and that a CPU does in a moment.
_SIDES = {"cuda": 8192, "cpu": 512}
_COPY_BYTES = {"cuda": 256 << 20, "cpu": 16 << 20}


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_call_s(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the median time of a call in seconds; calls run one after the other on the device.

    Args:
        call: Function that starts the work.
        device: Device of the work.
        seconds: Length of the measurement, without the warm-up.
    """
    for _ in range(_WARM_UP_CALLS):
        call()
    synchronize(device)
    start_s = time.perf_counter()
    call()
    synchronize(device)
    calls = max(1, round(_CHUNK_S / max(time.perf_counter() - start_s, 1e-6)))
    times_s: list[float] = []
    end_s = time.perf_counter() + seconds
    while not times_s or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        times_s.append((time.perf_counter() - start_s) / calls)
    return statistics.median(times_s)


def measure_rates(
    device: torch.device, *, seconds: float, precisions: Sequence[Precision]
) -> Iterator[Row]:
    """Measure every rate; the values are random, because products of zeros take less time.

    Args:
        device: `cuda` or `cpu`. On a CPU, an upload or download is a copy within its memory.
        seconds: Time for each rate.
        precisions: Precisions of the matrix products, without the ones that torch lacks (INT8).

    Yields:
        Rows with `name`, `kind` (precision or kind of memory), and `per_s` (operations or bytes).
    """
    side, copied = _SIDES[device.type], _COPY_BYTES[device.type]
    for precision in precisions:
        if precision not in DTYPES:
            continue
        left, right = (
            torch.randn(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2)
        )
        product = torch.empty_like(left)
        call_s = median_call_s(_product(left, right, product), device, seconds)
        yield {"name": "operations", "kind": precision, "per_s": 2 * side**3 / call_s}
    there = torch.randint(0, 256, (copied,), dtype=torch.uint8, device=device)
    for kind in ("pinned", "pageable"):
        here = torch.randint(0, 256, (copied,), dtype=torch.uint8)
        if kind == "pinned" and device.type == "cuda":
            here = here.pin_memory()
        for name, source, target in (("upload", here, there), ("download", there, here)):
            call_s = median_call_s(_copy(source, target), device, seconds)
            yield {"name": name, "kind": kind, "per_s": copied / call_s}
    other = torch.empty_like(there)
    call_s = median_call_s(_copy(there, other), device, seconds)
    yield {"name": "memory", "kind": "read and written", "per_s": 2 * copied / call_s}


def _product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> Callable[[], object]:
    return lambda: torch.matmul(left, right, out=out)


def _copy(source: torch.Tensor, target: torch.Tensor) -> Callable[[], object]:
    return lambda: target.copy_(source, non_blocking=True)


def _main(device: str, seconds: str, *precisions: str) -> None:
    wanted: list[Precision] = [parse_precision(precision) for precision in precisions]
    for row in measure_rates(torch.device(device), seconds=float(seconds), precisions=wanted):
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with last_words():
        _main(*sys.argv[1:])
