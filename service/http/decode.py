"""`POST /decode`: one image as the model would see it, in 8 bits; plain ASGI like `superresolve`.

Browsers and other viewers show neither TIFF nor the grey window of 16-bit files. With this route
they show the very pixels that the model gets, and not a reading of their own
(`docs/adr/0033-the-service-shows-what-it-decoded.md`). Its OpenAPI text is in `operations`.
"""

import re
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from service.ground.errors import BadRequest
from service.hosting.lifecycle import Lifecycle
from service.http.body import CancelledOnDisconnect, ClientGone, read_body
from service.http.request_reports import request_facts
from service.images.image_steps import Seen
from service.images.metadata import format_pixel_size
from service.images.request import parse_request

DECODE_PATH = "/decode"

_PAGE = re.compile(r"[0-9]{1,6}", re.ASCII)


class Decode:
    """The endpoint; one instance serves every request."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors are raised to the middleware, which answers them."""
        model, page = _parse_query(scope["query_string"])
        serving = self._lifecycle.find_model(model)
        scope["state"]["model_headers"] = serving.headers
        request = parse_request(scope["headers"])
        scope["state"]["facts"] |= request_facts(serving, request)
        if request.answer_bits != 8:
            raise BadRequest(f"X-Answer-Bits is {request.answer_bits}; expected 8 or none")
        if request.answer_dtype != "uint8":
            raise BadRequest(f"X-Answer-Dtype is {request.answer_dtype}; expected uint8 or none")
        # Places bound the memory of these requests too; the model's queue does not matter to them.
        with serving.upscaler.hold(request.priority) as admission:
            try:
                body = await read_body(scope, receive, admission, self._lifecycle.settings)
                async with CancelledOnDisconnect(scope, receive):
                    seen = await serving.upscaler.see(body, request, admission, page=page)
            except ClientGone:
                return
            await send({"type": "http.response.start", "status": 200, "headers": _headers(seen)})
            # In two parts, as in `superresolve`: the places are held until the first has been sent.
            await send({"type": "http.response.body", "body": seen.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _parse_query(query: bytes) -> tuple[str | None, int]:
    """Read `?model=NAME&page=N`; both may be missing.

    Returns:
        Name of the model or None, and the index of the image.

    Raises:
        BadRequest: There is another field, or a value cannot be read.
    """
    try:
        fields = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise BadRequest("the query cannot be read; expected ?model=NAME&page=N") from error
    values = dict(fields)
    if len(values) != len(fields) or not values.keys() <= {"model", "page"}:
        raise BadRequest(
            f"the query is {query[:80].decode('latin-1')!r}; expected model=NAME and page=N, each "
            "at most once"
        )
    if values.get("model") == "":
        raise BadRequest("the query's model is empty; expected model=NAME")
    page = values.get("page", "0")
    if not _PAGE.fullmatch(page):
        raise BadRequest(f"page is {page[:60]!r}; expected an index from 0")
    return values.get("model"), int(page)


def _headers(seen: Seen) -> list[tuple[bytes, bytes]]:
    headers = {
        "content-type": seen.media_type,
        "content-length": str(len(seen.body)),
        "x-tile-shape": "{},{}".format(*seen.shape),
        "x-tile-dtype": "uint8",
        "x-page-count": str(seen.page_count),
        "x-stored-dtype": seen.stored_dtype,
        "x-stored-range": "{},{}".format(*seen.stored_range),
    }
    if seen.window is not None:
        headers["x-window"] = "{},{}".format(*seen.window)
    if seen.pixel_size is not None:
        headers["x-pixel-size-nm"] = format_pixel_size(seen.pixel_size)
    return [(name.encode(), value.encode()) for name, value in headers.items()]
