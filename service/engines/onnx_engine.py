"""ONNX Runtime on the CPU."""

# The runtime ships no complete type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.bundle import Bundle, Precision
from service.engines.protocol import EngineError, EngineOptions, EngineOutput


class OnnxEngine:
    """Runs a bundle's ONNX graph through ONNX Runtime's CPU provider.

    Raises:
        EngineError: ONNX Runtime refuses the graph, or it does not have the expected signature.
        export.bundle.BundleError: The bundle has no graph of the precision asked for.
    """

    name = "onnx"
    slots = 1

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        self.precision: Precision = options.precision
        graph = bundle.graph(options.precision)
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session_options.inter_op_num_threads = 1
        session_options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # Idle threads must not burn the cores that decode, encode and answer meanwhile.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                graph, session_options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exception classes share no public base
            raise EngineError(f"ONNX Runtime refuses {bundle.path}: {error}") from error
        _check_signature(self._session, bundle)

    def run(self, lr: npt.NDArray[np.uint8]) -> EngineOutput:
        """Run the graph; see `Engine.run`."""
        outputs = cast("list[Any]", self._session.run(["sr", "flags"], {"lr": lr}))
        return EngineOutput(*outputs)

    def close(self) -> None:
        """The session is freed with the object."""


def _check_signature(session: onnxruntime.InferenceSession, bundle: Bundle) -> None:
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    if inputs != [("lr", "tensor(uint8)")] or outputs != [
        ("sr", "tensor(uint8)"),
        ("flags", "tensor(float)"),
    ]:
        raise EngineError(
            f"{bundle.path}: the graph takes {inputs} and gives {outputs}; "
            "expected lr and sr, both tensor(uint8), and flags, tensor(float)"
        )
