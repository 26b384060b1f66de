"""A network alone on a device: no tiles, no flags, no transfers, in several ways.

Run as a process of its own (`python -m loadtests.gpu.network OPTIONS`, as JSON), because a failed
CUDA graph may leave a process unusable. It prints a row of JSON for each way and batch size.
"""

import contextlib
import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bundle_format.bundle import Bundle, Precision, load_bundle
from loadtests.gpu.rates import DTYPES, median_call_s, synchronize
from loadtests.gpu.ways import PAPER, NetworkJob, Way
from loadtests.gpu.work import count_tile
from loadtests.results import Row
from models import build_generator, load_generator
from semsr.error_text import error_text, last_words

PAPER_TILE = (240, 240)


def measure_network(job: NetworkJob) -> Iterator[Row]:
    """Measure every way and batch size.

    Yields:
        First a row with `gmac` and `values` of a tile (see `loadtests.gpu.work.count_tile`). Then
        rows with `way`, `batch`, `tiles_per_s`, `ms`, and where the bundle has a golden tile
        `golden_levels`, the largest difference in grey levels. A way that fails has a `problem`.
    """
    device = torch.device(job.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        # TF32 would be another precision than the requested one.
        torch.backends.cudnn.allow_tf32 = False
    network, bundle = _load(job.bundle)
    tile = job.tile or (PAPER_TILE if bundle is None else bundle.manifest.tile)
    gmac, values = count_tile(copy.deepcopy(network).to("meta"), tile=tile)
    yield {"gmac": gmac, "values": values}
    for way in job.ways:
        if device.type == "cpu" and way.graph:
            continue
        try:
            compute, dtype = _prepare(network, way, device, job.precision)
            golden = {}
            if bundle is not None:
                golden["golden_levels"] = _golden_levels(compute, bundle, device, dtype)
            for batch in job.batches:
                lr = torch.rand(batch, 1, *tile, device=device, dtype=dtype)
                with torch.inference_mode():
                    call = _in_graph(compute, lr, device) if way.graph else _plain(compute, lr)
                    call_s = median_call_s(call, device, job.seconds)
                speed = {"tiles_per_s": batch / call_s, "ms": 1e3 * call_s}
                yield {"way": way.name, "batch": batch, **speed, **golden}
        except (RuntimeError, TypeError, ValueError) as error:
            yield {"way": way.name, "problem": " ".join(error_text(error).split())[:200]}


def _load(name: str) -> tuple[nn.Module, Bundle | None]:
    if name == PAPER:
        torch.manual_seed(0)
        return build_generator("resnet9", {"anti_aliased": False}).merged().eval(), None
    bundle = load_bundle(Path(name))
    bundle.read("model.safetensors")  # verified; the loader below takes a path
    generator, _ = load_generator(bundle.path / "model.safetensors")
    return generator.merged().eval(), bundle


def _prepare(
    network: nn.Module, way: Way, device: torch.device, precision: Precision
) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.dtype]:
    """Return the network as a function, and the type of its input."""
    dtype = DTYPES[precision]
    own = copy.deepcopy(network).to(device)
    if not way.autocast:
        own = own.to(dtype)
    if way.channels_last:
        own = own.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    run = torch.compile(own) if way.compiled else own
    half = way.autocast and precision != "fp32"

    def compute(lr: torch.Tensor) -> torch.Tensor:
        # Without its cache: a cast that a CUDA graph captured must not be reused outside of it.
        with (
            torch.autocast(device.type, dtype=dtype, cache_enabled=False)
            if half
            else contextlib.nullcontext()
        ):
            return run(lr)

    return compute, torch.float32 if way.autocast else dtype


def _golden_levels(
    compute: Callable[[torch.Tensor], torch.Tensor],
    bundle: Bundle,
    device: torch.device,
    dtype: torch.dtype,
) -> int:
    golden = bundle.golden()
    with torch.inference_mode():
        lr = torch.from_numpy(golden.lr.copy()).to(device=device, dtype=torch.float32) / 255
        sr = compute(lr.to(dtype)).float().clamp(0, 1).mul(255).round().cpu().numpy()
    return int(np.abs(sr.astype(np.int16) - golden.sr).max())


def _plain(
    compute: Callable[[torch.Tensor], torch.Tensor], lr: torch.Tensor
) -> Callable[[], object]:
    return lambda: compute(lr)


def _in_graph(
    compute: Callable[[torch.Tensor], torch.Tensor], lr: torch.Tensor, device: torch.device
) -> Callable[[], object]:
    """Capture the network in a CUDA graph, after calls in which cuDNN chooses its algorithms."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            compute(lr)
    synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        # The output stays at the same address while the graph lives.
        output = compute(lr)
    return lambda: (graph.replay(), output)


def _main(options: str) -> None:
    for row in measure_network(NetworkJob.from_json(options)):
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with last_words():
        _main(*sys.argv[1:])
