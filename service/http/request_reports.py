"""Metrics and the log line of every finished request."""

import itertools
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from service.ground.logs import LineBudget
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.hosting.serving import Serving
from service.http.paths import Route
from service.images.request import TileRequest

log = structlog.get_logger()

# A client's id is echoed and logged: printable, bounded, and unable to forge a log line.
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
# Generated ids: random per process, then counted. Fresh random bytes for every request would cost a
# system call that gives up the interpreter lock, which under load takes longer than the request.
_ID_PREFIX = secrets.token_hex(10)
_ID_COUNTER = itertools.count(1)


def request_facts(serving: Serving, request: TileRequest) -> dict[str, Any]:
    """Return the fields of a log line that follow from the model and the headers of a request."""
    facts: dict[str, Any] = {
        "model": serving.name,
        "model_version": serving.bundle.version,
        "priority": request.priority,
    }
    if request.tool is not None:
        facts["tool"] = request.tool
    return facts


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the id that a client has sent as `X-Request-ID`, or a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return f"{_ID_PREFIX}{next(_ID_COUNTER):012x}"


# Route, status, priority, model and client of an answer.
_Kind = tuple[str, int, str, str | None, str | None]


class RequestReports:
    """Counts, times and logs finished requests; used on the event loop."""

    def __init__(
        self, metrics: Metrics, lines: LineBudget | None, *, has_keys: bool = False
    ) -> None:
        """Prepare.

        Args:
            metrics: Metrics of the service.
            lines: Budget for the log lines of successful requests; None logs all.
            has_keys: Whether clients are named by keys; addresses must not become labels.
        """
        self._has_keys = has_keys
        self._metrics = metrics
        self._lines = lines
        # Cached: looking a metric up by its labels would cost time in every request.
        self._known: dict[_Kind, Callable[[float, int], None]] = {}

    def finish(
        self,
        route: Route,
        *,
        method: str,
        path: str,
        status: int,
        duration_s: float,
        request_id: str,
        facts: dict[str, Any],
    ) -> None:
        """Report one request.

        Args:
            route: Route of its path.
            method: HTTP method.
            path: Path as it was sent.
            status: Status of its answer, or 499 if the client left first.
            duration_s: Seconds from its head to the end of its answer.
            request_id: Request id.
            facts: Further fields of the log line; `priority`, `model` and, with keys, `client`
                become labels, and `tiles` is counted.
        """
        priority = str(facts.get("priority", Priority.ONLINE))
        client = facts.get("client") if self._has_keys else None
        model = facts.get("model") if route.runs_model else None
        record = self._record((route.label, status, priority, model, client))
        record(duration_s, facts.get("tiles", 0))
        if self._lines is not None and status < 400 and not route.is_quiet:
            skipped = self._lines.take()
            if skipped is None:
                return
            if skipped:
                facts["skipped"] = skipped
        emit = log.debug if route.is_quiet and status == 200 else log.info
        emit(
            "request_finished",
            request_id=request_id,
            method=method,
            path=path,
            status=status,
            duration_ms=round(duration_s * 1e3, 2),
            **facts,
        )

    def _record(self, kind: _Kind) -> Callable[[float, int], None]:
        """Return the function that counts and times answers of this kind."""
        record = self._known.get(kind)
        if record is None:
            record = self._known[kind] = self._make_record(kind)
        return record

    def _make_record(self, kind: _Kind) -> Callable[[float, int], None]:
        route, code, priority, model, client = kind
        metrics = self._metrics
        requests = metrics.requests.labels(route, str(code), priority)
        duration = metrics.request_duration.labels(route, priority)
        of_model = of_client = None
        if model is not None:
            labels = model, "success" if code == 200 else "failure"
            of_model = (
                metrics.model_requests.labels(*labels),
                metrics.model_request_seconds.labels(*labels),
            )
        if client is not None:
            of_client = (
                metrics.client_requests.labels(client, str(code)),
                metrics.client_tiles.labels(client),
            )

        def record(duration_s: float, tiles: int) -> None:
            requests.inc()
            duration.observe(duration_s)
            if of_model is not None:
                of_model[0].inc()
                of_model[1].inc(duration_s)
            if of_client is not None:
                of_client[0].inc()
                of_client[1].inc(tiles)

        return record
