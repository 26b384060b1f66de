"""Content-Type and Accept: which decoder reads the body, which encoder writes the answer.

Follows RFC 9110 §12.5.1: the most specific range that matches a type sets its weight, weight 0
forbids it. Among the types of the highest weight the request's own comes first, then the order of
`ANSWER_TYPES`. Without Accept the answer has the request's type; JPEG and BMP are answered in PNG.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from service.ground.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from service.images.codec import DECODERS, ENCODERS
from service.images.codec.sniffing import BMP, JPEG, NPY, PNG, TIFF, ZSTD

READABLE_TYPES = tuple(DECODERS)
ANSWER_TYPES = tuple(ENCODERS)

# Other names of the same types, as clients write them.
_ALIASES = {
    "image/x-png": PNG,
    "image/jpg": JPEG,
    "image/pjpeg": JPEG,
    "image/tif": TIFF,
    "image/x-tiff": TIFF,
    "image/x-ms-bmp": BMP,
    "image/x-bmp": BMP,
    "application/npy": NPY,
    "application/x-numpy": NPY,
    "application/x-zstd": ZSTD,
    "application/tar": "application/x-tar",
    "application/x-zip-compressed": "application/zip",
}
# Media types by suffix, for forms, folders and the command line.
TYPES_BY_SUFFIX = {
    ".png": PNG,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".bmp": BMP,
    ".npy": NPY,
}
_DEFAULT_ANSWER = PNG
# Containers for several answers in one; the first is the default.
CONTAINERS = ("application/x-tar", "multipart/mixed")

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,127}"
_RANGE = re.compile(rf"\s*+({_WORD})/({_WORD})\s*+", re.ASCII)
_WEIGHT = re.compile(r"[0-9]{0,3}\.?[0-9]{0,9}(?<=[0-9])", re.ASCII)
_MAX_RANGES = 64
# A client sends the same header with every tile, so the choice is remembered; a long header is read
# each time, so that clients cannot fill the memory.
_MAX_REMEMBERED = 256
_MAX_REMEMBERED_LENGTH = 256
# A container that Accept does not name may be used, after any that it does.
_UNNAMED_WEIGHT = 1e-6


def parse_media_type(text: str) -> str:
    """Return the media type or range of a header: lower case, known aliases resolved.

    Parameters (`; charset=…`) are ignored.

    Raises:
        BadRequest: It is not written as a media type.
    """
    match = _RANGE.fullmatch(text.partition(";")[0])
    if match is None:
        raise BadRequest(
            f"{text[:80]!r} is not a media type; expected type/subtype, as in image/png"
        )
    name = f"{match[1]}/{match[2]}".lower()
    return _ALIASES.get(name, name)


def check_encoding(values: Iterable[str]) -> None:
    """Refuse a body that is compressed as a whole, which would be taken for pixels.

    Args:
        values: Every Content-Encoding header of the request; `identity` and nothing pass.

    Raises:
        UnsupportedMediaType: One names another coding.
    """
    codings = [coding.strip().lower() for value in values for coding in value.split(",")]
    found = [coding for coding in codings if coding not in {"", "identity"}]
    if found:
        raise UnsupportedMediaType(
            f"Content-Encoding is {', '.join(found)[:80]!r}; expected none, or identity: "
            "compressed requests are not read"
        )


def readable_type(content_type: str | None) -> str:
    """Return the media type of `service.images.codec.DECODERS` that a Content-Type names.

    Raises:
        BadRequest: It is not written as a media type.
        UnsupportedMediaType: It is missing, or not a readable type.
    """
    if content_type in DECODERS:
        return content_type
    expected = ", ".join(READABLE_TYPES)
    if content_type is None or not content_type.strip():
        raise UnsupportedMediaType(f"the request has no Content-Type; expected one of {expected}")
    name = parse_media_type(content_type)
    if name not in DECODERS:
        raise UnsupportedMediaType(
            f"Content-Type is {content_type[:80]!r}; expected one of {expected}"
        )
    return name


def choose_answer(accept: str | None, request_type: str) -> str:
    """Return the media type of the answer.

    Args:
        accept: Accept header, several joined by commas; None or empty accepts anything.
        request_type: Media type of the body, as `readable_type` returns it.

    Returns:
        One of `ANSWER_TYPES`.

    Raises:
        BadRequest: The header cannot be read.
        NotAcceptable: It allows none of the answer types.
    """
    is_short = accept is None or len(accept) <= _MAX_REMEMBERED_LENGTH
    return (_remembered if is_short else _choose)(accept, request_type)


def _choose(accept: str | None, request_type: str) -> str:
    own = request_type if request_type in ENCODERS else _DEFAULT_ANSWER
    ranges = _parse_accept(accept or "")
    if not ranges:
        return own
    # The request's own type first: max() keeps the first of equals.
    candidates = (own, *ANSWER_TYPES)
    best = max(candidates, key=lambda name: _weight(name, ranges))
    if _weight(best, ranges) <= 0:
        raise NotAcceptable(
            f"Accept is {(accept or '')[:120]!r}; this service answers in {', '.join(ANSWER_TYPES)}"
        )
    return best


_remembered = lru_cache(_MAX_REMEMBERED)(_choose)


def choose_container(accept: str | None) -> tuple[str, str | None]:
    """Return the container of several answers, and the rest of Accept for each of them.

    `application/x-tar`, `multipart/mixed` and `multipart/*` apply to the whole answer, everything
    else to its entries: `multipart/mixed, image/png` requests PNGs in parts.

    Args:
        accept: Accept header, several joined by commas; None or empty accepts anything.

    Returns:
        One of `CONTAINERS`, and an Accept header for `choose_answer`, or None.

    Raises:
        BadRequest: The header cannot be read.
        NotAcceptable: It forbids every container.
    """
    whole: list[str] = []
    entries: list[str] = []
    for part in (accept or "").split(","):
        name = part.partition(";")[0].strip().lower()
        is_whole = _ALIASES.get(name, name) in {*CONTAINERS, "multipart/*"}
        (whole if is_whole else entries).append(part)
    ranges = {"*/*": _UNNAMED_WEIGHT} | _parse_accept(",".join(whole))
    best = max(CONTAINERS, key=lambda name: _weight(name, ranges))
    if _weight(best, ranges) <= 0:
        raise NotAcceptable(
            f"Accept is {(accept or '')[:120]!r}; many answers come as {' or '.join(CONTAINERS)}"
        )
    rest = ",".join(part for part in entries if part.strip())
    return best, rest or None


def _parse_accept(accept: str) -> dict[str, float]:
    """Return the weight of each range in the header; malformed ranges are skipped.

    Clients in the field send `*` for `*/*` (older Java) and weights of any form; refusing them
    would help no client, and a skipped range can only narrow the choice.
    """
    parts = [part for part in accept.split(",") if part.strip()]
    if len(parts) > _MAX_RANGES:
        raise BadRequest(f"Accept names {len(parts)} types; expected at most {_MAX_RANGES}")
    ranges: dict[str, float] = {}
    for part in parts:
        name, _, parameters = part.partition(";")
        try:
            media_type = "*/*" if name.strip() == "*" else parse_media_type(name)
        except BadRequest:
            continue
        # Parameters other than q make a range narrower than any type offered here; it counts as
        # its plain type.
        weight = _parse_weight(parameters)
        if weight is not None:
            ranges[media_type] = max(ranges.get(media_type, 0.0), weight)
    if parts and not ranges:
        raise BadRequest(
            f"Accept is {accept[:80]!r}, which has no media type with a weight of 0 to 1; "
            f"expected some of {', '.join(ANSWER_TYPES)}"
        )
    return ranges


def _parse_weight(parameters: str) -> float | None:
    """Return the weight of one range: 1 where it has none, None where it cannot be read."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            match = _WEIGHT.fullmatch(value.strip())
            return float(match[0]) if match is not None and float(match[0]) <= 1 else None
    return 1.0


def _weight(name: str, ranges: dict[str, float]) -> float:
    """Return the weight of a type: the most specific range that matches it decides."""
    for candidate in (name, f"{name.split('/')[0]}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0
