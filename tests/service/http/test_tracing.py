"""Traces: spans for a collector, ids for clients and the log, and the cost when disabled."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx2
import numpy as np
import pytest
from structlog.testing import capture_logs

from semsr.server_process import running_server
from service.http import tracing
from service.http.tracing import MAX_BATCH_SPANS, TracingError, check_tracing
from service.settings import Settings
from tests.service.conftest import RAW, TINY_BUNDLE, ServedApp

TILE = np.random.default_rng(1).integers(0, 256, (24, 24), dtype=np.uint8)
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INFER = "/v2/models/identity/infer"
STAGES = ["recv", "decode", "queue", "infer", "encode", "send"]


@pytest.fixture
def collecting() -> ModuleType:
    """The collector's module; the test skips without the extra `tracing`."""
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        pytest.importorskip(package, reason="the extra tracing is not installed")
    from tests.service.http import collector

    return collector


@pytest.fixture
def collector(collecting: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A collector that is sent spans soon after they end."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with collecting.running_collector() as running:
        yield running


def send(app: ServedApp, **headers: str):
    """Send one tile with more headers."""
    return app.post(TILE.tobytes(), {**RAW, **headers})


class TestSpans:
    """What one request becomes."""

    def test_a_request_and_its_stages(self, serve, collector, collecting):
        """Stages lie below the request, one after the other, within its time."""
        assert send(serve(traces_endpoint=collector.url)).status_code == 200
        request = collector.named("POST /superresolve")
        stages = [collector.named(name) for name in STAGES]
        assert {bytes(span.trace_id) for span in stages} == {bytes(request.trace_id)}
        assert {bytes(span.parent_span_id) for span in stages} == {bytes(request.span_id)}
        edges = [stages[0].start_time_unix_nano, *(s.end_time_unix_nano for s in stages)]
        assert edges == sorted(edges)
        assert [s.start_time_unix_nano for s in stages[1:]] == edges[1:-1]
        assert request.start_time_unix_nano <= edges[0]
        assert request.end_time_unix_nano == edges[-1]
        assert collector.resource["service.name"] == "semsr"

    def test_the_batch_lies_within_its_stage(self, serve, collector, collecting):
        """With the number of tiles in it, whosever they were."""
        assert send(serve(traces_endpoint=collector.url)).status_code == 200
        batch, infer = collector.named("batch"), collector.named("infer")
        assert bytes(batch.parent_span_id) == bytes(infer.span_id)
        assert collecting.attributes(batch) == {"semsr.batch_size": 1}
        assert infer.start_time_unix_nano <= batch.start_time_unix_nano
        assert batch.end_time_unix_nano <= infer.end_time_unix_nano

    def test_attributes_say_what_was_asked_and_nothing_of_the_picture(
        self, serve, collector, collecting
    ):
        """Small values only."""
        app = serve(traces_endpoint=collector.url)
        assert send(app, **{"x-request-id": "lot7", "x-priority": "nightly"}).status_code == 200
        assert collecting.attributes(collector.named("POST /superresolve")) == {
            "http.request.method": "POST",
            "http.route": "/superresolve",
            "http.response.status_code": 200,
            "semsr.request_id": "lot7",
            "semsr.model": "identity",
            "semsr.priority": "nightly",
            "semsr.tiles": 1,
        }

    def test_a_large_image_has_a_bounded_number_of_spans(self, serve, collector):
        """Batches beyond the first ones are left out."""
        app = serve(traces_endpoint=collector.url, max_batch_size=1)
        side = 24 * 7
        image = bytes(side * side)
        assert app.post(image, {**RAW, "x-tile-shape": f"{side},{side}"}).status_code == 200
        assert len(app.engine.batches) > MAX_BATCH_SPANS
        collector.named("POST /superresolve")
        assert [span.name for span in collector.spans].count("batch") == MAX_BATCH_SPANS

    def test_the_inference_protocol_and_batches_are_traced_too(self, serve, collector, collecting):
        """One with stages; one as a whole, with what it held."""
        app = serve(traces_endpoint=collector.url)
        headers = {"inference-header-content-length": "0"}
        assert app.client.post(INFER, content=TILE.tobytes(), headers=headers).status_code == 200
        request = collector.named("POST /v2/models/infer")
        assert bytes(collector.named("decode").parent_span_id) == bytes(request.span_id)
        content = TILE.tobytes() * 3
        answer = app.client.post("/superresolve/batch", content=content, headers=RAW)
        assert answer.status_code == 200
        batch = collecting.attributes(collector.named("POST /superresolve/batch"))
        assert (batch["semsr.tiles"], batch["semsr.ended"]) == (3, "complete")

    def test_what_fails_is_marked(self, serve, collector, collecting):
        """With the problem's code; a client's mistake is not a server error."""
        app = serve(traces_endpoint=collector.url)
        app.engine.failures = [RuntimeError("boom")]
        statuses = [send(app).status_code, app.post(b"short").status_code]
        assert statuses == [500, 422]

        def requests() -> list[Any]:
            return [span for span in collector.spans if span.name == "POST /superresolve"]

        collector.until(lambda: len(requests()) == 2)
        found = {
            span.status.code: collecting.attributes(span).get("error.type") for span in requests()
        }
        assert found == {2: "engine-failed", 0: "unsuitable-image"}

    def test_probes_are_not_traced(self, serve, collector):
        """They arrive every few seconds."""
        app = serve(traces_endpoint=collector.url)
        for path in ("/livez", "/readyz", "/metrics", "/v2/health/ready"):
            assert "traceparent" not in app.client.get(path).headers
        send(app)
        collector.named("POST /superresolve")
        assert {span.name for span in collector.spans} <= {"POST /superresolve", "batch", *STAGES}


class TestContext:
    """`traceparent`, in and out."""

    def test_a_caller_s_trace_goes_on(self, serve, collector):
        """Its id is kept, its span is the parent, its state is handed on."""
        app = serve(traces_endpoint=collector.url, traces_sample_ratio=0)
        answer = send(app, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="fab=7")
        request = collector.named("POST /superresolve")
        assert request.trace_id.hex() == TRACE
        assert request.parent_span_id.hex() == PARENT
        assert request.trace_state == "fab=7"
        assert answer.headers["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"

    def test_what_the_caller_does_not_record_is_not_recorded(self, serve, collector):
        """Yet the trace has its id everywhere."""
        app = serve(traces_endpoint=collector.url)
        answer = send(app, traceparent=f"00-{TRACE}-{PARENT}-00")
        assert answer.headers["traceparent"].split("-")[1::2] == [TRACE, "00"]
        send(app, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert collector.named("POST /superresolve").trace_id.hex() == TRACE

    @pytest.mark.parametrize(
        "value", ["", "x", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01{'x' * 600}"]
    )
    def test_a_malformed_header_begins_a_new_trace(self, serve, collector, value: str):
        """And fails nothing."""
        answer = send(serve(traces_endpoint=collector.url), traceparent=value)
        assert answer.status_code == 200
        request = collector.named("POST /superresolve")
        assert request.trace_id.hex() == answer.headers["traceparent"].split("-")[1] != TRACE
        assert not request.parent_span_id

    def test_the_log_names_the_trace(self, serve, collector):
        """So that the two are found from each other."""
        app = serve(traces_endpoint=collector.url)
        with capture_logs() as lines:
            answer = send(app)
        [line] = [line for line in lines if line["event"] == "request_finished"]
        assert line["trace_id"] == answer.headers["traceparent"].split("-")[1]

    def test_a_share_of_none_records_nothing(self, serve, collector):
        """Only what a caller records."""
        app = serve(traces_endpoint=collector.url, traces_sample_ratio=0)
        for _ in range(5):
            flags = send(app).headers["traceparent"].split("-")[3]
            assert not int(flags, 16) & 1
        send(app, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert collector.named("POST /superresolve").trace_id.hex() == TRACE


class TestCollectorTrouble:
    """No behaviour of a collector affects a request or the end of the service."""

    def test_one_that_is_away(self, serve, collecting, monkeypatch: pytest.MonkeyPatch):
        """A small buffer runs over, and every request is answered."""
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
        with socket.create_server(("127.0.0.1", 0)) as gone:
            address = f"http://127.0.0.1:{gone.getsockname()[1]}/v1/traces"
        app = serve(traces_endpoint=address)
        assert {send(app).status_code for _ in range(50)} == {200}

    def test_one_that_hangs_holds_neither_requests_nor_the_end(self, collecting, collector):
        """The process ends while the collector still holds the last export."""
        collector.gate.clear()
        with running_server(_settings(collector.url)) as server:
            assert _post(server.url).status_code == 200
            assert collector.arrived.acquire(timeout=30)
            assert {_post(server.url).status_code for _ in range(5)} == {200}
        assert collector.spans == []

    def test_what_is_left_is_sent_at_the_end(self, collecting, monkeypatch: pytest.MonkeyPatch):
        """A service that stops loses no span."""
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        with collecting.running_collector() as collector:
            with running_server(_settings(collector.url)) as server:
                assert _post(server.url).status_code == 200
            assert {"POST /superresolve", "batch"} <= {span.name for span in collector.spans}


def test_a_pool_s_front_ends_trace_what_its_engines_did(collecting, collector):
    """The batch ran in another process; its times came back with the answer."""
    settings = {"SEMSR_MODE": "pool", "SEMSR_FRONT_ENDS": "1", "OTEL_SERVICE_NAME": "line-3"}
    with running_server(_settings(collector.url) | settings) as server:
        answer = _post(server.url, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert answer.status_code == 200
        batch, infer = collector.named("batch"), collector.named("infer")
    assert batch.trace_id.hex() == answer.headers["traceparent"].split("-")[1] == TRACE
    assert bytes(batch.parent_span_id) == bytes(infer.span_id)
    assert batch.end_time_unix_nano > batch.start_time_unix_nano
    assert collector.resource["service.name"] == "line-3"


class TestOff:
    """Without the setting, or without the package."""

    def test_neither_sdk_nor_exporter_is_imported(self):
        """Disabled traces cost nothing; FastAPI imports the API itself."""
        program = (
            "import sys; from service.http.app import create_app;"
            "from service.settings import Settings;"
            "create_app(Settings()); unwanted = ('opentelemetry.sdk', 'opentelemetry.exporter');"
            "print([m for m in sys.modules if m.startswith(unwanted)])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"

    def test_no_header_and_nothing_in_the_log(self, serve):
        """The traceparent of a request belongs to its caller."""
        with capture_logs() as lines:
            answer = send(serve(), traceparent=f"00-{TRACE}-{PARENT}-01")
        assert "traceparent" not in answer.headers
        assert not any("trace_id" in line for line in lines)

    def test_a_missing_package_is_an_error_that_names_the_extra(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """At the start and before anything is loaded; not asked for, it is none."""
        monkeypatch.setattr(tracing, "_is_installed", lambda package: False)
        with pytest.raises(TracingError, match="make install EXTRAS=tracing"):
            check_tracing(Settings(traces_endpoint="http://127.0.0.1:1/v1/traces"))
        check_tracing(Settings())

    @pytest.mark.parametrize("mode", ["single", "pool"])
    def test_it_ends_the_start(self, mode: str):
        """With exit code 2 and the reason, in either mode."""
        program = (
            "import sys; from service import __main__; from service.http import tracing;"
            "tracing._is_installed = lambda package: False; sys.exit(__main__.main())"
        )
        settings = {"SEMSR_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces", "SEMSR_PORT": "0"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **settings, "SEMSR_MODE": mode},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2
        assert "make install EXTRAS=tracing" in done.stderr

    @pytest.mark.parametrize("value", ["collector:4318", "http://collector:4318", "ftp://a/b"])
    def test_the_whole_address_is_wanted(self, value: str):
        """Nothing is guessed, neither scheme nor path."""
        with pytest.raises(ValueError, match="traces_endpoint"):
            Settings(traces_endpoint=value)


def _settings(endpoint: str) -> dict[str, str]:
    return {
        "SEMSR_BUNDLE": str(TINY_BUNDLE),
        "SEMSR_ENGINE": "identity",
        "SEMSR_TRACES_ENDPOINT": endpoint,
    }


def _post(url: str, **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{url}/superresolve",
        content=TILE.tobytes(),
        headers={**RAW, **headers},
        trust_env=False,
        timeout=60,
    )
