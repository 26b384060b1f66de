"""The whole app in one process: requests in, answers and problems out, around a fake engine."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from bundle_format.bundle import NOT_JUDGED
from engines.batches import EngineOutput
from engines.protocol import Engine, EngineError
from service.ground import errors
from service.http.problems import problem_from

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
TILE = np.random.default_rng(3).integers(0, 256, (24, 24), dtype=np.uint8)
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}
QUALITY = {"model": "identity", "tool": "unknown"}


def test_raw_tile_comes_back_enlarged_with_every_header(serve):
    """The answer has the request's type, its shape, its model, its timing and its id."""
    response = serve().post(TILE.tobytes(), {**RAW, "x-request-id": "lot7-3"})
    assert response.status_code == 200
    expected = TILE.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(
        np.frombuffer(response.content, np.uint8).reshape(96, 96), expected
    )
    headers = response.headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-tile-shape"] == "96,96"
    assert headers["x-tile-dtype"] == "uint8"
    assert headers["x-request-id"] == "lot7-3"
    assert headers["x-quality"] == (
        "non-finite=0.0000, saturated=0.0000, consistency=1.000, consistency-worst=1.000, "
        "residual=0.000, domain-distance=0.000"
    )
    assert headers["x-engine"] == "identity"
    assert headers["x-precision"] == "fp32"
    assert len(headers["x-model-version"]) == 12
    assert headers["x-scale"] == "4"
    stages = [entry.split(";")[0].strip() for entry in headers["server-timing"].split(",")]
    assert stages == ["recv", "decode", "queue", "infer", "encode", "total"]


def test_quality_of_an_image_is_that_of_all_its_tiles(serve):
    """The worst tile decides what is worst; shares and means are over all tiles."""
    app = serve(max_batch_size=1)

    def spoil(output: EngineOutput) -> EngineOutput:
        flags = output.flags.copy()
        is_first = len(app.engine.batches) == 1
        flags[:, 1:] = (0.5, 0.6, 0.1, 2.5, 0.5) if is_first else (0.0, 1.0, 0.9, 0.5, 1.25)
        return output._replace(flags=flags)

    app.engine.spoil = spoil
    image = np.zeros((24, 40), dtype=np.uint8)
    response = app.post(image.tobytes(), {**RAW, "x-tile-shape": "24,40"})
    assert response.status_code == 200
    count = len(app.engine.batches)
    assert count > 1
    assert response.headers["x-quality"] == (
        f"non-finite=0.0000, saturated={0.5 / count:.4f}, "
        f"consistency={1 - 0.4 / count:.3f}, consistency-worst=0.100, "
        "residual=2.500, domain-distance=1.250"
    )
    assert app.metric("semsr_residual_sum", **QUALITY) == 2.5
    assert app.metric("semsr_domain_distance_sum", **QUALITY) == 1.25


def test_what_a_bundle_cannot_judge_is_left_out(serve):
    """In the header and in the metrics: -1 is not a score."""
    app = serve()

    def spoil(output: EngineOutput) -> EngineOutput:
        flags = output.flags.copy()
        flags[:, 4:] = NOT_JUDGED
        return output._replace(flags=flags)

    app.engine.spoil = spoil
    response = app.post(TILE.tobytes(), RAW)
    assert response.headers["x-quality"] == (
        "non-finite=0.0000, saturated=0.0000, consistency=1.000, consistency-worst=1.000"
    )
    assert app.metric("semsr_residual_count", **QUALITY) == 0
    assert app.metric("semsr_domain_distance_count", **QUALITY) == 0


def test_answer_with_values_that_are_no_numbers_is_withheld(serve):
    """A tile that the model computed NaN for gets no picture but an error, and is counted."""
    app = serve()

    def spoil(output: EngineOutput) -> EngineOutput:
        flags = output.flags.copy()
        flags[0] = (0.25, *[np.nan] * 5)
        return output._replace(flags=flags)

    app.engine.spoil = spoil
    response = app.post(TILE.tobytes(), RAW)
    assert response.status_code == 500
    assert response.json()["type"] == "urn:semsr:problem:engine-failed"
    assert "non-finite values (NaN or infinite) at 25.00%" in response.json()["detail"]
    assert app.metric("semsr_non_finite_total", model="identity") == 1
    app.engine.spoil = None
    assert app.post(TILE.tobytes(), RAW).status_code == 200
    # Sums stay numbers: one NaN would make every later rate and mean NaN.
    assert app.metric("semsr_consistency_sum", **QUALITY) == 1
    assert app.metric("semsr_saturated_ratio_sum", **QUALITY) == 0


def test_every_error_class_has_one_shape(serve):
    """Every ServiceError becomes the same problem body, with its own status and code."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, errors.ServiceError)]
    assert len(kinds) > 10
    for kind in kinds:
        problem = problem_from(kind("what was wrong"), request_id="id", path="/superresolve")
        body = json.loads(problem.body)
        assert problem.status == body["status"] == kind.status
        assert body["type"] == f"urn:semsr:problem:{kind.code}"
        assert body["detail"] == body["error"] == "what was wrong"
        assert body["request_id"] == "id"
        assert ("retry_after_ms" in body) == (kind.status in {429, 503})
        assert (b"retry-after" in dict(problem.headers)) == (kind.status in {429, 503})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/superresolve", 405), ("POST", "/metrics", 405)],
)
def test_errors_of_the_framework_have_the_same_shape(serve, method, path, status):
    """Unknown paths and wrong methods are problems too, with an id."""
    response = serve().client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_unexpected_error_reveals_nothing(serve, monkeypatch):
    """A bug of ours is a 500 without a trace, and the next request is served."""
    app = serve()

    def broken(*_: object) -> None:
        raise RuntimeError("secret path")

    with monkeypatch.context() as patch:
        patch.setattr("service.http.superresolve.parse_request", broken)
        response = app.post(TILE.tobytes())
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.json()["type"] == "urn:semsr:problem:internal-error"
    assert app.post(TILE.tobytes()).status_code == 200


@pytest.mark.parametrize(
    ("headers", "content", "status", "words"),
    [
        ({"content-type": "application/octet-stream"}, b"x" * 576, 400, "X-Tile-Shape"),
        ({**RAW, "x-tile-shape": "24"}, b"x" * 576, 400, "X-Tile-Shape"),
        ({**RAW, "x-tile-shape": "24,25"}, b"x" * 576, 422, "600"),
        ({**RAW, "x-tile-shape": "0,0"}, b"", 400, ""),
        ({**RAW, "x-tile-dtype": "float32"}, b"x" * 576, 400, "float32"),
        ({**RAW, "x-window": "9,3"}, b"x" * 576, 400, "X-Window"),
        ({**RAW, "x-answer-dtype": "int4"}, b"x" * 576, 400, "X-Answer-Dtype"),
        ({**RAW, "x-request-timeout-ms": "soon"}, b"x" * 576, 400, "X-Request-Timeout-Ms"),
        ({**RAW, "x-priority": "urgent"}, b"x" * 576, 400, "online or nightly"),
        ({**RAW, "x-pixel-size-nm": "-4"}, b"x" * 576, 400, "X-Pixel-Size-Nm"),
        ({**RAW, "accept": "image/webp"}, b"x" * 576, 406, "image/png"),
        ({"content-type": "application/json"}, b"{}", 415, "application/json"),
        ({"content-type": "image/png"}, b"", 400, "empty"),
        ({"content-type": "image/png"}, b"\xff\xd8\xff\xe0 JFIF", 400, "JPEG"),
        ({"content-type": "image/png"}, b"\x89PNG\r\n\x1a\n", 400, "PNG ends after 8 bytes"),
        ({"content-type": "multipart/form-data"}, b"--x", 400, "boundary"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\n", 400, "multipart"),
    ],
)
def test_bad_request_says_what_was_wrong_and_the_next_is_served(
    serve, headers, content, status, words
):
    """A 4xx problem names the header or the fault; nothing reaches the engine."""
    app = serve()
    response = app.post(content, headers)
    assert response.status_code == status, response.text
    assert words in response.json()["detail"]
    assert app.engine.batches == []
    assert app.post(TILE.tobytes()).status_code == 200
    assert app.metric("semsr_admitted_tiles") == 0


def test_body_beyond_the_limit_is_refused(serve):
    """Announced or not, a body above SEMSR_MAX_BODY_BYTES is a 413."""
    app = serve(max_body_bytes=1024)
    assert app.post(b"x" * 2048, {**RAW, "x-tile-shape": "32,64"}).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x" * 512

    response = app.client.post("/superresolve", content=chunks(), headers=RAW)
    assert response.status_code == 413
    assert "SEMSR_MAX_BODY_BYTES" in response.json()["detail"]


def test_image_beyond_the_pixel_limit_is_refused(serve):
    """Size is checked before anything is decoded."""
    response = serve(max_pixels=500).post(TILE.tobytes())
    assert response.status_code == 413


def test_image_of_another_size_is_cut_and_put_together(serve):
    """A larger image goes through the engine in tiles of one shape and comes back whole."""
    app = serve()
    image = np.random.default_rng(5).integers(0, 256, (70, 33), dtype=np.uint8)
    response = app.post(image.tobytes(), {**RAW, "x-tile-shape": "70,33"})
    assert response.headers["x-tile-shape"] == "280,132"
    expected = image.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(
        np.frombuffer(response.content, np.uint8).reshape(280, 132), expected
    )
    assert {batch[1:] for batch in app.engine.batches} == {(24, 24)}


def test_image_of_more_tiles_than_are_admitted_is_too_large(serve):
    """An image that can never fit is a 413, not an endless 503."""
    app = serve(max_queue=2)
    response = app.post(bytes(240 * 240), {**RAW, "x-tile-shape": "240,240"})
    assert response.status_code == 413
    assert "7 places and the service has 2" in response.json()["detail"]
    assert app.metric("semsr_admitted_tiles") == 0


def test_sixteen_bit_input_is_mapped_by_its_window_and_back(serve):
    """A uint16 tile is windowed to 8 bit; on request the answer is scaled back."""
    image = np.array([[1000, 2000], [3000, 9999]], dtype="<u2")
    headers = {**RAW, "x-tile-shape": "2,2", "x-tile-dtype": "uint16", "x-window": "1000,3000"}
    app = serve()
    eight = np.frombuffer(app.post(image.tobytes(), headers).content, np.uint8).reshape(8, 8)
    assert eight[::4, ::4].tolist() == [[0, 128], [255, 255]]
    response = app.post(image.tobytes(), {**headers, "x-answer-dtype": "uint16"})
    assert response.headers["x-tile-dtype"] == "uint16"
    sixteen = np.frombuffer(response.content, "<u2").reshape(8, 8)
    assert sixteen[0, 0] == 1000
    assert sixteen[7, 7] == 3000
    assert abs(int(sixteen[0, 7]) - 2000) <= 8


def test_more_bits_than_the_service_gives_are_refused(serve):
    """256 levels in 16 bits must not pass for more; the error says who can change it."""
    response = serve().post(bytes(576), {**RAW, "x-answer-bits": "16"})
    assert response.status_code == 400
    assert "answers in 8 bits; an operator sets SEMSR_ANSWER_BITS=16" in response.json()["detail"]


def test_window_of_the_bundle_holds_where_the_request_names_none(serve, tmp_path: Path) -> None:
    """A line's own grey range is set once, in the bundle."""
    bundle = tmp_path / "windowed"
    shutil.copytree(TINY_BUNDLE, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "window": [1000, 3000]}))
    image = np.array([[1000, 3000]], dtype="<u2")
    headers = {**RAW, "x-tile-shape": "1,2", "x-tile-dtype": "uint16"}
    response = serve(bundle=bundle).post(image.tobytes(), headers)
    answer = np.frombuffer(response.content, np.uint8).reshape(4, 8)
    assert answer[0].tolist() == [0] * 4 + [255] * 4


def test_multipart_upload_is_read(serve):
    """People with curl send `-F file=@tile.npy`."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, TILE)
    response = serve().client.post(
        "/superresolve",
        files={"file": ("tile.npy", buffer.getvalue(), "application/octet-stream")},
        headers={"accept": "application/octet-stream"},
    )
    assert response.status_code == 200, response.text
    assert response.headers["x-tile-shape"] == "96,96"


def test_multipart_without_the_field_says_which_fields_came(serve):
    """The form's field must be called file."""
    response = serve().client.post("/superresolve", files={"image": ("a.png", b"x", "image/png")})
    assert response.status_code == 400
    assert "'image'" in response.json()["detail"]


def test_engine_failure_is_a_500_without_details_and_the_next_is_served(serve):
    """What the runtime said is for the log."""
    app = serve()
    app.engine.failures = [RuntimeError("cuda error at 0xdead")]
    response = app.post(TILE.tobytes())
    assert response.status_code == 500
    assert "0xdead" not in response.text
    assert app.post(TILE.tobytes()).status_code == 200
    assert app.metric("semsr_engine_failures_total") == 1


def test_missed_deadline_is_a_504(serve):
    """A tile whose time ran out in the queue never reaches the engine."""
    response = serve().post(TILE.tobytes(), {**RAW, "x-request-timeout-ms": "0.000001"})
    assert response.status_code == 504
    assert response.json()["type"] == "urn:semsr:problem:deadline-exceeded"


def test_priority_is_counted_by_class(serve):
    """A nightly tile is served like any other, and seen as what it is."""
    app = serve()
    assert app.post(TILE.tobytes(), {**RAW, "x-priority": "nightly"}).status_code == 200
    assert app.post(TILE.tobytes()).status_code == 200
    labels = {"route": "/superresolve", "code": "200"}
    for priority in ("nightly", "online"):
        assert app.metric("semsr_requests_total", **labels, priority=priority) == 1
        assert (
            app.metric("semsr_queue_duration_seconds_count", priority=priority, model="identity")
            == 1
        )


def test_nightly_requests_hold_half_of_the_places(serve):
    """A scan cannot shut the line out; a request larger than its share never fits."""
    app = serve(max_queue=6, max_batch_size=1)
    wide = {**RAW, "x-tile-shape": "24,100"}
    content = np.zeros((24, 100), np.uint8).tobytes()
    assert app.post(content, wide).status_code == 200
    response = app.post(content, {**wide, "x-priority": "nightly"})
    assert response.status_code == 413
    assert "3 in all for nightly requests" in response.json()["detail"]


def test_request_that_would_be_late_is_refused_before_its_body_is_read(serve):
    """While a batch is in flight, a tile with a microsecond left gets 503, not a place."""
    app = serve(max_batch_size=1)
    app.engine.started = threading.Semaphore(0)
    app.engine.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(app.post, TILE.tobytes())
        assert app.engine.started.acquire(timeout=30)
        response = app.post(b"", {**RAW, "x-request-timeout-ms": "0.001"})
        app.engine.open_gate()
        assert under_way.result().status_code == 200
    assert response.status_code == 503
    assert "1 tiles would be done in" in response.json()["detail"]
    assert response.json()["retry_after_ms"] >= 1


def test_probes_follow_the_life_of_the_service(serve):
    """Ready, then draining: alive, still serving, but no longer ready, and connections end."""
    app = serve()
    assert app.client.get("/livez").json() == {"status": "alive"}
    assert app.client.get("/readyz").json() == {"status": "ready"}
    assert app.client.portal is not None
    app.client.portal.call(app.lifecycle.begin_drain)
    assert app.client.get("/livez").status_code == 200
    assert app.client.get("/readyz").status_code == 503
    response = app.post(TILE.tobytes())
    assert response.status_code == 200
    assert response.headers["connection"] == "close"


def test_bundle_that_cannot_be_loaded_is_said_and_nothing_is_served(serve):
    """The reason is in readiness and in the answer to a tile."""

    def refuse(*_: object) -> Engine:
        raise EngineError("no such accelerator")

    app = serve(loader=refuse)
    for response in (app.client.get("/readyz"), app.client.get("/livez"), app.post(b"x")):
        assert response.status_code == 503
        assert "no such accelerator" in response.json()["detail"]
    assert app.client.get("/model").status_code == 503


def test_model_route_describes_what_is_served(serve):
    """Scale, tile, engine and the training statement."""
    info = serve().client.get("/model").json()
    assert (info["scale"], info["tile"], info["engine"]) == (4, [24, 24], "identity")
    assert info["training"] == {"data": "none: random weights, for tests"}


def test_metrics_count_what_happened(serve):
    """Requests by route and status, tiles by model, batches and rejections."""
    app = serve()
    app.post(TILE.tobytes())
    app.post(b"bad", {"content-type": "image/png"})
    text = app.client.get("/metrics").text
    assert 'semsr_requests_total{code="200",priority="online",route="/superresolve"} 1.0' in text
    assert 'code="400"' in text
    assert app.metric("semsr_batch_size_count", model="identity") == 1
    assert app.metric("semsr_engine_up") == 1
    assert app.client.get("/a/b/c").status_code == 404
    assert 'route="other"' in app.client.get("/metrics").text


def test_docs_and_schema_need_no_network(serve):
    """Swagger UI and its files come from the service itself; the hot route is described."""
    app = serve()
    page = app.client.get("/docs").text
    assert "http" not in page.replace("http-equiv", "")
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/docs/assets/{asset}" in page
        assert app.client.get(f"/docs/assets/{asset}").status_code == 200
    operation = app.client.get("/openapi.json").json()["paths"]["/superresolve"]["post"]
    assert "image/png" in operation["requestBody"]["content"]
    assert set(operation["responses"]) >= {"200", "400", "413", "415", "422", "503"}


@pytest.mark.parametrize("sent", ["", "a" * 200, "two words"])
def test_unusable_request_id_is_replaced(serve, sent: str):
    """Ids that are empty, long or could forge a log line are not echoed."""
    response = serve().client.get("/livez", headers={"x-request-id": sent})
    assert len(response.headers["x-request-id"]) == 32


def test_framework_exception_headers_are_kept():
    """405 must carry Allow (RFC 9110)."""
    problem = problem_from(
        HTTPException(405, headers={"Allow": "POST"}), request_id="id", path="/superresolve"
    )
    assert (b"allow", b"POST") in problem.headers


def test_bug_in_a_quiet_route_reveals_nothing(serve, monkeypatch) -> None:
    """Also what FastAPI catches itself is a problem without a trace."""
    app = serve()

    def broken(*_: object) -> None:
        raise RuntimeError("secret path")

    with monkeypatch.context() as patch:
        patch.setattr("service.http.routes.health.exposition", broken)
        response = app.client.get("/metrics")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert app.client.get("/metrics").status_code == 200
