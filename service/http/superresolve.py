"""`POST /superresolve`: the hot route, plain ASGI inside the FastAPI app.

FastAPI's own request and response layer costs about as much as all other work on a raw tile, so
this route reads and answers itself, and `app` finds it before FastAPI's router
(`docs/adr/0004-raw-bodies-plain-asgi.md`). Its OpenAPI text is in `operations`.
"""

import time
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from service.ground.stages import Stages
from service.hosting.lifecycle import Lifecycle
from service.http.audit import Audit
from service.http.body import CancelledOnDisconnect, ClientGone, read_body
from service.http.request_reports import request_facts
from service.images.image_steps import Answer
from service.images.metadata import format_pixel_size
from service.images.request import asked_model, parse_request


class SuperResolve:
    """The endpoint; one instance serves every request."""

    def __init__(self, lifecycle: Lifecycle, audit: Audit | None) -> None:
        self._lifecycle = lifecycle
        self._audit = audit
        self._settings = lifecycle.settings
        self._observe_recv: Callable[[float], None] = lifecycle.metrics.stage_duration.labels(
            "recv"
        ).observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors are raised to the middleware, which answers them."""
        facts = scope["state"]["facts"]
        serving = self._lifecycle.find_model(asked_model(scope["query_string"]))
        facts["model"] = serving.name
        scope["state"]["model_headers"] = serving.headers
        upscaler = serving.upscaler
        request = parse_request(scope["headers"])
        facts |= request_facts(serving, request)
        # Before the body is read, and before headers say that the answer has these bits.
        upscaler.steps.check_bits(request)
        if request.answer_bits == 16:
            scope["state"]["model_headers"] = serving.headers_16_bit
        with upscaler.admit(deadline_s=request.deadline_s, priority=request.priority) as admission:
            started_s = time.perf_counter()
            try:
                body = await read_body(scope, receive, admission, self._settings)
                recv_s = time.perf_counter() - started_s
                self._observe_recv(recv_s)
                async with CancelledOnDisconnect(scope, receive):
                    answer = await upscaler.upscale(body, request, admission)
                    if self._audit is not None:
                        facts |= await self._audit.one_image(body, answer.body, request)
            except ClientGone:
                return
            scope["state"]["stages"] = Stages(
                started_s, {"recv": recv_s, **answer.stages_s}, answer.batches
            )
            facts["tiles"] = answer.tiles
            await send({"type": "http.response.start", "status": 200, "headers": _headers(answer)})
            # In two parts: the server takes the second when the first has left its buffer, so the
            # request keeps its places for as long as its answer takes up memory.
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    height, width = answer.shape
    headers = [
        (b"content-type", answer.media_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-tile-shape", f"{height},{width}".encode()),
        (b"x-tile-dtype", answer.dtype.encode()),
        (b"x-quality", answer.quality.header().encode()),
    ]
    if answer.pixel_size is not None:
        headers.append((b"x-pixel-size-nm", format_pixel_size(answer.pixel_size).encode()))
    return headers
