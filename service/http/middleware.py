"""The outermost layer of every request: its id, its log line, its metrics, its errors.

Pure ASGI: Starlette's own middleware base class costs a task and a stream per request. Errors of
the hot routes become problems here; their measurements are in `scope["state"]`.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.ground.errors import Forbidden, NotReady, Unauthorized
from service.ground.logs import LineBudget
from service.ground.metrics import Metrics
from service.ground.request_id import REQUEST_ID
from service.ground.stages import Stages
from service.http.access import Access
from service.http.identity import address_of, identify
from service.http.paths import Route, route_of
from service.http.problems import Problem, problem_from, rejection_reason
from service.http.protocol import REFUSAL
from service.http.request_reports import RequestReports, request_id_of
from service.http.tracing import RequestTrace, Tracing

log = structlog.get_logger()

MAX_KEY_LINES_PER_S = 20
"""Maximum number of log lines per second for rejected keys; the next line counts omitted ones."""


class RequestMiddleware:
    """Gives every request an id, a log line, metrics, and a problem body if it fails."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        reports: RequestReports,
        common_headers: Callable[[list[tuple[bytes, bytes]] | None], list[tuple[bytes, bytes]]],
        access: Access,
        audits: bool = False,
        tracing: Tracing | None = None,
    ) -> None:
        """Wrap `app`.

        Args:
            app: Application that answers.
            metrics: Metrics of the service.
            reports: Reports of finished requests.
            common_headers: Function that returns the headers of every answer: those of a model
                (None stands for the default one), and `connection: close` while draining.
            access: Check of keys and quotas.
            audits: Whether log lines name the client's address.
            tracing: Tracing, where it is enabled.
        """
        self._app = app
        self._metrics = metrics
        self._common_headers = common_headers
        self._access = access
        self._audits = audits
        self._reports = reports
        self._tracing = tracing
        self._key_lines = LineBudget(MAX_KEY_LINES_PER_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        # A request that the protocol has served up to here has these already.
        started_s: float = state.setdefault("started_s", time.perf_counter())
        request_id = request_id_of(scope["headers"])
        facts: dict[str, Any] = state.setdefault("facts", {})
        state["request_id"] = request_id
        REQUEST_ID.set(request_id)
        if self._audits:
            facts["address"] = address_of(scope.get("client"))
        trace: RequestTrace | None = None
        route = route_of(scope["path"])
        if self._tracing is not None and not route.is_probe:
            trace = self._tracing.begin(scope, route.label)
        status = 0
        is_complete = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_complete
            if message["type"] == "http.response.start":
                status = message["status"]
                timing = f"total;dur={(time.perf_counter() - started_s) * 1e3:.2f}"
                stages: Stages | None = scope["state"].get("stages")
                if stages is not None:
                    facts["server_timing"] = stages.server_timing()
                    timing = f"{facts['server_timing']}, {timing}"
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"server-timing", timing.encode()),
                    *self._common_headers(scope["state"].get("model_headers")),
                ]
                if trace is not None:
                    message["headers"].append((b"traceparent", trace.traceparent.encode()))
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            self._admit(scope, route, facts)
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # The server's time limit for its stop has passed, and so has this request's.
            if not status:
                error = NotReady(
                    "the service stopped before the answer was ready", retry_after_s=1.0
                )
                facts["problem"] = error.code
                problem = problem_from(error, request_id=request_id, path=scope["path"])
                await send_problem(send_with_id, problem)
            raise
        except Exception as error:
            if status:
                # The answer has begun: the rest of it can only be cut off.
                log.exception("request_failed", request_id=request_id, answered=is_complete)
                if is_complete:
                    return
                raise
            problem = problem_from(error, request_id=request_id, path=scope["path"])
            facts["problem"] = problem.code
            if problem.code == "internal-error":
                log.exception("request_failed", request_id=request_id)
            else:
                facts["detail"] = str(error)
                if error.__cause__ is not None:
                    facts["cause"] = repr(error.__cause__)
            if isinstance(error, Unauthorized | Forbidden):
                self._log_rejected_key(scope, request_id, error)
            reason = rejection_reason(error)
            if reason:
                self._metrics.rejected.labels(reason).inc()
            await send_problem(send_with_id, problem)
        finally:
            # No answer at all: the client left first. Logs use code 499 for it.
            code = status or 499
            if trace is not None:
                named = {**facts, "request_id": request_id}
                trace.end(scope["state"].get("stages"), status=code, facts=named)
                facts["trace_id"] = trace.trace_id
            self._reports.finish(
                route,
                method=scope["method"],
                path=scope["path"],
                status=code,
                duration_s=time.perf_counter() - started_s,
                request_id=request_id,
                facts=facts,
            )

    def _admit(self, scope: Scope, route: Route, facts: dict[str, Any]) -> None:
        """Check a request; adds its client to the facts where clients are identified.

        Raises:
            service.ground.errors.ServiceError: It is not allowed, or its HTTP is ambiguous.
        """
        refusal = scope.get("extensions", {}).get(REFUSAL)
        if refusal is not None:
            raise refusal
        if route.is_admin:
            who = identify(scope["headers"], scope.get("client"))
            facts["client"] = self._access.check_admin(*who)
        elif not self._access.is_open and not route.is_open:
            who = identify(scope["headers"], scope.get("client"))
            # Before the quota: an answer 429 names its client too.
            facts["client"] = client = self._access.client_of(*who)
            self._access.spend(client)

    def _log_rejected_key(self, scope: Scope, request_id: str, error: Exception) -> None:
        """Log a missing, unknown or insufficient key; never the key, which may be another's."""
        skipped = self._key_lines.take()
        if skipped is not None:
            log.warning(
                "key_rejected",
                request_id=request_id,
                address=address_of(scope.get("client")),
                path=scope["path"][:200],
                reason=str(error),
                **({"skipped": skipped} if skipped else {}),
            )


async def send_problem(send: Send, problem: Problem) -> None:
    """Send a problem as a whole answer."""
    start = {"type": "http.response.start", "status": problem.status, "headers": problem.headers}
    await send(start)
    await send({"type": "http.response.body", "body": problem.body})
