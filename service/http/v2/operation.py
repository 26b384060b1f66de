"""The hot route of the Open Inference Protocol in OpenAPI, and the schemas of its JSON."""

from typing import Any

from service.http.schemas import (
    BINARY,
    TOOL_PARAMETER,
    header_parameter,
    refusals,
    with_text_keys,
)
from service.http.v2.protocol import INPUT, MAX_TIMEOUT_US, OUTPUTS

_JSON = "application/json"
_RAW = "application/octet-stream"

_INFER_DESCRIPTION = """\
Input `lr` UINT8 [N, 1, H, W] with the model's tile for H and W; outputs `sr` UINT8 and `flags`
FP32. Tensors travel as JSON, or by the binary tensor extension as bytes after it.
"""


def infer(*, with_version: bool) -> dict[str, Any]:
    """Return the operation `POST /v2/models/{name}[/versions/{version}]/infer`."""
    names = ("name", "version") if with_version else ("name",)
    content = {
        _RAW: BINARY,
        _JSON: {"schema": {"$ref": "#/components/schemas/InferRequest"}},
    }
    answer = {**content, _JSON: {"schema": {"$ref": "#/components/schemas/InferResponse"}}}
    return {
        "tags": ["open inference protocol"],
        "summary": "Super-resolve tiles of the model's size",
        "description": _INFER_DESCRIPTION,
        "operationId": "infer_version" if with_version else "infer",
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in names
            ),
            header_parameter(
                "Inference-Header-Content-Length",
                "Bytes of JSON before the tensors' bytes; 0: the body is one raw tile; without it "
                "the whole body is JSON.",
                0,
                type="integer",
                minimum=0,
            ),
            TOOL_PARAMETER,
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "The outputs, as JSON or as JSON followed by bytes.",
                "content": answer,
            },
            **with_text_keys(refusals(400, 404, 408, 413, 415, 422, 500, 503, 504)),
        },
    }


def _tensor(name: dict[str, Any], datatype: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": name,
            "datatype": datatype,
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array", "description": "Values, flat or nested as the shape."},
            "parameters": {
                "type": "object",
                "properties": {
                    "binary_data_size": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "Bytes of this tensor after the JSON, in place of data.",
                    }
                },
            },
        },
    }


def _infer_request() -> dict[str, Any]:
    tensor = _tensor({"const": INPUT}, {"const": "UINT8"})
    tensor["properties"]["shape"] = {
        "type": "array",
        "description": "[N, 1, H, W], with the model's tile for H and W.",
        "items": {"type": "integer", "minimum": 1},
        "minItems": 4,
        "maxItems": 4,
    }
    return {
        "type": "object",
        "description": "Request of the Open Inference Protocol v2.",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "description": "Id that is returned."},
            "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": tensor},
            "outputs": {
                "type": "array",
                "description": "Outputs wanted, each once; without it all of them.",
                "maxItems": len(OUTPUTS),
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"enum": list(OUTPUTS)},
                        "parameters": {
                            "type": "object",
                            "properties": {"binary_data": {"type": "boolean"}},
                        },
                    },
                },
            },
            "parameters": {
                "type": "object",
                "properties": {
                    "priority": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "Class: 0 and 1 are online, from 2 on nightly.",
                    },
                    "timeout": {
                        "type": ["integer", "null"],
                        "minimum": 0,
                        "maximum": MAX_TIMEOUT_US,
                        "description": "Microseconds after which the answer is useless; 0: none.",
                    },
                    "binary_data_output": {"type": "boolean"},
                },
            },
        },
    }


def _infer_response() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Answer of the Open Inference Protocol v2.",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {
                "type": "array",
                "items": _tensor({"enum": list(OUTPUTS)}, {"enum": ["UINT8", "FP32"]}),
            },
        },
    }


SCHEMAS: dict[str, dict[str, Any]] = {
    "InferRequest": _infer_request(),
    "InferResponse": _infer_response(),
}
