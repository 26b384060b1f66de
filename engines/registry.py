"""The engines by name: each is imported only when chosen.

Other code loads engines only through `load_engine`. A named engine that cannot be loaded is an
error, without a silent fallback. This module does not depend on HTTP, metrics or torch, so that the
exporter's parity step and the evaluation can run the same code as the server.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Literal

from bundle_format.bundle import PRECISIONS, Bundle, Precision
from engines.installation import install_hint
from engines.protocol import Engine, EngineError, EngineOptions

DeviceKind = Literal["cpu", "cuda"]

CPU_BATCH = 4
"""Largest batch on a CPU. In docs/measurements/benchmarks.md, batches of four compute no more tiles
a second than single tiles there; larger ones would take longer, and more memory."""


@dataclass(frozen=True)
class EngineSpec:
    """Facts about an engine that need no import of it.

    Attributes:
        source: `module:name` of a callable from a bundle and `EngineOptions` to an engine.
        modules: Packages of which it needs one; empty if it needs none.
        extras: Extras that install it, of which one is enough.
        precisions: Precisions by kind of device.
        candidate_on: Kinds of device on which `auto` considers it; an export is proven with the
            candidates of the CPU.
    """

    source: str
    modules: tuple[str, ...]
    extras: tuple[str, ...]
    precisions: dict[DeviceKind, tuple[Precision, ...]]
    candidate_on: tuple[DeviceKind, ...] = ("cpu", "cuda")


ENGINES: dict[str, EngineSpec] = {
    "identity": EngineSpec(
        source="engines.identity_engine:load_identity",
        modules=(),
        extras=(),
        precisions={"cpu": PRECISIONS},
        candidate_on=(),
    ),
    # On a CPU it computes an FP16 graph in FP32 between casts: right and slow, and what an export
    # is checked with where there is no GPU.
    "onnx": EngineSpec(
        source="engines.onnx_engine:OnnxEngine",
        modules=("onnxruntime",),
        extras=("base",),
        precisions={"cpu": ("fp32", "fp16", "int8"), "cuda": ("fp32", "fp16")},
    ),
    "openvino": EngineSpec(
        source="engines.openvino_engine:OpenvinoEngine",
        modules=("openvino",),
        extras=("openvino",),
        precisions={"cpu": ("fp32", "bf16", "int8")},
    ),
    "tensorrt": EngineSpec(
        source="engines.tensorrt_engine:TensorrtEngine",
        modules=("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"),
        extras=("gpu", "rtx"),
        precisions={"cuda": ("fp32", "fp16")},
    ),
    # The reference, from the bundle's checkpoint and not from a graph; outside this folder, because
    # nothing here may need torch.
    "torch": EngineSpec(
        source="export.torch_engine:TorchEngine",
        modules=("torch",),
        extras=("export",),
        precisions={"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16", "bf16")},
        # On a CPU the other runtimes are faster, and an export is compared with this one.
        candidate_on=("cuda",),
    ),
}


def installed_engines(precision: Precision, device: str = "cpu") -> list[str]:
    """Name the candidates that run a precision on a device and whose runtime is installed."""
    kind = device_kind(device)
    return [
        name
        for name, spec in ENGINES.items()
        if kind in spec.candidate_on
        and precision in spec.precisions.get(kind, ())
        and installed_module(spec)
    ]


def installed_module(spec: EngineSpec) -> str | None:
    """Return the first of an engine's modules that is installed; None if none is."""
    return next((name for name in spec.modules if importlib.util.find_spec(name)), None)


def device_kind(device: str) -> DeviceKind:
    """Return the kind of a device: `cpu`, or `cuda` for a name such as `cuda:1`."""
    return "cpu" if device == "cpu" else "cuda"


def largest_batch(bundle_limit: int, device: str) -> int:
    """Return the largest batch that is formed on a device, of a bundle checked up to a limit."""
    return min(bundle_limit, CPU_BATCH) if device_kind(device) == "cpu" else bundle_limit


def load_engine(name: str, bundle: Bundle, options: EngineOptions) -> Engine:
    """Load one engine by name.

    Args:
        name: A key of `ENGINES` (`auto` is resolved before, see `engines.auto`).
        bundle: Verified bundle.
        options: Threads, precision and device.

    Raises:
        EngineError: The name is unknown, its runtime is not installed, it does not run on the
            device or in the precision, or it cannot run the bundle.
    """
    spec = ENGINES.get(name)
    if spec is None:
        raise EngineError(f"unknown engine {name!r}; expected one of auto, {', '.join(ENGINES)}")
    precisions = spec.precisions.get(device_kind(options.device))
    if precisions is None:
        raise EngineError(
            f"engine {name!r} runs on {', '.join(spec.precisions)}, not on {options.device}"
        )
    if options.precision not in precisions:
        raise EngineError(f"engine {name!r} runs {', '.join(precisions)}, not {options.precision}")
    _require(name, spec)
    module, _, maker = spec.source.partition(":")
    if name == "identity" and options.answer_bits == 16:
        raise EngineError("engine 'identity' answers in 8 bits alone; use another engine")
    engine: Engine = getattr(importlib.import_module(module), maker)(bundle, options)
    return _with_16_bit(engine, bundle, options) if options.answer_bits == 16 else engine


def _with_16_bit(engine: Engine, bundle: Bundle, options: EngineOptions) -> Engine:
    """Add the bundle's 16-bit graph to an engine."""
    from engines.sixteen_bit import SixteenBitEngine

    try:
        return SixteenBitEngine(engine, bundle, options)
    except BaseException:
        engine.close()
        raise


def _require(engine: str, spec: EngineSpec) -> None:
    failures: list[str] = []
    for module in spec.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            failures.append(str(error))
        else:
            return
    if failures:
        names = " or ".join(repr(name) for name in spec.modules)
        raise EngineError(
            f"engine {engine!r} needs the package {names}, which cannot be imported "
            f"({failures[0]}); {' or '.join(map(install_hint, spec.extras))}"
        )
