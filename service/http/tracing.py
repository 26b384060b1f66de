"""OpenTelemetry traces: one span for a request, one below it for each stage and each batch.

Without `SEMSR_TRACES_ENDPOINT`, tracing is disabled: neither SDK nor exporter is imported, and a
request costs one more comparison. Stages are measured in any case, so their spans are made when the
request has ended. In a pool the front end makes them, also for batches: the answers of an engine
process state how long a tile waited and how long its batch took.

A separate thread sends the spans from a bounded buffer. If the collector is slow or missing, the
oldest spans are dropped and this is logged; requests are not affected.
"""

import asyncio
import contextlib
import importlib.util
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from starlette.types import Scope

from engines.installation import install_hint
from service.ground.stages import BatchTime, Stages
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = structlog.get_logger()

# An image of many tiles may need hundreds of batches; the first ones suffice.
MAX_BATCH_SPANS = 32
# Time limit for the last spans of a process that ends.
_FLUSH_S = 5.0
_MAX_HEADER_BYTES = 512
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_FACTS = ("request_id", "model", "priority", "tiles", "tiles_failed", "ended")


class TracingError(RuntimeError):
    """Traces are enabled, but cannot be made."""


def check_tracing(settings: Settings) -> None:
    """Check that traces can be made if they are enabled; this imports no SDK.

    Raises:
        TracingError: OpenTelemetry is not installed.
    """
    if settings.traces_endpoint is None:
        return
    missing = [name for name in _PACKAGES if not _is_installed(name)]
    if missing:
        raise TracingError(
            f"SEMSR_TRACES_ENDPOINT is {settings.traces_endpoint}, and traces need "
            f"{' and '.join(missing)}, which cannot be imported; "
            f"{install_hint('tracing')}"
        )


def make_tracing(settings: Settings, *, version: str) -> "Tracing | None":
    """Make the tracing of requests; None where it is disabled.

    Args:
        settings: Settings of the service.
        version: Version of the service.

    Raises:
        TracingError: OpenTelemetry is not installed.
    """
    check_tracing(settings)
    if settings.traces_endpoint is None:
        return None
    return Tracing(
        settings.traces_endpoint, sample_ratio=settings.traces_sample_ratio, version=version
    )


class Tracing:
    """Makes spans and sends them."""

    def __init__(self, endpoint: str, *, sample_ratio: float, version: str) -> None:
        """Start the exporter.

        Args:
            endpoint: Full URL of a collector.
            sample_ratio: Recorded share of the traces that begin here, without a caller's span.
            version: Version of the service.
        """
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = Resource.create({"service.name": "semsr", "service.version": version})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may say more, or otherwise.
            resource=named.merge(OTELResourceDetector().detect()),
            # `close` does it, in bounded time.
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("semsr", version)
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace
        # The headers of a request name its parent: nothing is inherited.
        self._nowhere = Context()

    def begin(self, scope: Scope, route: str) -> "RequestTrace":
        """Begin the span of a request, below its caller's if its headers name one."""
        now_ns = time.time_ns()
        span = self._tracer.start_span(
            f"{scope['method']} {route}",
            context=self._propagator.extract(_trace_headers(scope), self._nowhere),
            kind=self._trace.SpanKind.SERVER,
            start_time=now_ns,
            attributes={"http.request.method": scope["method"], "http.route": route},
        )
        return RequestTrace(self, span, now_ns)

    def start_below(self, parent: "Span", name: str, begun_ns: int, **attributes: int) -> "Span":
        """Start a span below another one; times are nanoseconds of the day's clock."""
        return self._tracer.start_span(
            name,
            context=self._trace.set_span_in_context(parent, self._nowhere),
            start_time=begun_ns,
            attributes={f"semsr.{key}": value for key, value in attributes.items()},
        )

    def mark_failed(self, span: "Span") -> None:
        """Mark a request as failed by an error of the service."""
        span.set_status(self._trace.StatusCode.ERROR)

    async def close(self, timeout_s: float) -> None:
        """Send the remaining spans, within the time limit and a few seconds at most."""
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not sent.done():
                sent.set_result(None)

        def work() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the time ran out
                loop.call_soon_threadsafe(settle)

        # A daemon: a collector that never answers must not keep the process.
        threading.Thread(target=work, name="traces", daemon=True).start()
        try:
            await asyncio.wait_for(sent, min(timeout_s, _FLUSH_S))
        except TimeoutError:
            log.warning("traces_lost", reason="the collector did not take the last ones in time")


class RequestTrace:
    """The span of one request."""

    def __init__(self, tracing: Tracing, span: "Span", begun_ns: int) -> None:
        self._tracing = tracing
        self._span = span
        self._begun_ns = begun_ns
        self._begun_s = time.perf_counter()
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.traceparent = (
            f"00-{self.trace_id}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        )

    def end(self, stages: Stages | None, *, status: int, facts: Mapping[str, Any]) -> None:
        """End the span, with those of its stages.

        Args:
            stages: Measured stages, if the request got so far.
            status: HTTP status of the answer.
            facts: Fields of the log line, of which some become attributes; never pictures.
        """
        span = self._span
        if not span.is_recording():
            return
        ended_ns = self._at_ns(time.perf_counter())
        if stages is not None:
            self._add_stages(stages, ended_ns)
        span.set_attribute("http.response.status_code", status)
        for name in _FACTS:
            if name in facts:
                span.set_attribute(f"semsr.{name}", facts[name])
        if "problem" in facts:
            span.set_attribute("error.type", facts["problem"])
        if status >= 500:
            self._tracing.mark_failed(span)
        span.end(ended_ns)

    def _add_stages(self, stages: Stages, ended_ns: int) -> None:
        """Make the spans of the stages, one after the other, and of the sending."""
        begun_ns = submitted_ns = self._at_ns(stages.started_s)
        for name, seconds in stages.seconds.items():
            stage = self._tracing.start_below(self._span, name, begun_ns)
            if name == "queue":
                submitted_ns = begun_ns
            elif name == "infer":
                self._add_batches(stage, stages.batches, submitted_ns)
            begun_ns += _ns(seconds)
            stage.end(begun_ns)
        self._tracing.start_below(self._span, "send", begun_ns).end(max(begun_ns, ended_ns))

    def _add_batches(self, stage: "Span", batches: Sequence[BatchTime], submitted_ns: int) -> None:
        for batch in batches[:MAX_BATCH_SPANS]:
            begun_ns = submitted_ns + _ns(batch.queue_s)
            span = self._tracing.start_below(stage, "batch", begun_ns, batch_size=batch.size)
            span.end(begun_ns + _ns(batch.infer_s))

    def _at_ns(self, at_s: float) -> int:
        """The day's clock at a time of `time.perf_counter()`."""
        return self._begun_ns + _ns(at_s - self._begun_s)


def _trace_headers(scope: Scope) -> dict[str, str]:
    """The W3C headers of a request; empty if they are too long or repeated."""
    parents = [value for name, value in scope["headers"] if name == b"traceparent"]
    states = [value for name, value in scope["headers"] if name == b"tracestate"]
    if len(parents) != 1 or len(parents[0]) > _MAX_HEADER_BYTES:
        return {}
    found = {"traceparent": parents[0].decode("latin-1")}
    state = b",".join(states)
    if len(state) <= _MAX_HEADER_BYTES:
        found["tracestate"] = state.decode("latin-1")
    return found


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
