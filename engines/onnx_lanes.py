"""ONNX Runtime on a GPU, computing from and to buffers there: a session for each batch in flight.

`proven_lanes` tries the ways of `WAYS`, the fastest first, and accepts the first one that
reproduces the golden tile in every batch size. Where none does, ONNX Runtime copies the tiles
itself, as it does on the CPU; the log says why.
"""

# The runtime ships no complete type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bundle_format.bundle import FLAGS, Bundle, Precision
from engines.cuda import Cuda
from engines.golden import golden_problem
from engines.gpu_lanes import LANES, Lane
from engines.onnx_sessions import Binding, Session, graph_of_batch_size
from engines.protocol import Tile, batch_buckets

_log = logging.getLogger(__name__)

_GRAPHS = "enable_cuda_graph"
WAYS: tuple[dict[str, str], ...] = (
    {"prefer_nhwc": "1", _GRAPHS: "1"},
    {"prefer_nhwc": "1"},
    {},
)
"""Options of the CUDA provider in addition to those of the precision, the fastest first."""

SessionMaker = Callable[[Mapping[str, str]], Session]
"""Function that makes a session of the bundle's graph with further options of the provider."""


def proven_lanes(
    bundle: Bundle,
    precision: Precision,
    cuda: Cuda,
    make_session: SessionMaker,
    *,
    device: tuple[str, int],
) -> list[Lane]:
    """Prepare lanes that reproduce the golden tile; empty if no way does.

    Args:
        bundle: Verified bundle.
        precision: Precision of the graph, which decides the tolerance.
        cuda: The GPU.
        make_session: Function that makes a session.
        device: Kind and index of the buffers' device, as ONNX Runtime names it.
    """
    for way in WAYS:
        try:
            lanes = [_lane(bundle, cuda, make_session, way, device) for _ in range(LANES)]
            problem = _problem(lanes, bundle, precision)
        # The exception classes of ONNX Runtime share no public base.
        except Exception as error:
            problem = str(error)
            lanes = []
        if problem is None:
            return lanes
        del lanes  # their sessions hold memory that the next way needs
        _log.warning(
            "engine 'onnx' on %s:%d cannot keep tiles on the GPU with the options %s: %s",
            *device,
            way or "of the precision alone",
            problem,
        )
    return []


def _lane(
    bundle: Bundle,
    cuda: Cuda,
    make_session: SessionMaker,
    way: dict[str, str],
    device: tuple[str, int],
) -> Lane:
    lane = Lane(cuda, bundle)
    session, stream = make_session(way), lane.stream
    has_graphs = _GRAPHS in way
    # ONNX Runtime keeps CUDA graphs for each calling thread: another thread would record them
    # again, at a request.
    thread = ThreadPoolExecutor(1, thread_name_prefix="onnx-lane") if has_graphs else None

    def launch_of(size: int) -> Callable[[], None]:
        binding = _binding(session, lane, bundle, size, device)
        options = graph_of_batch_size(size) if has_graphs else None

        def launch() -> None:
            # The session computes on a stream of its own, and returns when that is done.
            cuda.synchronize(stream)
            if thread is None:
                session.run_with_iobinding(binding, options)
            else:
                thread.submit(session.run_with_iobinding, binding, options).result()

        return launch

    sizes = batch_buckets(bundle.manifest.max_batch_size)
    lane.prepare({size: launch_of(size) for size in sizes})
    return lane


def _binding(
    session: Session,
    lane: Lane,
    bundle: Bundle,
    size: int,
    device: tuple[str, int],
) -> Binding:
    """Bind a batch size to the first tiles of the lane's buffers."""
    (height, width), scale = bundle.manifest.tile, bundle.manifest.scale
    buffers = lane.buffers
    binding = session.io_binding()
    binding.bind_input("lr", *device, np.uint8, (size, 1, height, width), buffers["lr"])
    shape = (size, 1, scale * height, scale * width)
    binding.bind_output("sr", *device, np.uint8, shape, buffers["sr"])
    binding.bind_output("flags", *device, np.float32, (size, len(FLAGS)), buffers["flags"])
    return binding


def _problem(lanes: Sequence[Lane], bundle: Bundle, precision: Precision) -> str | None:
    """Run the golden tile in every lane and batch size; describe the first wrong answer."""
    golden = bundle.golden()
    black = np.zeros_like(golden.lr[0, 0])
    for lane in lanes:
        for size in batch_buckets(bundle.manifest.max_batch_size):
            shape = golden.sr.shape[2:]
            answers: list[Tile] = [np.zeros(shape, dtype=np.uint8) for _ in range(size)]
            # Other tiles before, so that an answer left in the buffers is not taken for a new one;
            # their run also records the CUDA graph, which the next one replays.
            for tile in (black, golden.lr[0, 0]):
                lane.run([tile] * size, answers)
            for answer in answers:
                problem = golden_problem(answer[None, None], golden, precision=precision)
                if problem:
                    return f"in batches of {size}, {problem}"
    return None
