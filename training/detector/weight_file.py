"""The detector's file: weights in half precision with threshold, training and test figures.

One safetensors file whose metadata (all strings) holds `kind`, `format_version`, `threshold`,
`hyper_parameters` and `description` (JSON each). Nothing is unpickled. Half precision keeps the
shipped file below 1 MB; the threshold is set with the rounded weights (see `train`).
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from training.detector.detector import Detector
from training.detector.network import DetectorNetwork
from training.ground.whole_file import whole_file

FORMAT_VERSION = "1"
KIND = "semsr-detector"
SHIPPED = Path(__file__).with_name("detector.safetensors")


class DetectorFileError(ValueError):
    """A file that is not a semsr detector, or one that this version cannot read."""


def half_precision(network: DetectorNetwork) -> dict[str, torch.Tensor]:
    """Return the network's tensors as the file keeps them: on the CPU, floats as float16."""
    tensors = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in tensors.items()
    }


def save_detector(path: Path, detector: Detector) -> None:
    """Write a detector to one file, in one step; its folder is created.

    Raises:
        DetectorFileError: The description is not JSON-compatible.
    """
    try:
        metadata = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "threshold": json.dumps(detector.threshold, allow_nan=False),
            "hyper_parameters": json.dumps(detector.network.hyper_parameters),
            "description": json.dumps(detector.description, allow_nan=False),
        }
    except (TypeError, ValueError) as error:
        raise DetectorFileError(
            f"the detector's threshold or description is not JSON: {error}"
        ) from error
    with whole_file(path, is_durable=True) as part:
        part.write_bytes(serialize(half_precision(detector.network), metadata=metadata))


def load_detector(path: Path | None = None) -> Detector:
    """Read a detector, by default the one shipped with this package.

    Raises:
        FileNotFoundError: The file does not exist.
        DetectorFileError: Not safetensors, no detector, another format version, malformed
            metadata, or tensors that do not fit the network.
    """
    path = path or SHIPPED
    if not path.is_file():
        raise FileNotFoundError(f"no detector at {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise DetectorFileError(f"{path} is not a safetensors file: {error}") from error
    found = (metadata.get("kind"), metadata.get("format_version"))
    if found != (KIND, FORMAT_VERSION):
        raise DetectorFileError(
            f"{path} has kind {found[0]!r} and format version {found[1]!r}; this version of semsr "
            f"reads {KIND!r}, {FORMAT_VERSION!r}"
        )
    return _build(path, metadata, tensors)


def _build(path: Path, metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> Detector:
    values: dict[str, Any] = {}
    for key in ("threshold", "hyper_parameters", "description"):
        try:
            values[key] = json.loads(metadata[key])
        except (KeyError, json.JSONDecodeError) as error:
            raise DetectorFileError(
                f"{path}: metadata {key!r} is missing or not JSON: {error}"
            ) from error
    threshold = values["threshold"]
    if not (isinstance(threshold, float) and math.isfinite(threshold)):
        raise DetectorFileError(
            f"{path}: metadata 'threshold' must be a finite number, got {threshold!r}"
        )
    try:
        network = DetectorNetwork(**values["hyper_parameters"])
        network.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DetectorFileError(f"{path} does not fit its network: {error}") from error
    return Detector(network, threshold, description=values["description"])
