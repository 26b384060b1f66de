"""The engines: one small file per runtime behind one protocol, imported only when chosen.

`load_engine` is the only way in. Asking for an engine by name and not getting it is an error,
never a silent fallback. Nothing here knows HTTP, metrics or torch, so that the exporter's parity
step and the evaluation can run the same code as the server.
"""

import importlib
import importlib.util
from collections.abc import Callable

from export.bundle import PRECISIONS, Bundle, Precision
from service.engines.protocol import Engine, EngineError, EngineOptions, EngineOutput

__all__ = [
    "ENGINES",
    "Engine",
    "EngineError",
    "EngineOptions",
    "EngineOutput",
    "installed_engines",
    "load_engine",
]


def _identity(bundle: Bundle, options: EngineOptions) -> Engine:
    from service.engines.identity_engine import IdentityEngine

    return IdentityEngine(scale=bundle.manifest.scale, precision=options.precision)


def _onnx(bundle: Bundle, options: EngineOptions) -> Engine:
    _require("onnx", "onnxruntime")
    from service.engines.onnx_engine import OnnxEngine

    return OnnxEngine(bundle, options)


def _openvino(bundle: Bundle, options: EngineOptions) -> Engine:
    _require("openvino", "openvino")
    from service.engines.openvino_engine import OpenvinoEngine

    return OpenvinoEngine(bundle, options)


ENGINES: dict[str, Callable[[Bundle, EngineOptions], Engine]] = {
    "identity": _identity,
    "onnx": _onnx,
    "openvino": _openvino,
}

# What each engine needs from the environment; `auto` considers those whose module is present.
REQUIRED_MODULES: dict[str, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
# What each engine runs. ONNX Runtime on a CPU computes an FP16 graph in FP32 between casts: right
# and slow, and what an export is checked with where there is no GPU.
ENGINE_PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "identity": PRECISIONS,
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
INSTALL_HINTS: dict[str, str] = {
    "onnxruntime": "it is a base dependency: pip install onnxruntime",
    "openvino": "install the extra: pip install 'semsr[openvino]'",
}


def installed_engines(precision: Precision) -> list[str]:
    """Name the real engines that have a precision and whose runtime is installed, in order."""
    return [
        name
        for name, module in REQUIRED_MODULES.items()
        if precision in ENGINE_PRECISIONS[name] and importlib.util.find_spec(module)
    ]


def load_engine(name: str, bundle: Bundle, options: EngineOptions) -> Engine:
    """Load one engine by name.

    Args:
        name: A key of `ENGINES` (`auto` is resolved before, see `service.engines.auto`).
        bundle: The verified bundle.
        options: Threads and precision.

    Raises:
        EngineError: The name is unknown, its runtime is not installed, it has not the precision, or
            it cannot run the bundle.
    """
    load = ENGINES.get(name)
    if load is None:
        raise EngineError(f"unknown engine {name!r}; expected one of auto, {', '.join(ENGINES)}")
    if options.precision not in ENGINE_PRECISIONS[name]:
        raise EngineError(
            f"engine {name!r} runs {', '.join(ENGINE_PRECISIONS[name])}, not {options.precision}"
        )
    return load(bundle, options)


def _require(engine: str, module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise EngineError(
            f"engine {engine!r} needs the package {module!r}, which cannot be imported ({error}); "
            f"{INSTALL_HINTS[module]}"
        ) from error
