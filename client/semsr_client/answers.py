"""Checks of a tile before it is sent, and of an answer against its tile.

An answer is accepted only if it has the request's id, the requested data type and model, and the
shape scale x tile. An answer to another tile, such as one that a proxy mixed up, is an error.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from semsr_client.errors import TileError, bad_answer

Tile = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

RAW, TAR = "application/octet-stream", "application/x-tar"

_TIMING = re.compile(r"([^\s;]+);dur=([0-9]+(?:\.[0-9]+)?)")

# No model enlarges more; bounds what an answer may take of memory.
_MAX_SCALE = 16
_MIN_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SrTile:
    """Answer to one tile.

    Attributes:
        pixels: (s*H, s*W) uint8, or uint16 where requested; read-only.
        quality: Quality flags of the model's graph: `non-finite`, `saturated`, `consistency`,
            `consistency-worst` and, where the bundle has their limits, `residual` and
            `domain-distance`.
        model: Name of the model.
        model_version: First twelve digits of the bundle's sha256.
        engine: Engine that computed it.
        precision: Execution precision.
        request_id: Request id in the service's log; tiles of one request share it.
        timing_ms: Milliseconds by stage, measured by the service; empty for a tile of a batch
            request.
        attempts: Number of requests that were sent for it.
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
class Asked:
    """Facts about a tile's request that the answer must match.

    Attributes:
        shape: (H, W) of the tile.
        dtype: Data type that the answer must have.
        model: Name that the answer must have, or None for any.
        request_id: Id that the answer must have.
    """

    shape: tuple[int, int]
    dtype: str
    model: str | None
    request_id: str

    @property
    def most_bytes(self) -> int:
        """Largest answer that is read, in bytes."""
        return most_answer_bytes(self.shape[0] * self.shape[1])


class Scales:
    """Scale of each model version that has answered; threads may share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], int] = {}

    def check(self, lr: tuple[int, int], sr: tuple[int, int], answer: Mapping[str, str]) -> None:
        """Check an answer's shape against its tile's.

        The scale is the answer's `X-Scale`. Without this header it may be any whole number, which
        must then stay the same for this version of the model.

        Args:
            lr: (H, W) of the tile.
            sr: (H, W) of the answer.
            answer: Headers of the answer.

        Raises:
            ServiceError: The shape is not scale x tile.
        """
        version = answer.get("x-model", ""), answer.get("x-model-version", "")
        stated = answer.get("x-scale")
        scale = sr[0] // lr[0] if stated is None else int(stated) if stated.isdecimal() else 0
        if stated is None:
            scale = self._known.get(version, scale)
        if scale < 1 or sr != (scale * lr[0], scale * lr[1]):
            expected = f"{scale} x tile" if scale else "a whole multiple of the tile"
            raise bad_answer(
                f"the answer has the shape {sr} for a tile of shape {lr}; expected {expected}",
                request_id=answer.get("x-request-id", ""),
            )
        if stated is None:
            self._known.setdefault(version, scale)


def most_answer_bytes(pixels: int) -> int:
    """Return the largest answer in bytes to a tile with this number of pixels."""
    return _MIN_ANSWER_BYTES + 2 * _MAX_SCALE**2 * pixels


def checked(tile: Tile, *, index: int | None = None) -> Tile:
    """Return a tile as it is sent: C order, little endian.

    Args:
        tile: Tile of the caller.
        index: Index among many tiles, for the message.

    Raises:
        TileError: The tile is not a two-dimensional array of uint8 or uint16, or has no pixel.
    """
    given: Any = tile
    if not isinstance(given, np.ndarray):
        value = repr(given) if given is None or isinstance(given, (int, float, str)) else ""
        got = f"{value[:60]} ({type(given).__name__})" if value else f"a {type(given).__name__}"
        if given is None:
            got = "None, which is what cv2.imread gives for a file that it cannot read"
    elif isinstance(given, np.ma.MaskedArray):
        got = f"a masked array of shape {given.shape}, whose mask cannot be sent"
    elif given.ndim != 2 or given.dtype.kind != "u" or given.dtype.itemsize > 2 or not given.size:
        got = f"{given.dtype} of shape {given.shape}"
    else:
        sent: Any = np.ascontiguousarray(given, dtype=given.dtype.newbyteorder("<"))
        return sent
    name = "" if index is None else f"tile {index}: "
    raise TileError(
        0,
        "bad-tile",
        f"{name}a tile is a two-dimensional array of uint8 or uint16 with a pixel or more, "
        f"got {got}",
    )


def check_head(
    headers: Mapping[str, str], *, media_type: str, request_id: str, model: str | None
) -> None:
    """Check the head of an answer against its request, before the body is read.

    Raises:
        ServiceError: It is the answer to another request, or not one of this service.
    """
    answered = headers.get("x-request-id")
    found_type = headers.get("content-type", media_type)
    if found_type.partition(";")[0].strip().lower() != media_type:
        raise bad_answer(
            "the answer does not come from the service but perhaps from a proxy: its "
            f"Content-Type is {found_type[:80]!r}, expected {media_type}",
            request_id=answered or "",
        )
    if answered != request_id:
        got = "none" if answered is None else repr(answered)
        raise bad_answer(
            f"the answer is another request's: its X-Request-ID is {got}, expected "
            f"{request_id!r}; a proxy must pass this header on unchanged (docs/http-api.md)",
            request_id=answered or "",
        )
    if model is not None and headers.get("x-model") != model:
        raise bad_answer(
            f"the answer is of the model {headers.get('x-model')!r}, expected {model!r}",
            request_id=request_id,
        )


def read_tile(
    body: bytes,
    facts: Mapping[str, str],
    answer: Mapping[str, str],
    *,
    attempts: int,
    asked: Asked,
    scales: Scales,
) -> SrTile:
    """Read a raw answer whose head was checked.

    Args:
        body: Bytes of the pixels.
        facts: Headers of the tile, by lower-case names.
        answer: Headers of the whole answer.
        attempts: Number of requests that were sent for it.
        asked: Request that the answer must match.
        scales: Known scales.

    Raises:
        ServiceError: It is not the answer to this tile.
    """
    request_id = answer.get("x-request-id", "")
    try:
        height, width = (int(side) for side in facts["x-tile-shape"].split(","))
        dtype = _checked_dtype(facts["x-tile-dtype"], asked.dtype)
        quality = _quality(facts["x-quality"])
        scales.check(asked.shape, (height, width), answer)
        pixels: Any = np.frombuffer(body, dtype=dtype).reshape(height, width)
    except (KeyError, ValueError, TypeError) as error:
        raise bad_answer(
            f"the answer does not fit the tile: {error!r}", request_id=request_id
        ) from error
    return SrTile(
        pixels=pixels,
        quality=quality,
        model=answer.get("x-model", ""),
        model_version=answer.get("x-model-version", ""),
        engine=answer.get("x-engine", ""),
        precision=answer.get("x-precision", ""),
        request_id=request_id,
        timing_ms=_timing_ms(facts.get("server-timing", "")),
        attempts=attempts,
    )


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: It is not a JSON object.
    """
    try:
        content: Any = json.loads(body)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"JSON of type {type(content).__name__}, expected an object")  # noqa: TRY004
    return content


def _checked_dtype(found: str, asked: str) -> np.dtype[Any]:
    if found != asked:
        raise ValueError(f"its data type is {found!r}, expected {asked!r}")
    return np.dtype(asked).newbyteorder("<")


def _quality(text: str) -> dict[str, float]:
    """Read `a=1, b=2`; finite numbers only."""
    parts = (part.strip().partition("=") for part in text.split(",") if part.strip())
    pairs = {name: float(value) for name, _, value in parts}
    if not all(map(math.isfinite, pairs.values())):
        raise ValueError(f"X-Quality is {text[:200]!r}, expected finite numbers")
    return pairs


def _timing_ms(text: str) -> dict[str, float]:
    """Read `a;dur=1, b;dur=2`; entries of other forms, which proxies add, are left out."""
    matches = (_TIMING.fullmatch(part.strip()) for part in text.split(","))
    return {match[1]: float(match[2]) for match in matches if match}
