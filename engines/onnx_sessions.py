"""Sessions of ONNX Runtime for a bundle's graph, on the CPU or on an NVIDIA GPU."""

# The runtime ships no complete type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportUnknownParameterType=false

import os
from collections.abc import Mapping

# Its wheels send reports of their use over the network unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from bundle_format.bundle import Bundle
from engines.cuda import device_index
from engines.installation import install_hint
from engines.protocol import EngineError, EngineOptions

Session = onnxruntime.InferenceSession
Binding = onnxruntime.IOBinding

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


def make_session(
    graph: bytes,
    bundle: Bundle,
    options: EngineOptions,
    provider_options: Mapping[str, str] | None = None,
    *,
    answer_type: str = "tensor(uint8)",
) -> Session:
    """Make a session on the device of the options.

    Args:
        graph: Graph of the requested precision.
        bundle: Bundle that it comes from.
        options: Threads and device.
        provider_options: Further options of the CUDA provider.
        answer_type: ONNX Runtime's name of the answer's type.

    Raises:
        EngineError: ONNX Runtime refuses the graph, or it does not have the expected signature, or
            it cannot use the requested GPU.
    """
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session_options.inter_op_num_threads = 1
    session_options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Idle threads must not burn the cores that decode, encode and answer meanwhile.
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    (wanted, given), *others = _providers(options.device)
    providers = [(wanted, {**given, **(provider_options or {})}), *others]
    try:
        session = Session(graph, session_options, providers=providers)
    except Exception as error:  # its exception classes share no public base
        raise EngineError(f"ONNX Runtime refuses {bundle.path}: {error}") from error
    # It continues without a provider that it cannot load: never a silent fallback.
    used = session.get_providers()
    if wanted not in used:
        raise EngineError(
            f"engine 'onnx' cannot use {options.device}: ONNX Runtime could not load {wanted} "
            f"and offers {', '.join(used)}; its log says why"
        )
    _check_signature(session, bundle, answer_type)
    return session


def graph_of_batch_size(size: int) -> onnxruntime.RunOptions:
    """Return the options of runs that share the CUDA graph of a batch size."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(size))
    return options


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
    # TF32 would be another precision than the requested one.
    return [(_CUDA, {"device_id": str(device_index(device)), "use_tf32": "0"}), (_CPU, {})]


def _check_signature(session: Session, bundle: Bundle, answer_type: str) -> None:
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    if inputs != [("lr", "tensor(uint8)")] or outputs != [
        ("sr", answer_type),
        ("flags", "tensor(float)"),
    ]:
        raise EngineError(
            f"{bundle.path}: the graph has the inputs {inputs} and the outputs {outputs}; "
            f"expected lr, tensor(uint8), sr, {answer_type}, and flags, tensor(float)"
        )
