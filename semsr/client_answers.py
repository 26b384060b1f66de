"""What the client gives back, and what it makes of the service's answers; see `semsr.client`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Tile = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Priority = Literal["online", "nightly"]

# Saturated, or over this client's quota.
RETRIED = frozenset({429, 503})
# Without Retry-After a connection that broke is tried again after about so long, doubling.
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 2.0
# Others were told the same time to come again: spread them.
JITTER = 0.25


class ServiceError(Exception):
    """The service answered with a problem, or could not be reached.

    Attributes:
        status: HTTP status; 0 where there was no answer.
        code: Stable name such as `queue-full`; `unreachable` or `bad-answer` from here.
        detail: What was wrong, for people.
        request_id: The request's id, which the service's log carries; empty without an answer.
    """

    def __init__(self, status: int, code: str, detail: str, *, request_id: str = "") -> None:
        super().__init__(f"{code} ({status}): {detail}" if status else f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class DeadlineError(ServiceError):
    """The answer did not come within the deadline; the last reason is in the detail."""


@dataclass(frozen=True, kw_only=True)
class SrTile:
    """One answer.

    Attributes:
        pixels: (s*H, s*W) uint8, or uint16 where asked for; read-only.
        quality: What the model's graph says of the answer: `non-finite`, `saturated`,
            `consistency`, `consistency-worst` and, where the bundle has their limits,
            `residual` and `domain-distance`.
        model: Name of the model.
        model_version: First twelve digits of the bundle's sha256.
        engine: What computed it.
        precision: In which precision.
        request_id: As in the service's log; many tiles of one request share it.
        timing_ms: Milliseconds by stage, as the service measured them; empty for one of many.
        attempts: Requests that were sent for it.
    """

    pixels: Tile
    quality: dict[str, float]
    model: str
    model_version: str
    engine: str
    precision: str
    request_id: str
    timing_ms: dict[str, float]
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every request of a client has in common."""

    timeout_s: float
    priority: Priority
    window: tuple[int, int] | None
    answer_dtype: Literal["uint8", "uint16"]

    def headers(self) -> dict[str, str]:
        """Return the headers that say so, but for the time-out."""
        headers = {"x-answer-dtype": self.answer_dtype, "x-priority": self.priority}
        if self.window is not None:
            headers["x-window"] = f"{self.window[0]},{self.window[1]}"
        return headers


def checked(tile: Tile) -> Tile:
    """Return a tile as it is sent: C order, little endian.

    Raises:
        ValueError: It is not a two-dimensional array of uint8 or uint16, or has no pixel.
    """
    if tile.ndim != 2 or tile.dtype.kind != "u" or tile.dtype.itemsize > 2 or not tile.size:
        raise ValueError(
            "a tile is a two-dimensional array of uint8 or uint16 with a pixel or more, got "
            f"{tile.dtype} of shape {tile.shape}"
        )
    sent: Any = np.ascontiguousarray(tile, dtype=tile.dtype.newbyteorder("<"))
    return sent


def read_tile(
    body: bytes, facts: Mapping[str, str], answer: Mapping[str, str], *, attempts: int
) -> SrTile:
    """Read a raw answer.

    Args:
        body: The pixels.
        facts: Headers of the tile, by lower-case names.
        answer: Headers of the whole answer.
        attempts: Requests that were sent for it.

    Raises:
        ServiceError: It is no answer of this service.
    """
    try:
        height, width = (int(side) for side in facts["x-tile-shape"].split(","))
        dtype = np.dtype(facts["x-tile-dtype"]).newbyteorder("<")
        pixels: Any = np.frombuffer(body, dtype=dtype).reshape(height, width)
        quality = _pairs(facts["x-quality"], ",", "=")
        timing = _pairs(facts.get("server-timing", "").replace(";dur=", "="), ",", "=")
    except (KeyError, ValueError, TypeError) as error:
        raise ServiceError(
            200, "bad-answer", f"the answer is no tile of this service: {error!r}"
        ) from error
    return SrTile(
        pixels=pixels,
        quality=quality,
        model=answer.get("x-model", ""),
        model_version=answer.get("x-model-version", ""),
        engine=answer.get("x-engine", ""),
        precision=answer.get("x-precision", ""),
        request_id=answer.get("x-request-id", ""),
        timing_ms=timing,
        attempts=attempts,
    )


def read_problem(status: int, content: bytes, *, request_id: str) -> ServiceError:
    """Read a problem; an answer that is none comes from something between here and the service."""
    try:
        problem: Any = json.loads(content)
        code = str(problem["type"]).rpartition(":")[2]
        return ServiceError(status, code, str(problem["detail"]), request_id=request_id)
    except (ValueError, KeyError, TypeError):
        text = content[:200].decode("utf-8", "replace").strip() or "no text"
        return ServiceError(status, f"http-{status}", text, request_id=request_id)


def retry_after_s(content: bytes, headers: Mapping[str, str]) -> float | None:
    """When the service asks to come again: milliseconds in the body, else whole seconds."""
    try:
        return float(json.loads(content)["retry_after_ms"]) / 1e3
    except (ValueError, KeyError, TypeError):
        pass
    try:
        return float(headers["retry-after"])
    except (KeyError, ValueError):
        return None


def _pairs(text: str, between: str, within: str) -> dict[str, float]:
    """Read `a=1, b=2`."""
    parts = (part.strip().partition(within) for part in text.split(between) if part.strip())
    return {name: float(value) for name, _, value in parts}
