"""Open Inference Protocol v2 with the binary tensor extension: bytes to tiles and back. No HTTP.

One input, `lr` UINT8 [N, 1, H, W] with the bundle's tile for H and W; two outputs, `sr` UINT8
[N, 1, s*H, s*W] and `flags` FP32 [N, K]. Tensors are little endian, row by row, without padding.

Source: the Open Inference Protocol (REST), and NVIDIA Triton's extensions for binary tensors,
priorities and time-outs.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson

from bundle_format.bundle import Manifest
from service.ground.errors import BadRequest, ImageTooLarge, UnsuitableImage
from service.ground.priority import Priority

INPUT = "lr"
OUTPUTS = ("sr", "flags")
DATATYPES = {"sr": "UINT8", "flags": "FP32"}

# Triton: 1 is the highest priority, 0 the default.
_LAST_ONLINE_PRIORITY = 1
MAX_TIMEOUT_US = 3_600_000_000

# JSON is read on the event loop, a tenth of a second at most; this holds some 18 tiles.
MAX_JSON_BYTES = 4 << 20


@dataclass(frozen=True)
class InferRequest:
    """One request.

    Attributes:
        tiles: (N, 1, H, W) uint8.
        request_id: Id from the client, or None.
        outputs: Names of the requested outputs, in order, and whether each is sent as bytes.
        priority: Class.
        deadline_s: `time.monotonic()` at which the request expires, or None.
    """

    tiles: npt.NDArray[np.uint8]
    request_id: str | None
    outputs: tuple[tuple[str, bool], ...]
    priority: Priority
    deadline_s: float | None


def parse_infer(body: bytes, *, header_length: int | None, manifest: Manifest) -> InferRequest:
    """Read an inference request.

    Args:
        body: JSON, followed by the tensors that are sent as bytes.
        header_length: Bytes of JSON; None if all of it is, 0 if the body is one raw tile.
        manifest: Manifest of the model.

    Raises:
        BadRequest: The request is malformed.
        ImageTooLarge: It has more JSON than is read.
        UnsuitableImage: The tensor has another name, type or shape than the model's.
    """
    if header_length == 0:
        tiles = _tensor(body, (1, 1, *manifest.tile))
        return InferRequest(tiles, None, _wanted([], is_binary=True), Priority.ONLINE, None)
    size = len(body) if header_length is None else header_length
    if not 0 < size <= len(body):
        raise BadRequest(
            f"Inference-Header-Content-Length is {size}; the body has {len(body)} bytes"
        )
    if size > MAX_JSON_BYTES:
        raise ImageTooLarge(
            f"the request has {size} bytes of JSON, at most {MAX_JSON_BYTES} are read; send the "
            "tensor as bytes (binary_data_size)"
        )
    try:
        document: Any = orjson.loads(memoryview(body)[:size])
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request's JSON of {size} bytes cannot be read: {error}") from error
    fields = _object(document, "the request")
    parameters = _object(fields.get("parameters", {}), "parameters")
    request_id = fields.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise BadRequest(f"id is {request_id!r}; expected text")
    return InferRequest(
        tiles=_input(fields, memoryview(body)[size:], manifest),
        request_id=request_id,
        outputs=_wanted(
            _list(fields.get("outputs", []), "outputs"),
            is_binary=_flag(parameters, "binary_data_output", default=False),
        ),
        priority=_priority(parameters),
        deadline_s=_deadline_s(parameters),
    )


def make_answer(
    request: InferRequest,
    *,
    name: str,
    version: str,
    sr: Sequence[npt.NDArray[np.uint8]],
    flags: Sequence[npt.NDArray[np.float32]],
) -> tuple[int | None, list[bytes | memoryview]]:
    """Lay out an answer.

    Args:
        request: Request that it answers.
        name: Name of the model.
        version: Version of the model.
        sr: (s*H, s*W) of each tile.
        flags: (K,) of each tile.

    Returns:
        Bytes of JSON where tensors follow it as bytes, else None; and the body's parts in order.
    """
    shapes = {"sr": [len(sr), 1, *sr[0].shape], "flags": [len(flags), len(flags[0])]}
    tensors: dict[str, Sequence[npt.NDArray[Any]]] = {"sr": sr, "flags": flags}
    outputs: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for output, is_binary in request.outputs:
        entry: dict[str, Any] = {
            "name": output,
            "datatype": DATATYPES[output],
            "shape": shapes[output],
        }
        arrays = [np.ascontiguousarray(array) for array in tensors[output]]
        if is_binary:
            entry["parameters"] = {"binary_data_size": sum(array.nbytes for array in arrays)}
            parts += [array.reshape(-1).view(np.uint8).data for array in arrays]
        else:
            entry["data"] = np.concatenate([array.reshape(-1) for array in arrays])
        outputs.append(entry)
    document: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": outputs}
    if request.request_id is not None:
        document["id"] = request.request_id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (len(head) if parts else None), [head, *parts]


def _input(
    fields: Mapping[str, Any], binary: memoryview, manifest: Manifest
) -> npt.NDArray[np.uint8]:
    inputs = _list(fields.get("inputs"), "inputs")
    if len(inputs) != 1:
        raise BadRequest(f"the request has {len(inputs)} inputs; expected one, {INPUT!r}")
    entry = _object(inputs[0], "inputs[0]")
    if entry.get("name") != INPUT:
        raise UnsuitableImage(f"the input is called {entry.get('name')!r}; expected {INPUT!r}")
    if entry.get("datatype") != "UINT8":
        raise UnsuitableImage(f"{INPUT} is {entry.get('datatype')!r}; expected UINT8")
    shape = _shape(entry.get("shape"), manifest)
    parameters = _object(entry.get("parameters", {}), f"{INPUT}'s parameters")
    _refuse_shared_memory(parameters, INPUT)
    if "binary_data_size" in parameters:
        if "data" in entry:
            raise BadRequest(
                f"{INPUT} has both data and binary_data_size; expected one of them, because the "
                "tensor could be either"
            )
        if parameters["binary_data_size"] != len(binary):
            raise BadRequest(
                f"{INPUT} announces {parameters['binary_data_size']!r} bytes and {len(binary)} "
                "follow the JSON"
            )
        return _tensor(binary, shape)
    if len(binary):
        raise BadRequest(
            f"{len(binary)} bytes follow the JSON and {INPUT} has no binary_data_size to claim them"
        )
    return _from_json(entry.get("data"), shape)


def _shape(value: object, manifest: Manifest) -> tuple[int, int, int, int]:
    height, width = manifest.tile
    sides = cast("list[object]", value) if isinstance(value, list) else []
    whole = [side for side in map(_whole, sides) if side is not None]
    if len(whole) != len(sides) or len(whole) != 4 or whole[1:] != [1, height, width]:
        raise UnsuitableImage(f"{INPUT} has shape {value!r}; expected [N, 1, {height}, {width}]")
    if whole[0] < 1:
        raise UnsuitableImage(f"{INPUT} has shape {value!r}; expected at least one tile")
    return whole[0], 1, height, width


def _tensor(content: bytes | memoryview, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if len(content) != math.prod(shape):
        raise BadRequest(
            f"{INPUT} of shape {list(shape)} has {math.prod(shape)} bytes, got {len(content)}"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _from_json(data: object, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    try:
        values = np.asarray(data)
    except ValueError as error:
        raise BadRequest(f"{INPUT}'s data is not a tensor: {error}") from error
    if values.dtype.kind not in "iu" or values.size != math.prod(shape):
        raise BadRequest(
            f"{INPUT}'s data has {values.size} values of type {values.dtype}; expected "
            f"{math.prod(shape)} whole numbers"
        )
    if values.ndim > 1 and values.shape != shape:
        raise BadRequest(
            f"{INPUT}'s data is nested as {list(values.shape)}; expected its shape {list(shape)}, "
            "or one flat list"
        )
    if values.min() < 0 or values.max() > 255:
        raise BadRequest(f"{INPUT}'s data reaches beyond 0..255")
    return values.astype(np.uint8).reshape(shape)


def _wanted(outputs: Sequence[object], *, is_binary: bool) -> tuple[tuple[str, bool], ...]:
    """Return the requested outputs; a request that names none gets all."""
    if not outputs:
        return tuple((name, is_binary) for name in OUTPUTS)
    wanted: dict[str, bool] = {}
    for output in outputs:
        entry = _object(output, "an output")
        name = entry.get("name")
        if name not in OUTPUTS:
            raise BadRequest(f"unknown output {name!r}; expected {' or '.join(OUTPUTS)}")
        parameters = _object(entry.get("parameters", {}), f"{name}'s parameters")
        _refuse_shared_memory(parameters, str(name))
        if "classification" in parameters:
            raise BadRequest(f"{name} is not a classification; expected no such parameter")
        if name in wanted:
            raise BadRequest(f"the output {name} is requested twice; expected once")
        wanted[str(name)] = _flag(parameters, "binary_data", default=is_binary)
    return tuple(wanted.items())


def _refuse_shared_memory(parameters: Mapping[str, Any], name: str) -> None:
    """Refuse a tensor in shared memory: a client that reads its answer there gets old bytes."""
    found = [key for key in parameters if key.startswith("shared_memory_")]
    if found:
        raise BadRequest(f"{name} has the parameter {found[0]}; shared memory is not offered")


def _priority(parameters: Mapping[str, Any]) -> Priority:
    priority = parameters.get("priority", 0)
    value = _whole(priority)
    if value is None or value < 0:
        raise BadRequest(f"priority is {priority!r}; expected a whole number from 0 on")
    return Priority.ONLINE if value <= _LAST_ONLINE_PRIORITY else Priority.NIGHTLY


def _deadline_s(parameters: Mapping[str, Any]) -> float | None:
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    value = _whole(timeout)
    if value == 0:
        return None
    if value is None or not 0 < value <= MAX_TIMEOUT_US:
        raise BadRequest(
            f"timeout is {timeout!r}; expected microseconds, at most {MAX_TIMEOUT_US}, or 0 for "
            "none"
        )
    return time.monotonic() + value / 1e6


def _whole(value: object) -> int | None:
    """Return a JSON number that is whole, written as 8 or as 8.0; None for anything else."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} is {value!r}; expected true or false")
    return value


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"{name} is {type(value).__name__}; expected a JSON object")
    return cast("dict[str, Any]", value)


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{name} is {type(value).__name__}; expected a JSON array")
    return cast("list[Any]", value)
