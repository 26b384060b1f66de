"""ONNX Runtime, on the CPU or on an NVIDIA GPU."""

# The runtime ships no complete type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Its wheels send reports of their use over the network unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from bundle_format.bundle import FLAGS, Bundle, Precision
from engines.batches import answer_array, gather, scatter
from engines.installation import install_hint
from engines.protocol import EngineError, EngineOptions, Tile

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


class OnnxEngine:
    """Runs a bundle's ONNX graph through ONNX Runtime's CPU or CUDA provider.

    Raises:
        EngineError: ONNX Runtime refuses the graph, or it does not have the expected signature, or
            it cannot use the requested GPU.
        bundle_format.bundle.BundleError: The bundle has no graph of the requested precision.
    """

    name = "onnx"
    slots = 1

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        self.precision: Precision = options.precision
        self.scale = bundle.manifest.scale
        graph = bundle.graph(options.precision)
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session_options.inter_op_num_threads = 1
        session_options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # Idle threads must not burn the cores that decode, encode and answer meanwhile.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = _providers(options.device)
        try:
            self._session = onnxruntime.InferenceSession(
                graph, session_options, providers=providers
            )
        except Exception as error:  # its exception classes share no public base
            raise EngineError(f"ONNX Runtime refuses {bundle.path}: {error}") from error
        # It continues without a provider that it cannot load: never a silent fallback.
        wanted, *_ = providers[0]
        used = self._session.get_providers()
        if wanted not in used:
            raise EngineError(
                f"engine 'onnx' cannot use {options.device}: ONNX Runtime could not load {wanted} "
                f"and offers {', '.join(used)}; its log says why"
            )
        _check_signature(self._session, bundle)

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run the graph with its outputs bound to the caller's memory; see `Engine.run`."""
        answers = answer_array(sr)
        flags = np.empty((len(sr), len(FLAGS)), dtype=np.float32)
        binding = self._session.io_binding()
        binding.bind_cpu_input("lr", gather(lr))
        for name, array in (("sr", answers), ("flags", flags)):
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding)
        scatter(answers, sr)
        return flags

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Do nothing: the runtime copies by itself."""

    def close(self) -> None:
        """Do nothing: the session is freed with the object."""


def _providers(device: str) -> list[tuple[str, dict[str, str]]]:
    """Return the providers; the first one is the requested one."""
    if device == "cpu":
        return [(_CPU, {})]
    installed = onnxruntime.get_available_providers()
    if _CUDA not in installed:
        raise EngineError(
            f"engine 'onnx' cannot use {device}: the installed ONNX Runtime "
            f"{onnxruntime.__version__} has {', '.join(installed)}; "
            "onnxruntime-gpu is needed in place of onnxruntime; "
            f"{install_hint('gpu')}"
        )
    _, _, number = device.partition(":")
    # TF32 would be another precision than the requested one.
    return [(_CUDA, {"device_id": number or "0", "use_tf32": "0"}), (_CPU, {})]


def _check_signature(session: onnxruntime.InferenceSession, bundle: Bundle) -> None:
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    if inputs != [("lr", "tensor(uint8)")] or outputs != [
        ("sr", "tensor(uint8)"),
        ("flags", "tensor(float)"),
    ]:
        raise EngineError(
            f"{bundle.path}: the graph has the inputs {inputs} and the outputs {outputs}; "
            "expected lr and sr, both tensor(uint8), and flags, tensor(float)"
        )
