"""A collector of OpenTelemetry traces: an HTTP server in this process that reads OTLP."""

import contextlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What has arrived.

    Attributes:
        url: URL for traces.
        spans: Every span, in order of arrival.
        resource: Attributes of the process that sent the last ones.
        gate: While cleared, no export is answered; set at first.
        arrived: Released once for every export that has reached the gate.
    """

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)

    def take(self, body: bytes) -> None:
        """Read one export."""
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = attributes(part.resource)
            self.spans += [span for scope in part.scope_spans for span in scope.spans]

    def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something that comes over the network."""
        deadline_s = time.monotonic() + 30
        while not is_true():
            assert time.monotonic() < deadline_s, [span.name for span in self.spans]
            time.sleep(0.01)

    def named(self, name: str) -> Span:
        """The one span of a name."""
        self.until(lambda: name in {span.name for span in self.spans})
        [span] = [span for span in self.spans if span.name == name]
        return span


def attributes(item: Span | Resource) -> dict[str, Any]:
    """The attributes of a span or resource."""
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value")))
        for each in item.attributes
    }


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector until the block ends."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.arrived.release()
            collector.gate.wait(60)
            collector.take(body)
            with contextlib.suppress(OSError):  # no client waits any more
                self.send_response(200)
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            collector.gate.set()
            server.shutdown()
            thread.join()
