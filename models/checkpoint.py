"""Checkpoints: one safetensors file with the weights and all that is needed to rebuild the network.

Written by `training`, read by `export`. The header's metadata (all strings) holds `format_version`,
`generator` (registry name), `hyper_parameters` (JSON) and `training` (JSON: data statement, recipe,
steps, seed, degradation, credits, statistics of the training LR images). Nothing is unpickled.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from models.generator import Generator
from models.network import Network
from models.registry import (
    GENERATORS,
    REFERENCE_NETWORKS,
    Built,
    build_generator,
    build_network,
)

FORMAT_VERSION = "1"
HALF_PRECISION = (torch.float16, torch.bfloat16)
"""Types in which weights may be stored; both are subsets of float32."""


class CheckpointError(ValueError):
    """A file that is not a semsr checkpoint, or one that does not fit the network that it names."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """Header of a checkpoint.

    Attributes:
        format_version: Version of the file's layout.
        generator: Registry name of the network.
        hyper_parameters: Keyword arguments that built it.
        training: Description of the training: data statement, recipe, steps, seed, degradation,
            credits, `lr_domain` statistics in grey levels.
    """

    format_version: str
    generator: str
    hyper_parameters: dict[str, Any]
    training: dict[str, Any]


def save_network(path: Path, network: Network, *, training: Mapping[str, Any]) -> None:
    """Write a network's weights and description to one safetensors file, atomically.

    The same weights and description give the same bytes.

    Args:
        path: File to write; its folder is created. An existing file is replaced in one step, so
            that a reader never sees half a checkpoint.
        network: A network whose class is in `GENERATORS` or `REFERENCE_NETWORKS`.
        training: JSON-compatible description of the training; see the module docstring.

    Raises:
        CheckpointError: The network is not registered, or `training` is not JSON-compatible.
    """
    registry = {**GENERATORS, **REFERENCE_NETWORKS}
    names = [name for name, spec in registry.items() if spec.build is type(network)]
    if not names:
        raise CheckpointError(
            f"{type(network).__name__} is not in the registry, so no checkpoint can name it"
        )
    try:
        metadata = {
            "format_version": FORMAT_VERSION,
            "generator": names[0],
            "hyper_parameters": json.dumps(network.hyper_parameters, allow_nan=False),
            "training": json.dumps(dict(training), allow_nan=False),
        }
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the training description is not JSON: {error}") from error
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        # Not `save_file`: it makes files that only their owner can read, regardless of the umask.
        with temporary.open("wb") as file:
            file.write(in_order(serialize(tensors, metadata=metadata)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def in_order(content: bytes) -> bytes:
    """Sort a safetensors header: the library writes metadata in an order of its own each time."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def load_generator(path: Path) -> tuple[Generator, CheckpointInfo]:
    """Rebuild the generator that a checkpoint holds, on the CPU and in eval mode.

    Weights that are stored in half precision (float16 or bfloat16) become float32, without a loss.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: Not safetensors, another format version, missing or malformed metadata, or
            tensors that are missing, unexpected or of another shape or type than the network's.
        UnknownGeneratorError: The named generator is not in the registry, or the network needs a
            reference image.
    """
    return _load(path, build_generator)


def load_network(path: Path) -> tuple[Network, CheckpointInfo]:
    """Rebuild the network that a checkpoint holds, a generator or not; see `load_generator`."""
    return _load(path, build_network)


def read_info(path: Path) -> CheckpointInfo:
    """Read the header of a checkpoint, without its tensors; errors as `load_generator`."""
    try:
        with safe_open(path, framework="pt") as file:
            return _read_info(path, file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _load(
    path: Path, build: Callable[[str, Mapping[str, Any]], Built]
) -> tuple[Built, CheckpointInfo]:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    info = _read_info(path, metadata)
    network = build(info.generator, info.hyper_parameters)
    expected = network.state_dict()
    tensors = {name: _widened(tensor, expected.get(name)) for name, tensor in tensors.items()}
    _check_tensors(path, expected=expected, found=tensors)
    network.load_state_dict(tensors)
    network.eval()
    return network, info


def _read_info(path: Path, metadata: Mapping[str, str]) -> CheckpointInfo:
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format version {version!r}; this version of semsr reads "
            f"{FORMAT_VERSION!r}"
        )
    missing = [key for key in ("generator", "hyper_parameters", "training") if key not in metadata]
    if missing:
        raise CheckpointError(f"{path} lacks the metadata {', '.join(missing)}")
    return CheckpointInfo(
        format_version=version,
        generator=metadata["generator"],
        hyper_parameters=_read_object(path, "hyper_parameters", metadata["hyper_parameters"]),
        training=_read_object(path, "training", metadata["training"]),
    )


def _read_object(path: Path, key: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: metadata {key!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{path}: metadata {key!r} must be a JSON object, got {type(value).__name__}"
        )
    return value


def _widened(tensor: torch.Tensor, expected: torch.Tensor | None) -> torch.Tensor:
    """Convert half precision to the float32 that the network computes in; leave all else."""
    if expected is None or expected.dtype != torch.float32 or tensor.dtype not in HALF_PRECISION:
        return tensor
    return tensor.float()


def _check_tensors(
    path: Path, *, expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]
) -> None:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    if missing or extra:
        raise CheckpointError(
            f"{path} does not fit its network: missing tensors {missing}, unexpected {extra}"
        )
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise CheckpointError(
                f"{path}: tensor {name!r} is {tuple(found[name].shape)} {found[name].dtype}, the "
                f"network needs {tuple(tensor.shape)} {tensor.dtype}"
            )
