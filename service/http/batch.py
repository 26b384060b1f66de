"""`POST /superresolve/batch`: many images in one request, plain ASGI like `superresolve`.

`service.http.stream` serves it; its OpenAPI text is in `operations`.
"""

from collections.abc import Callable

import structlog
from starlette.types import Receive, Scope, Send

from service.ground.errors import NotReady
from service.hosting.lifecycle import Lifecycle
from service.http.audit import Audit, ImageLines
from service.http.body import ClientGone
from service.http.connection import CONNECTION, Connection
from service.http.request_reports import request_facts
from service.http.stream.answer import SlowReader
from service.http.stream.places import StreamLimits, Window
from service.http.stream.request import StreamContext, parse_stream_request
from service.http.stream.run import TileStream
from service.images.request import asked_model

log = structlog.get_logger()

BATCH_PATH = "/superresolve/batch"


class SuperResolveBatch:
    """The endpoint; one instance serves every request."""

    def __init__(self, lifecycle: Lifecycle, audit: Audit | None) -> None:
        self._lifecycle = lifecycle
        self._audit = audit
        self._limits = StreamLimits(lifecycle.settings.max_queue)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors before the answer has begun are the middleware's."""
        lifecycle, metrics = self._lifecycle, self._lifecycle.metrics
        serving = lifecycle.find_model(asked_model(scope["query_string"]))
        upscaler = serving.upscaler
        if lifecycle.draining.is_set():
            raise NotReady(lifecycle.reason, retry_after_s=1.0)
        facts, request_id = scope["state"]["facts"], scope["state"]["request_id"]
        request = parse_stream_request(scope["headers"])
        priority = request.tile.priority
        facts |= request_facts(serving, request.tile)
        # Once for the whole request, as no image of it could be answered.
        upscaler.steps.check_bits(request.tile)
        scope["state"]["model_headers"] = (
            serving.headers_16_bit if request.tile.answer_bits == 16 else serving.headers
        )
        connection: Connection | None = scope.get("extensions", {}).get(CONNECTION)
        is_connected: Callable[[], bool] = (
            (lambda: True) if connection is None else connection.is_open
        )
        if connection is not None:
            # The stream has this time limit itself, and reports it; the kernel's comes second.
            connection.set_send_timeout(2 * lifecycle.settings.send_timeout_s)
        with self._limits.stream(upscaler, priority):
            context = StreamContext(
                settings=lifecycle.settings,
                metrics=metrics,
                receive=receive,
                send=send,
                is_connected=is_connected,
                stopping=lifecycle.draining,
                request_id=request_id,
                path=scope["path"],
                lines=None if self._audit is None else ImageLines(self._audit, scope["state"]),
            )
            window = Window(self._limits, upscaler, priority)
            stream = TileStream(request, upscaler, window, context)
            answer = stream.answer
            metrics.streams.labels(priority).inc()
            reason = "failed"
            try:
                await stream.run()
                reason = "complete" if answer.ended_by is None else answer.ended_by.code
            except ClientGone:
                reason = "client-gone"
            except SlowReader:
                reason = "slow-reader"
                log.warning(
                    "client_does_not_read",
                    request_id=request_id,
                    seconds=lifecycle.settings.send_timeout_s,
                )
                if connection is not None:
                    connection.abort()
            finally:
                metrics.streams.labels(priority).dec()
                metrics.streams_ended.labels(reason.replace("-", "_")).inc()
                if connection is not None and connection.is_open():
                    connection.set_send_timeout(lifecycle.settings.send_timeout_s)
                facts |= {"tiles": answer.tiles, "tiles_failed": answer.failed, "ended": reason}
