"""TensorRT plans: built from a bundle's graph for one kind of GPU, kept in a cache folder.

A plan fits one graph, TensorRT version, compute capability, batch size and tile shape. `semsr
bundle build-plans` builds plans on the machine that will run them. Plans for RTX cards can be built
elsewhere, because TensorRT for RTX needs no GPU to build. The service only reads plans, and the
bundle stays unchanged.

File: 8 bytes `SEMSRPLN`, uint32 format version, uint32 length of the header, the header (JSON:
`PlanKey` and the plan's sha256), the plan; integers little endian.
"""

# TensorRT ships no type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import contextlib
import hashlib
import importlib
import json
import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from bundle_format.bundle import Bundle, Precision
from engines.installation import install_hint
from engines.protocol import EngineError, batch_buckets
from engines.tensorrt_graphs import with_cast_last

MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
"""NVIDIA's packages with this API, in order: data-centre cards, RTX cards, and the latter's wheels
without the wrapper package."""

MAGIC = b"SEMSRPLN"
FORMAT_VERSION = 1
_HEAD = struct.Struct("<8sII")
MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class PlanKey:
    """Graph, runtime and sizes that a plan fits.

    Attributes:
        onnx_sha256: sha256 of the graph.
        module: TensorRT package, one of `MODULES`.
        module_version: Version of the package; plans of other versions are refused.
        compute_capability: Compute capability of the GPU, such as 89 for 8.9.
        batch: Number of tiles in a call; a smaller batch is filled up.
        tile: Height and width in LR pixels.
    """

    onnx_sha256: str
    module: str
    module_version: str
    compute_capability: int
    batch: int
    tile: tuple[int, int]

    @property
    def file_name(self) -> str:
        """Readable file name in the cache; different keys have different names."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        height, width = self.tile
        return (
            f"{self.module}-{self.module_version}-sm{self.compute_capability}-b{self.batch}-"
            f"{height}x{width}-{digest[:16]}.plan"
        )


def import_tensorrt() -> ModuleType:
    """Import the first of `MODULES` that is installed.

    Raises:
        EngineError: None is installed.
    """
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise EngineError(
        f"plans need one of the packages {', '.join(MODULES)}, and none can be imported; on "
        f"data-centre cards {install_hint('gpu')}; on RTX cards {install_hint('rtx')}"
    )


def plan_keys(
    bundle: Bundle, precision: Precision, *, trt: ModuleType, compute_capability: int
) -> list[PlanKey]:
    """Return the keys of the plans that serve a bundle in a precision, one for each batch size.

    Raises:
        bundle_format.bundle.BundleError: The bundle has no graph of that precision.
    """
    graph = hashlib.sha256(bundle.graph(precision)).hexdigest()
    return [
        PlanKey(
            onnx_sha256=graph,
            module=trt.__name__,
            module_version=trt.__version__,
            compute_capability=compute_capability,
            batch=batch,
            tile=bundle.manifest.tile,
        )
        for batch in batch_buckets(bundle.manifest.max_batch_size)
    ]


def build_plans(
    bundle: Bundle, precision: Precision, cache: Path, *, compute_capability: int
) -> list[Path]:
    """Build the plans of a bundle and store them; existing plans that fit are kept.

    Args:
        bundle: Verified bundle.
        precision: Precision of the graph.
        cache: Folder of plans; created if missing.
        compute_capability: Compute capability of the GPU, such as 89; RTX also builds for
            another machine's card.

    Returns:
        Files of the plans, one for each batch size.

    Raises:
        EngineError: No TensorRT is installed, or it refuses the graph or the GPU.
        bundle_format.bundle.BundleError: The bundle has no graph of that precision.
    """
    trt = import_tensorrt()
    graph = with_cast_last(bundle.graph(precision))
    paths: list[Path] = []
    for key in plan_keys(bundle, precision, trt=trt, compute_capability=compute_capability):
        path = cache / key.file_name
        if not _fits(path, key):
            _write(path, key, _build(trt, graph, key))
        paths.append(path)
    return paths


def read_plan(cache: Path, key: PlanKey) -> bytes:
    """Read a plan and check that it is the one that the key names.

    Raises:
        EngineError: The plan is missing, damaged, of an unknown format or for another key; the
            message says how to build it.
    """
    path = cache / key.file_name
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise EngineError(_missing(cache, key)) from error
    except OSError as error:
        raise EngineError(f"cannot read the TensorRT plan {path}: {error.strerror}") from error
    header, plan = _parse(path, content)
    expected: dict[str, Any] = {**asdict(key), "tile": list(key.tile)}
    for name, value in expected.items():
        if header.get(name) != value:
            raise EngineError(
                f"the TensorRT plan {path} is for {name} {header.get(name)!r}, not {value!r}; "
                f"{_REBUILD}"
            )
    if hashlib.sha256(plan).hexdigest() != header.get("plan_sha256"):
        raise EngineError(f"the TensorRT plan {path} does not match its sha256; {_REBUILD}")
    return plan


_REBUILD = "build it again on this machine: semsr bundle build-plans BUNDLE"


def _missing(cache: Path, key: PlanKey) -> str:
    height, width = key.tile
    others = sorted(path.name for path in cache.glob("*.plan")) if cache.is_dir() else []
    there = f"; it holds {', '.join(others[:4])}" if others else ""
    return (
        f"{cache} has no TensorRT plan for this graph, {key.module} {key.module_version}, compute "
        f"capability {key.compute_capability / 10:.1f}, batch {key.batch}, tile {height}x{width}"
        f"{there}; {_REBUILD}"
    )


def _parse(path: Path, content: bytes) -> tuple[dict[str, Any], bytes]:
    if len(content) < _HEAD.size or not content.startswith(MAGIC):
        raise EngineError(f"{path} is not a TensorRT plan of semsr; {_REBUILD}")
    _, version, length = _HEAD.unpack_from(content)
    if version != FORMAT_VERSION:
        raise EngineError(
            f"the TensorRT plan {path} has format version {version}; this version of semsr reads "
            f"{FORMAT_VERSION}; {_REBUILD}"
        )
    end = _HEAD.size + length
    header: Any = None
    if length <= MAX_HEADER_BYTES:
        with contextlib.suppress(ValueError, RecursionError):
            header = json.loads(content[_HEAD.size : end])
    if not isinstance(header, dict):
        raise EngineError(f"the header of the TensorRT plan {path} is damaged; {_REBUILD}")
    return cast("dict[str, Any]", header), content[end:]


def _fits(path: Path, key: PlanKey) -> bool:
    try:
        read_plan(path.parent, key)
    except EngineError:
        return False
    return True


def _write(path: Path, key: PlanKey, plan: bytes) -> None:
    header = json.dumps({**asdict(key), "plan_sha256": hashlib.sha256(plan).hexdigest()}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(_HEAD.pack(MAGIC, FORMAT_VERSION, len(header)) + header + plan)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _build(trt: ModuleType, graph: bytes, key: PlanKey) -> bytes:
    """Build one plan; the graph's own types are kept (a strongly typed network)."""
    messages = _Messages(trt)
    builder = trt.Builder(messages.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse(graph):
        errors = [str(parser.get_error(number)) for number in range(parser.num_errors)]
        raise EngineError(f"{key.module} refuses the graph: {'; '.join(errors)[:1000]}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    shape = (key.batch, 1, *key.tile)
    profile.set_shape("lr", shape, shape, shape)
    config.add_optimization_profile(profile)
    config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(config, "num_compute_capabilities"):  # TensorRT for RTX: any card, from any machine
        name = f"SM{key.compute_capability}"
        target = getattr(trt.ComputeCapability, name, None)
        if target is None:
            known = [item for item in dir(trt.ComputeCapability) if item.startswith("SM")]
            raise EngineError(f"{key.module} builds for {', '.join(known)}, not for {name}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(target, 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{key.module} cannot build {key.file_name}: {messages.last()}")
    return bytes(plan)


class _Messages:
    """Keeps TensorRT's messages, so that an error can quote one."""

    def __init__(self, trt: ModuleType) -> None:
        kept: list[str] = []

        class Logger(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: object, msg: str) -> None:
                if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                    kept.append(msg)

        self._kept: Sequence[str] = kept
        self.logger = Logger()

    def last(self) -> str:
        return self._kept[-1] if self._kept else "no reason given"
