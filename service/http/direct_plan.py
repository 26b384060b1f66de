"""Heads of requests that are served directly: read once, and kept for the tiles that follow."""

from functools import lru_cache
from typing import Any

from service.batching.tile_runner import TileResult
from service.ground.errors import ServiceError
from service.ground.stages import BatchTime, Stages
from service.hosting.lifecycle import Lifecycle
from service.hosting.serving import Serving
from service.http.framing import framing_refusal
from service.http.paths import HOT_PATH
from service.http.request_reports import request_facts
from service.images.codec.sniffing import RAW
from service.images.metadata import ImageMetadata, format_pixel_size
from service.images.request import TileRequest, asked_model, read_request

Headers = list[tuple[bytes, bytes]]

# Headers that differ from tile to tile and do not change how a tile is read.
_OWN_HEADERS = frozenset({b"x-request-id", b"authorization"})
_UNUSUAL = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
# A client sends the same head with every tile; heads longer than any real client's are not kept.
_MAX_KEPT = 256
_MAX_KEPT_BYTES = 2048
# About what a header takes beyond its characters: thousands of empty ones must not be kept.
_HEADER_BYTES = 32


class DirectPlan:
    """What the head of a request says, whichever request of the same head it is.

    Attributes:
        model: Name of the model, or None for the default one.
        request: Headers of the request; its deadline is None.
        timeout_s: Seconds that the request allows, or None.
        size: Number of bytes of the body.
    """

    def __init__(
        self, model: str | None, request: TileRequest, timeout_s: float | None, size: int
    ) -> None:
        self.model = model
        self.request = request
        self.timeout_s = timeout_s
        self.size = size
        self._headers_of: Headers | None = None
        self._fixed = ""
        self._facts: dict[str, Any] = {}

    def find_model(self, lifecycle: Lifecycle) -> Serving | None:
        """Return the model whose tile this is; None if there is none."""
        try:
            serving = lifecycle.find_model(self.model)
        except ServiceError:
            return None
        height, width = serving.bundle.manifest.tile
        fits = self.request.shape == (height, width) and self.size == height * width
        return serving if fits else None

    def facts(self, serving: Serving) -> dict[str, Any]:
        """Return the fields of the log line that all such requests to a model have in common."""
        self._prepare(serving)
        return self._facts

    def fixed_headers(self, serving: Serving) -> str:
        """Return the headers that all answers of a model to this head have in common."""
        self._prepare(serving)
        return self._fixed

    def _prepare(self, serving: Serving) -> None:
        if self._headers_of is not serving.headers:
            self._fixed = self._write_headers(serving)
            self._facts = request_facts(serving, self.request)
            self._headers_of = serving.headers

    def _write_headers(self, serving: Serving) -> str:
        manifest = serving.bundle.manifest
        height, width = (manifest.scale * side for side in manifest.tile)
        headers = [
            ("content-type", RAW),
            ("content-length", str(height * width)),
            ("x-tile-shape", f"{height},{width}"),
            ("x-tile-dtype", "uint8"),
            *((name.decode(), value.decode()) for name, value in serving.headers),
        ]
        if self.request.pixel_size is not None:
            stated = ImageMetadata().with_pixel_size(self.request.pixel_size)
            answered = stated.scaled(manifest.scale).pixel_size
            if answered is not None:
                headers.append(("x-pixel-size-nm", format_pixel_size(answered)))
        return "".join(f"{name}: {value}\r\n" for name, value in headers)


def tile_timing(started_s: float, recv_s: float, result: TileResult, *, infer_s: float) -> str:
    """Return the stages of an answer's `Server-Timing`.

    Args:
        started_s: `time.perf_counter()` at the start of the request.
        recv_s: Seconds from then until the body was complete.
        result: Result of the tile.
        infer_s: Seconds from the start of its batch until the request went on.
    """
    seconds = {
        "recv": recv_s,
        # The pixels are read and sent as they are.
        "decode": 0.0,
        "queue": result.queue_s,
        "infer": infer_s,
        "encode": 0.0,
    }
    batch = BatchTime(result.queue_s, result.infer_s, result.batch_size)
    return Stages(started_s, seconds, (batch,)).server_timing()


def read_head(url: bytes, headers: Headers) -> DirectPlan | None:
    """Read the head of a POST over HTTP/1.1.

    Args:
        url: Target of the request, as it was sent.
        headers: Names in lower case, and values.

    Returns:
        None for anything but one raw tile of 8 bits whose length is announced.
    """
    if not url.startswith(HOT_PATH.encode()):
        return None
    kept: Headers = []
    size = len(url)
    for header in headers:
        if header[0] not in _OWN_HEADERS:
            kept.append(header)
            size += len(header[0]) + len(header[1]) + _HEADER_BYTES
    return _read_kept(url, tuple(kept)) if size <= _MAX_KEPT_BYTES else None


@lru_cache(_MAX_KEPT)
def _read_kept(url: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> DirectPlan | None:
    """Read what the heads of many tiles have in common; see `read_head`."""
    path, _, query = url.partition(b"?")
    names = [name for name, _ in headers]
    if path.decode("latin-1") != HOT_PATH or names.count(b"content-length") != 1:
        return None
    if b"#" in query:
        return None  # what follows does not belong to the query
    if framing_refusal("1.1", list(headers)) is not None or not _UNUSUAL.isdisjoint(names):
        return None
    try:
        request, timeout_s = read_request(headers)
        model = asked_model(query)
        answer_type = request.answer_type(RAW)
    except ServiceError:
        return None
    length = dict(headers)[b"content-length"]
    is_plain = (
        request.media_type == RAW
        and answer_type == RAW
        and request.dtype in {None, "uint8"}
        and request.answer_dtype == "uint8"
        and request.shape is not None
        and length.isdigit()
    )
    if not is_plain:
        return None
    return DirectPlan(model, request, timeout_s, int(length))
