"""JSON bodies of the quiet routes, and the answers that describe an error in OpenAPI."""

import importlib.metadata
from typing import Any

from pydantic import BaseModel, Field

from bundle_format.bundle import GeneratorInfo, ParityFigures
from bundle_format.trust_record import NoiseRecord, TrustRecord
from service.ground.tools import PATTERN as TOOL_PATTERN
from service.hosting.serving import Serving

VERSION = importlib.metadata.version("semsr")
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem; the same shape for every error.",
    "required": ["type", "title", "status", "detail", "instance", "request_id", "error"],
    "properties": {
        "type": {"type": "string", "example": "urn:semsr:problem:unsuitable-image"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {
            "type": "string",
            "description": "The problem, the value, and what was expected.",
        },
        "instance": {"type": "string", "description": "Path of the request."},
        "request_id": {"type": "string"},
        "error": {"type": "string", "description": "The same as detail."},
        "errors": {
            "type": "array",
            "description": "Invalid fields of a JSON body, where they are known.",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {
                    "field": {"type": "string", "example": "options.window"},
                    "detail": {"type": "string"},
                },
            },
        },
        "retry_after_ms": {
            "type": "integer",
            "description": "With 429 and 503: milliseconds until a retry makes sense.",
        },
    },
}

# Meanings of the statuses of errors; each route names its own statuses.
_MEANINGS = {
    400: "The body does not decode, or a header or parameter cannot be read.",
    401: "No API key, or an unknown one (SEMSR_API_KEYS).",
    403: "The API key does not allow this.",
    404: "No such model, version or scan.",
    406: "No answer type that the client accepts.",
    408: "The body arrived too slowly.",
    409: "Not possible in the current state.",
    413: "Body or image beyond a limit.",
    415: "A content type or content encoding that is not read.",
    422: "The request is readable but unsuitable: channels, data type, size, or a field.",
    429: "More requests than this client's quota allows; see Retry-After and retry_after_ms.",
    500: "The engine failed on the batch.",
    503: "Saturated, starting or draining; see Retry-After and retry_after_ms.",
    504: "The request's deadline passed in the queue.",
}


def refusals(*statuses: int, **meanings: str) -> dict[int | str, dict[str, Any]]:
    """Describe answers that are problems.

    Args:
        statuses: HTTP statuses with their usual meaning.
        meanings: Other meanings, by status, as in `s409="…"`.

    Returns:
        OpenAPI's `responses`, in the form that FastAPI takes.
    """
    texts = {status: _MEANINGS[status] for status in statuses}
    texts |= {int(name.removeprefix("s")): text for name, text in meanings.items()}
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": text, "content": {"application/problem+json": {"schema": schema}}}
        for status, text in sorted(texts.items())
    }


def header_parameter(
    name: str, description: str, example: object, **schema: object
) -> dict[str, Any]:
    """Describe an optional header of a request; further arguments are of its schema."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
        "example": example,
    }


TOOL_PARAMETER = header_parameter(
    "X-Tool",
    "Tool that made the image; a label of the quality metrics.",
    "CDSEM-07",
    pattern=f"^{TOOL_PATTERN}$",
)


def with_text_keys(responses: dict[int | str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return responses with their statuses as OpenAPI writes them, as text."""
    return {str(status): response for status, response in responses.items()}


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Describe an optional body of JSON that a route reads by itself.

    Args:
        kind: Pydantic model of the body, without nested models.

    Returns:
        What FastAPI takes as `openapi_extra`.
    """
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": False, "content": content}}


class Health(BaseModel):
    """Answer of `/livez` and `/readyz`."""

    status: str


class TrustLimits(BaseModel):
    """Noise model and limit of the flag `residual`, with which a client can repeat it."""

    noise: NoiseRecord
    residual_limit: float = Field(description="Score that counts as 1, in deviations.")

    @classmethod
    def of(cls, trust: TrustRecord) -> "TrustLimits":
        """Take what the flag `residual` needs."""
        return cls(noise=trust.noise, residual_limit=trust.residual_limit)


class ModelInfo(BaseModel):
    """Answer of `/model`."""

    name: str
    version: str
    sha256: str
    generator: GeneratorInfo
    scale: int
    tile: tuple[int, int]
    halo_px: int
    max_batch_size: int
    engine: str
    precision: str
    training: dict[str, Any]
    parity: dict[str, ParityFigures]
    trust: TrustLimits | None

    @classmethod
    def of(cls, serving: Serving) -> "ModelInfo":
        """Describe a model as it is served."""
        manifest = serving.bundle.manifest
        return cls(
            name=serving.name,
            version=serving.bundle.version,
            sha256=serving.bundle.digest,
            generator=manifest.generator,
            scale=manifest.scale,
            tile=manifest.tile,
            halo_px=manifest.halo_px,
            max_batch_size=manifest.max_batch_size,
            engine=serving.engine,
            precision=serving.precision,
            training=manifest.training,
            parity={str(precision): figures for precision, figures in manifest.parity.items()},
            trust=None if manifest.trust is None else TrustLimits.of(manifest.trust),
        )
