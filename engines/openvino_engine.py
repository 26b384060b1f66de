"""OpenVINO on the CPU."""

# The runtime ships no complete type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Sequence
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
import openvino

from bundle_format.bundle import Bundle, Precision
from engines.batches import answer_array, gather, scatter
from engines.protocol import EngineError, EngineOptions, Tile

# OpenVINO runs an FP32 graph in BF16 by itself where the CPU can; the precision is always set. What
# an INT8 graph leaves in floating point stays in FP32.
_PRECISION_HINTS: dict[str, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenvinoEngine:
    """Runs a bundle's ONNX graph through OpenVINO's CPU plug-in.

    With the hint `latency` all threads share one call; with `throughput` OpenVINO splits them into
    streams and sets the number of concurrent calls.

    Raises:
        EngineError: OpenVINO refuses the graph, or the processor lacks the precision.
        bundle_format.bundle.BundleError: The bundle has no graph of the requested precision.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        self.precision: Precision = options.precision
        self.scale = bundle.manifest.scale
        hint = _PRECISION_HINTS[options.precision]
        graph = bundle.graph(options.precision)
        try:
            core = openvino.Core()
            if hint == "bf16":
                _require_bf16(core)
            model = core.read_model(model=graph)
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": options.hint.upper(),
                    "INFERENCE_PRECISION_HINT": hint,
                    "INFERENCE_NUM_THREADS": options.threads,
                },
            )
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refuses {bundle.path}: {error}") from error
        self._sr, self._flags = compiled.output("sr"), compiled.output("flags")
        self.slots = 1
        if options.hint == "throughput":
            self.slots = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(self.slots):
            self._requests.put(compiled.create_infer_request())

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run the graph with its answers in the caller's memory; see `Engine.run`."""
        answers = answer_array(sr)
        request = self._requests.get()
        try:
            request.set_tensor(self._sr, openvino.Tensor(answers, shared_memory=True))
            request.infer({"lr": gather(lr)}, share_inputs=True, share_outputs=True)
            # The request owns this tensor and overwrites it at the next call.
            flags = np.array(request.get_tensor(self._flags).data, copy=True)
        finally:
            self._requests.put(request)
        scatter(answers, sr)
        return flags

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Do nothing: the engine computes in the memory of the host."""

    def close(self) -> None:
        """Do nothing: the requests are freed with the object."""


def _require_bf16(core: openvino.Core) -> None:
    """Refuse BF16 on a processor that would only imitate it."""
    capabilities: list[str] = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        raise EngineError(
            "engine 'openvino' cannot run bf16: this processor has "
            f"{', '.join(sorted(capabilities))}; set SEMSR_PRECISION to fp32 or int8"
        )
