"""The OpenAPI description: FastAPI's own for the quiet routes, written by hand for the hot one.

`/docs` shows it with Swagger UI from an installed package, never from the network: fabs are
air-gapped.
"""

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

VERSION = importlib.metadata.version("semsr")
# Only this package's folder of Swagger UI files is used; importing it is not needed.
_ASSETS_PACKAGE = "fastapi_swagger"

_BINARY = {"schema": {"type": "string", "format": "binary"}}
REQUEST_TYPES = (
    "image/png",
    "image/tiff",
    "image/jpeg",
    "image/bmp",
    "application/x-npy",
    "application/octet-stream",
)
ANSWER_TYPES = (
    "image/png",
    "image/tiff",
    "image/jxl",
    "application/x-npy",
    "application/octet-stream",
    "application/zstd",
)

STREAM_TYPES = (
    "application/octet-stream",
    "application/x-npy",
    "application/x-tar",
    "image/tiff",
    "application/zip",
)
STREAM_ANSWER_TYPES = ("application/x-tar", "multipart/mixed")

_DESCRIPTION = """\
Send one grey SEM image, get it enlarged by the model's scale (240x240 becomes 960x960 with the
default bundle). 8 or 16 bit; grey stored as RGB(A) or with a palette is accepted, colour is not.
Images of other sizes are padded by reflection or cut into overlapping tiles; the answer always has
scale times the size that was sent.

Without `Accept` the answer has the request's type (JPEG and BMP: PNG). `application/octet-stream`
is raw grey, row by row, and needs `X-Tile-Shape`. `application/zstd` is the raw answer compressed.
"""


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


_PARAMETERS = [
    {
        "name": "model",
        "in": "query",
        "required": False,
        "description": "Name of the model, where several are served; default: the first one.",
        "schema": {"type": "string"},
    },
    _header("X-Tile-Shape", "Height and width of a raw body; required for it.", "240,240"),
    _header(
        "X-Tile-Dtype", "Type of a raw body: uint8 (default) or uint16, little endian.", "uint8"
    ),
    _header(
        "X-Window",
        "Grey range lo,hi of 16-bit input that maps to 0..255; default: the bundle's or 0,65535.",
        "0,65535",
    ),
    _header(
        "X-Answer-Dtype",
        "uint8 (default), or uint16: the 8-bit result scaled back to the window; 8 bits in truth.",
        "uint8",
    ),
    _header(
        "X-Pixel-Size-Nm",
        "Pixel size of the image sent, in nm (one number, or x,y); wins over the file's own.",
        "4",
    ),
    _header(
        "X-Request-Timeout-Ms",
        "Milliseconds after which the answer is useless; a tile still queued then gets 504.",
        "500",
    ),
    _header(
        "X-Priority",
        "online (default), or nightly: runs when no online tile waits, and fills up batches.",
        "nightly",
    ),
    _header("X-Request-ID", "Echoed in the answer and in the log.", "lot42-wafer3-0017"),
]

_ANSWER_HEADERS = {
    "X-Tile-Shape": "Height and width of the answer.",
    "X-Tile-Dtype": "uint8 or uint16.",
    "X-Pixel-Size-Nm": "Pixel size of the answer in nm, where it is known.",
    "X-Quality": "What the graph says of its own answer: non-finite, saturated, consistency, "
    "consistency-worst, residual, domain-distance (see docs/http-api.md).",
    "X-Model": "Name of the model.",
    "X-Model-Version": "First twelve digits of the bundle's sha256.",
    "X-Scale": "Enlargement: the answer's sides over those of the image sent.",
    "X-Engine": "Runtime that computed the answer.",
    "X-Precision": "Execution precision.",
    "X-Request-ID": "The request's id, sent or generated.",
    "Server-Timing": "Milliseconds by stage: recv, decode, queue, infer, encode, total.",
}

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem; the same shape for every error.",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "example": "urn:semsr:problem:unsuitable-image"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {
            "type": "string",
            "description": "What was wrong, the value, what was expected.",
        },
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "error": {"type": "string", "description": "The same as detail."},
        "retry_after_ms": {"type": "integer", "description": "With 503: when to try again."},
    },
}

_PROBLEM_STATUSES = {
    "400": "The body does not decode, or a header cannot be read.",
    "406": "No answer type that the client accepts.",
    "408": "The body came too slowly.",
    "413": "Body or image beyond a limit.",
    "415": "A content type that is not read here.",
    "422": "Decodes, but wrong channels, data type or size.",
    "500": "The engine failed on the batch.",
    "503": "Saturated, starting or draining; see Retry-After and retry_after_ms.",
    "504": "The request's deadline passed in the queue.",
}


_PROBLEM_CONTENT = {
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
}


def _operation() -> dict[str, Any]:
    problem = _PROBLEM_CONTENT
    multipart = {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        }
    }
    return {
        "tags": ["super-resolution"],
        "summary": "Super-resolve one image",
        "description": _DESCRIPTION,
        "operationId": "superresolve",
        "parameters": _PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {
                **dict.fromkeys(REQUEST_TYPES, _BINARY),
                "multipart/form-data": multipart,
            },
        },
        "responses": {
            "200": {
                "description": "The enlarged image.",
                "headers": {
                    name: {"description": text, "schema": {"type": "string"}}
                    for name, text in _ANSWER_HEADERS.items()
                },
                "content": dict.fromkeys(ANSWER_TYPES, _BINARY),
            },
            **{
                status: {"description": text, **problem}
                for status, text in _PROBLEM_STATUSES.items()
            },
        },
    }


_BATCH_DESCRIPTION = """\
Send many grey images in one request; answers come in order, each as soon as it is there, while
later images are still uploading. Raw, npy and tar have no limit in length; TIFF and zip are spooled
first (`SEMSR_MAX_SPOOL_BYTES`). The client must read while it sends: see docs/http-api.md.

`Accept` names the container (`application/x-tar`, the default, or `multipart/mixed`) and the type
of its entries (as for one image). A bad image gets `NAME.problem.json` and costs nothing else; what
ends the upload early is told by a last entry, `batch.problem.json`. `X-Priority` is `nightly` by
default, `X-Request-Timeout-Ms` counts for each image from when it has been read.
"""


def _batch_operation() -> dict[str, Any]:
    return {
        "tags": ["super-resolution"],
        "summary": "Super-resolve many images in one request",
        "description": _BATCH_DESCRIPTION,
        "operationId": "superresolve_batch",
        "parameters": _PARAMETERS,
        "requestBody": {"required": True, "content": dict.fromkeys(STREAM_TYPES, _BINARY)},
        "responses": {
            "200": {
                "description": "The enlarged images, and a problem for each that has none.",
                "content": dict.fromkeys(STREAM_ANSWER_TYPES, _BINARY),
            },
            **{
                status: {"description": text, **_PROBLEM_CONTENT}
                for status, text in _PROBLEM_STATUSES.items()
                if status not in {"500", "504"}
            },
        },
    }


def _infer_operation() -> dict[str, Any]:
    parameters = [
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
        _header(
            "Inference-Header-Content-Length",
            "Bytes of JSON before the tensors' bytes; 0: the body is one raw tile.",
            "0",
        ),
    ]
    return {
        "tags": ["open inference protocol"],
        "summary": "Super-resolve tiles of the model's size",
        "description": "Input lr UINT8 [N, 1, H, W]; outputs sr UINT8 and flags FP32. Binary "
        "tensor extension; parameters priority (0 and 1: online, from 2 on: nightly) and timeout "
        "(microseconds).",
        "operationId": "infer",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": _BINARY,
                "application/json": {"schema": {"type": "object"}},
            },
        },
        "responses": {
            "200": {
                "description": "The outputs, as JSON or as JSON followed by bytes.",
                "content": {
                    "application/octet-stream": _BINARY,
                    "application/json": {"schema": {"type": "object"}},
                },
            }
        },
    }


def install(app: FastAPI, more_schemas: Mapping[str, Any]) -> None:
    """Give an app its whole OpenAPI description, and `/docs` with the files that show it.

    Args:
        app: The app with its routes.
        more_schemas: Of bodies that routes read by themselves.
    """

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            schema["paths"] = {
                "/superresolve": {"post": _operation()},
                "/superresolve/batch": {"post": _batch_operation()},
                **schema["paths"],
                "/v2/models/{name}/infer": {"post": _infer_operation()},
            }
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = _PROBLEM
            schemas.update(more_schemas)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = build  # FastAPI's documented way to extend the schema
    app.mount("/docs/assets", StaticFiles(directory=_assets()), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        # Behind a reverse proxy that strips a prefix, root_path is that prefix.
        root = str(request.scope.get("root_path", "")).rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="semsr",
            swagger_js_url=f"{root}/docs/assets/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/assets/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/assets/favicon-32x32.png",
        )


def _assets() -> Path:
    spec = importlib.util.find_spec(_ASSETS_PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {_ASSETS_PACKAGE!r} with Swagger UI is not installed")
    return Path(spec.origin).parent / "resources"
