"""One body for every error: any exception becomes an `application/problem+json` answer (RFC 9457).

Used by the middleware for errors of the hot routes and by FastAPI's handlers for all others,
so that a client reads one shape for all errors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.ground.errors import OverQuota, QueueFull, ServiceError, Unauthorized

MEDIA_TYPE = "application/problem+json"
# A refused client should not come back within the same instant even if the queue is short.
MIN_RETRY_AFTER_S = 0.05
# Length limit of a path in an answer: a path of 60 KB would be returned as three times as much.
_MAX_PATH = 512

_TITLES = {
    404: ("not-found", "No such resource"),
    405: ("method-not-allowed", "Method not allowed"),
}


@dataclass(frozen=True)
class Problem:
    """A problem ready to be sent.

    Attributes:
        status: HTTP status.
        code: Stable name for logs and metrics.
        body: JSON bytes.
        headers: All headers of the answer.
    """

    status: int
    code: str
    body: bytes
    headers: list[tuple[bytes, bytes]]


def problem_from(
    error: Exception, *, request_id: str, path: str, more: Mapping[str, object] | None = None
) -> Problem:
    """Describe any exception as a problem; unknown ones reveal no internals.

    Args:
        error: Exception.
        request_id: Id of the request, so that a client's report leads to the log line.
        path: Path of the request, for `instance`.
        more: Extension members of the problem.
    """
    path = path if len(path) <= _MAX_PATH else f"{path[:_MAX_PATH]}…"
    status, code, title, detail, retry_after_s = _describe(error, path)
    content: dict[str, object] = {
        "type": f"urn:semsr:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path,
        "request_id": request_id,
        # Open Inference Protocol clients look for their message here.
        "error": detail,
        **(more or {}),
    }
    if isinstance(error, ServiceError) and error.fields:
        content["errors"] = [{"field": name, "detail": text} for name, text in error.fields]
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"cache-control", b"no-store"),
    ]
    if status in {429, 503}:
        wait_s = max(MIN_RETRY_AFTER_S, retry_after_s or 0.0)
        content["retry_after_ms"] = math.ceil(wait_s * 1000)
        headers.append((b"retry-after", str(max(1, math.ceil(wait_s))).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="semsr"'))
    if isinstance(error, HTTPException) and error.headers:
        headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    body = orjson.dumps(content)
    headers.append((b"content-length", str(len(body)).encode()))
    return Problem(status, code, body, headers)


def _describe(error: Exception, path: str) -> tuple[int, str, str, str, float | None]:
    if isinstance(error, ServiceError):
        return error.status, error.code, error.title, error.detail, error.retry_after_s
    if isinstance(error, HTTPException):
        code, title = _TITLES.get(error.status_code, ("http-error", "The request failed"))
        detail = str(error.detail)
        if error.status_code == 404:
            detail = f"unknown path {path}; /docs lists all paths"
        return error.status_code, code, title, detail, None
    if isinstance(error, RequestValidationError):
        return 422, "invalid-parameters", "Invalid parameters", _what_is_wrong(error), None
    return 500, "internal-error", "Internal error", "an unexpected error; see the log", None


def _what_is_wrong(error: RequestValidationError) -> str:
    """Name the first wrong parameter; unknown ones first, because they leave others missing."""
    found = error.errors()
    unknown = [one for one in found if one["type"] == "extra_forbidden"]
    first = (unknown or found)[0]
    place, *names = (str(part) for part in first.get("loc", ()))
    if unknown:
        return f"{place}: unknown field {'.'.join(names)[:80]!r}; /docs lists all fields"
    where = ".".join([place, *names])
    return f"{where}: {first['msg']} (found {first.get('input')!r:.80})"


def rejection_reason(error: Exception) -> str | None:
    """Name the reason for `semsr_rejected_total`, or None if the service was not protecting itself.

    Returns:
        `queue_full`, `not_ready`, `over_quota`, `unauthorized`, or None.
    """
    if isinstance(error, OverQuota | Unauthorized):
        return error.code.replace("-", "_")
    if isinstance(error, QueueFull):
        return "queue_full"
    if isinstance(error, ServiceError) and error.status == 503:
        return "not_ready"
    return None
