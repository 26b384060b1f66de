"""The hot routes in OpenAPI, written by hand: they read and answer without FastAPI.

The description is as strict as JSON Schema allows; constraints beyond it (that a raw body has the
bytes that `X-Tile-Shape` says, that a window's low is below its high) are described in words and
answered with a documented 4xx.
"""

from typing import Any

from service.http.schemas import (
    BINARY,
    TOOL_PARAMETER,
    header_parameter,
    refusals,
    with_text_keys,
)
from service.http.stream.request import STREAM_TYPES
from service.images.media_types import ANSWER_TYPES, CONTAINERS, READABLE_TYPES
from service.images.request import MAX_TIMEOUT_MS

_DESCRIPTION = """\
Send one grey SEM image, get it enlarged by the model's scale (240x240 becomes 960x960 with the
default bundle). 8 or 16 bit; grey stored as RGB(A) or with a palette is accepted, colour is not.
Images of other sizes are padded by reflection or cut into overlapping tiles; the answer always has
scale times the size that was sent.

Without `Accept` the answer has the request's type (JPEG and BMP: PNG). `application/octet-stream`
is raw grey, row by row, and needs `X-Tile-Shape`. `application/zstd` is the raw answer compressed.
A form (`multipart/form-data`) carries any of these types in its one field `file`, for clients that
cannot set the type of a body.
"""

_BATCH_DESCRIPTION = """\
Send many grey images in one request; answers come in order, each as soon as it is ready, while
later images are still uploading. Raw, npy and tar have no limit in length; TIFF and zip are spooled
first (`SEMSR_MAX_SPOOL_BYTES`). The client must read while it sends: see docs/http-api.md.

`Accept` names the container (`application/x-tar`, the default, or `multipart/mixed`) and the type
of its entries (as for one image). A bad image gets `NAME.problem.json` and affects no other; a
last entry, `batch.problem.json`, says why the upload ended early. `X-Priority` is `nightly` by
default, `X-Request-Timeout-Ms` counts for each image from when it has been read. A form
carries any of these types in its one field `file`.
"""

_PIXEL_SIZE = r"[0-9]{1,15}(\.[0-9]{0,15})?([eE][-+]?[0-9]{1,3})?"


MODEL_PARAMETER: dict[str, Any] = {
    "name": "model",
    "in": "query",
    "required": False,
    "description": "Name of the model, where several are served; default: the first one.",
    "schema": {"type": "string", "minLength": 1},
}

_PARAMETERS = [
    MODEL_PARAMETER,
    header_parameter(
        "X-Tile-Shape",
        "Height and width of a raw body in pixels; required for it, and refused where it "
        "contradicts the file of another type.",
        "240,240",
        pattern=r"^[0-9]{1,9}\s*,\s*[0-9]{1,9}$",
    ),
    header_parameter(
        "X-Tile-Dtype",
        "Data type of a raw body: uint8 (default) or uint16, little endian.",
        "uint8",
        enum=["uint8", "uint16"],
    ),
    header_parameter(
        "X-Window",
        "Grey range lo,hi of 16-bit input that maps to 0..255, with 0 ≤ lo < hi ≤ 65535; default: "
        "the bundle's or 0,65535.",
        "0,65535",
        pattern=r"^[0-9]{1,5}\s*,\s*[0-9]{1,5}$",
    ),
    header_parameter(
        "X-Answer-Dtype",
        "Data type of the answer: uint8 (default), or uint16: the result scaled back to the "
        "window; it carries 8 bits unless X-Answer-Bits is 16.",
        "uint8",
        enum=["uint8", "uint16"],
    ),
    header_parameter(
        "X-Answer-Bits",
        "Bits that the network gives: 8 (default), or 16: an answer in uint16, where the service "
        "runs with SEMSR_ANSWER_BITS=16.",
        "8",
        enum=["8", "16"],
    ),
    header_parameter(
        "X-Pixel-Size-Nm",
        "Pixel size of the image sent, in nm (one number, or x,y), 0.001 to 1e9; wins over the "
        "file's own.",
        "4",
        pattern=rf"^{_PIXEL_SIZE}(\s*,\s*{_PIXEL_SIZE})?$",
    ),
    header_parameter(
        "X-Request-Timeout-Ms",
        "Milliseconds after which the answer is useless; a tile still queued then gets 504.",
        500,
        type="number",
        exclusiveMinimum=0,
        maximum=MAX_TIMEOUT_MS,
    ),
    header_parameter(
        "X-Priority",
        "Class of the request: online (default), or nightly: runs when no online tile waits, and "
        "fills up batches.",
        "nightly",
        enum=["online", "nightly"],
    ),
    TOOL_PARAMETER,
    header_parameter(
        "X-Request-ID", "Id that is echoed in the answer and in the log.", "lot42-wafer3-0017"
    ),
]

_ANSWER_HEADERS = {
    "X-Tile-Shape": "Height and width of the answer.",
    "X-Tile-Dtype": "Data type of the answer: uint8 or uint16.",
    "X-Answer-Bits": "16 where the network gave 16 bits; else absent.",
    "X-Pixel-Size-Nm": "Pixel size of the answer in nm, where it is known.",
    "X-Quality": "Judgement of the graph on its own answer: non-finite, saturated, consistency, "
    "consistency-worst, residual, domain-distance (see docs/http-api.md).",
    "X-Model": "Name of the model.",
    "X-Model-Version": "First twelve digits of the bundle's sha256.",
    "X-Scale": "Enlargement: the answer's sides over those of the image sent.",
    "X-Engine": "Runtime that computed the answer.",
    "X-Precision": "Execution precision.",
    "X-Request-ID": "Id of the request, sent or generated.",
    "Server-Timing": "Milliseconds by stage: recv, decode, queue, infer, encode, total.",
}

_REFUSALS = refusals(400, 404, 406, 408, 413, 415, 422, 500, 503, 504)


def _form(media_types: tuple[str, ...]) -> dict[str, Any]:
    return {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        },
        "encoding": {"file": {"contentType": ", ".join(media_types)}},
    }


def superresolve() -> dict[str, Any]:
    """Return the operation `POST /superresolve`."""
    return {
        "tags": ["super-resolution"],
        "summary": "Super-resolve one image",
        "description": _DESCRIPTION,
        "operationId": "superresolve",
        "parameters": _PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {
                **dict.fromkeys(READABLE_TYPES, BINARY),
                "multipart/form-data": _form(READABLE_TYPES),
            },
        },
        "responses": {
            "200": {
                "description": "The enlarged image.",
                "headers": {
                    name: {"description": text, "schema": {"type": "string"}}
                    for name, text in _ANSWER_HEADERS.items()
                },
                "content": dict.fromkeys(ANSWER_TYPES, BINARY),
            },
            **with_text_keys(_REFUSALS),
        },
    }


def superresolve_batch() -> dict[str, Any]:
    """Return the operation `POST /superresolve/batch`."""
    return {
        "tags": ["super-resolution"],
        "summary": "Super-resolve many images in one request",
        "description": _BATCH_DESCRIPTION,
        "operationId": "superresolve_batch",
        "parameters": _PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {
                **dict.fromkeys(STREAM_TYPES, BINARY),
                "multipart/form-data": _form(STREAM_TYPES),
            },
        },
        "responses": {
            "200": {
                "description": "The enlarged images, and a problem for each that has none.",
                "content": dict.fromkeys(CONTAINERS, BINARY),
            },
            **with_text_keys(refusals(400, 404, 406, 408, 413, 415, 422, 503)),
        },
    }
