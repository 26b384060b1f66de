"""The Open Inference Protocol: bytes by hand, and NVIDIA's own client against a real server."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bundle_format.bundle import FLAGS, Manifest
from semsr.server_process import running_server
from service.ground.errors import BadRequest, ImageTooLarge, ServiceError, UnsuitableImage
from service.ground.priority import Priority
from service.http.v2.protocol import MAX_JSON_BYTES, make_answer, parse_infer
from tests.bundles import manifest_fields

TILE = np.random.default_rng(3).integers(0, 256, (24, 24), dtype=np.uint8)
MANIFEST = Manifest.model_validate({**manifest_fields(tile_px=8), "format_version": 4, "files": {}})
TILES = np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)


def message(
    tensor: bytes = b"", *, parameters: dict[str, Any] | None = None, **entry: Any
) -> tuple[bytes, int]:
    """A request for two tiles, and the length of its JSON."""
    fields: dict[str, Any] = {"name": "lr", "datatype": "UINT8", "shape": [2, 1, 8, 8], **entry}
    document: dict[str, Any] = {"id": "r7", "inputs": [fields]}
    if parameters is not None:
        document["parameters"] = parameters
    head = json.dumps(document).encode()
    return head + tensor, len(head)


class TestParsing:
    """Requests, well and badly formed."""

    def test_bytes_and_numbers_give_the_same_tiles(self):
        """Binary, nested lists and flat lists."""
        head = {"binary_data_size": 128}
        body, size = message(TILES.tobytes())
        document = json.loads(body[:size])
        document["inputs"][0]["parameters"] = head
        text = json.dumps(document).encode()
        as_bytes = parse_infer(text + TILES.tobytes(), header_length=len(text), manifest=MANIFEST)
        for data in (TILES.tolist(), TILES.reshape(-1).tolist()):
            body, _ = message(data=data)
            as_json = parse_infer(body, header_length=None, manifest=MANIFEST)
            np.testing.assert_array_equal(as_json.tiles, TILES)
        np.testing.assert_array_equal(as_bytes.tiles, TILES)
        assert as_bytes.request_id == "r7"
        assert as_bytes.outputs == (("sr", False), ("flags", False))

    def test_a_raw_body_is_one_tile(self):
        """A header length of 0; all outputs come back as bytes."""
        request = parse_infer(TILES[0].tobytes(), header_length=0, manifest=MANIFEST)
        np.testing.assert_array_equal(request.tiles, TILES[:1])
        assert request.outputs == (("sr", True), ("flags", True))

    @pytest.mark.parametrize(
        ("parameters", "priority", "has_deadline"),
        [
            ({}, Priority.ONLINE, False),
            ({"priority": 1, "timeout": 0}, Priority.ONLINE, False),
            ({"priority": 2, "timeout": 500_000}, Priority.NIGHTLY, True),
            ({"unknown": "ignored"}, Priority.ONLINE, False),
        ],
    )
    def test_priority_and_timeout(
        self, parameters: dict[str, Any], priority: Priority, has_deadline: bool
    ):
        """Triton's numbers: 1 is the highest priority, time-outs are microseconds."""
        body, _ = message(data=TILES.tolist(), parameters=parameters)
        request = parse_infer(body, header_length=None, manifest=MANIFEST)
        assert request.priority is priority
        assert (request.deadline_s is not None) is has_deadline

    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"name": "x"}, UnsuitableImage, "the input is called 'x'; expected 'lr'"),
            ({"datatype": "FP32"}, UnsuitableImage, "lr is 'FP32'; expected UINT8"),
            ({"shape": [2, 1, 9, 8]}, UnsuitableImage, r"expected \[N, 1, 8, 8\]"),
            ({"shape": [2, 1, 8.5, 8]}, UnsuitableImage, r"expected \[N, 1, 8, 8\]"),
            ({"shape": [True, 1, 8, 8]}, UnsuitableImage, r"expected \[N, 1, 8, 8\]"),
            ({"shape": "2,1,8,8"}, UnsuitableImage, r"expected \[N, 1, 8, 8\]"),
            ({"shape": [0, 1, 8, 8]}, UnsuitableImage, "expected at least one tile"),
            ({"shape": [-1, 1, 8, 8]}, UnsuitableImage, "expected at least one tile"),
            ({"data": [1, 2]}, BadRequest, "has 2 values"),
            ({"data": [[1], [2, 3]]}, BadRequest, "is not a tensor"),
            ({"data": None}, BadRequest, "expected 128 whole numbers"),
            ({"data": [0.5] * 128}, BadRequest, "expected 128 whole numbers"),
            ({"data": [256] * 128}, BadRequest, r"beyond 0\.\.255"),
            ({"parameters": {"priority": -1}}, BadRequest, "priority is -1"),
            ({"parameters": {"priority": "high"}}, BadRequest, "priority is 'high'"),
            ({"parameters": {"timeout": 1.5}}, BadRequest, "timeout is 1.5"),
            ({"parameters": {"timeout": 10**13}}, BadRequest, "timeout is 10000000000000"),
            ({"parameters": {"binary_data_output": 1}}, BadRequest, "expected true or false"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, change: dict[str, Any], error: type[ServiceError], words: str
    ):
        """Field, value and what was expected."""
        body, _ = message(**{"data": TILES.tolist(), **change})
        with pytest.raises(error, match=words):
            parse_infer(body, header_length=None, manifest=MANIFEST)

    @pytest.mark.parametrize(
        ("body", "header_length", "words"),
        [
            (b"{", None, "cannot be read"),
            (b"", None, "Inference-Header-Content-Length is 0; the body has 0"),
            (b"[]", None, "the request is list; expected a JSON object"),
            (b"{}", None, "inputs is NoneType; expected a JSON array"),
            (b'{"inputs": []}', None, "the request has 0 inputs"),
            (b'{"inputs": [1]}', None, r"inputs\[0\] is int"),
            (b'{"inputs": [], "id": 3}', None, "id is 3; expected text"),
            (b"{}", 9, "is 9; the body has 2 bytes"),
            (b"x" * 63, 0, r"of shape \[1, 1, 8, 8\] has 64 bytes, got 63"),
        ],
    )
    def test_what_is_no_request_is_refused(
        self, body: bytes, header_length: int | None, words: str
    ):
        """A message for each."""
        with pytest.raises(BadRequest, match=words):
            parse_infer(body, header_length=header_length, manifest=MANIFEST)

    def test_json_is_bounded(self):
        """A tensor of hundreds of tiles as JSON would stop the event loop for seconds."""
        with pytest.raises(ImageTooLarge, match="send the tensor as bytes"):
            parse_infer(b" " * (MAX_JSON_BYTES + 1), header_length=None, manifest=MANIFEST)

    def test_bytes_must_be_as_many_as_announced(self):
        """And claimed by the input."""
        body, size = message(TILES.tobytes())
        with pytest.raises(BadRequest, match="128 bytes follow the JSON and lr has no binary_data"):
            parse_infer(body, header_length=size, manifest=MANIFEST)
        document = json.loads(body[:size])
        document["inputs"][0]["parameters"] = {"binary_data_size": 127}
        text = json.dumps(document).encode()
        with pytest.raises(BadRequest, match="announces 127 bytes and 128 follow"):
            parse_infer(text + TILES.tobytes(), header_length=len(text), manifest=MANIFEST)

    @pytest.mark.parametrize(
        ("outputs", "words"),
        [
            ([{"name": "hr"}], "unknown output 'hr'; expected sr or flags"),
            ([{"name": "sr", "parameters": {"classification": 3}}], "sr is not a classification"),
            ([{"name": "sr", "parameters": {"binary_data": "yes"}}], "expected true or false"),
            (["sr"], "an output is str"),
            ({}, "outputs is dict"),
        ],
    )
    def test_outputs_that_do_not_exist_are_refused(self, outputs: object, words: str):
        """Each by name."""
        body, _ = message(data=TILES.tolist())
        document = {**json.loads(body), "outputs": outputs}
        with pytest.raises(BadRequest, match=words):
            parse_infer(json.dumps(document).encode(), header_length=None, manifest=MANIFEST)


def test_answers_are_laid_out_in_the_order_asked_for() -> None:
    """JSON first, then the tensors that are sent as bytes."""
    body, _ = message(data=TILES.tolist())
    outputs = [{"name": "flags"}, {"name": "sr", "parameters": {"binary_data": True}}]
    document = {**json.loads(body), "outputs": outputs}
    request = parse_infer(json.dumps(document).encode(), header_length=None, manifest=MANIFEST)
    sr = [np.full((32, 32), value, dtype=np.uint8) for value in (1, 2)]
    flags = [np.arange(len(FLAGS), dtype=np.float32)] * 2
    size, parts = make_answer(request, name="m", version="v", sr=sr, flags=flags)
    assert size == len(parts[0])
    head = json.loads(bytes(parts[0]))
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "v", "r7")
    assert [output["name"] for output in head["outputs"]] == ["flags", "sr"]
    assert head["outputs"][0]["data"] == 2 * list(range(len(FLAGS)))
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 2048}
    assert head["outputs"][1]["shape"] == [2, 1, 32, 32]
    assert b"".join(bytes(part) for part in parts[1:]) == b"\1" * 1024 + b"\2" * 1024


def infer(app, path: str, body: bytes, headers: dict[str, str] | None = None):
    """Send one request to the app."""
    return app.client.post(path, content=body, headers=headers or {})


class TestRoutes:
    """Around a fake engine."""

    def test_raw_tiles_are_answered_as_bytes(self, serve):
        """The same pixels as `/superresolve`, and the flags behind them."""
        app = serve()
        headers = {"inference-header-content-length": "0"}
        response = infer(app, "/v2/models/identity/infer", TILE.tobytes(), headers)
        assert response.status_code == 200, response.text
        size = int(response.headers["inference-header-content-length"])
        expected = TILE.repeat(4, axis=0).repeat(4, axis=1).tobytes()
        assert response.content[size : size + len(expected)] == expected
        flags = np.frombuffer(response.content[size + len(expected) :], dtype="<f4")
        np.testing.assert_array_equal(flags, [0, 0, 1, 1, 0, 0])
        labels = {"route": "/v2/models/infer", "code": "200", "priority": "online"}
        assert app.metric("semsr_requests_total", **labels) == 1
        for stage in ("recv", "decode", "queue", "infer"):
            assert app.metric("semsr_stage_duration_seconds_count", stage=stage) == 1

    @pytest.mark.parametrize(
        ("path", "status", "words"),
        [
            ("/v2/models/other/infer", 404, "other is not served; served are: identity version"),
            ("/v2/models/identity/versions/9/infer", 404, "identity version 9 is not served"),
        ],
    )
    def test_models_that_are_not_served(self, serve, path: str, status: int, words: str):
        """A problem, with the message where clients of this protocol look for it."""
        response = infer(serve(), path, b"")
        assert response.status_code == status
        assert words in response.json()["error"]

    @pytest.mark.parametrize(
        ("headers", "status", "words"),
        [
            ({"inference-header-content-length": "x"}, 400, "expected one number of bytes"),
            ({"content-encoding": "gzip"}, 415, "compressed requests are not read"),
            ({}, 400, "Inference-Header-Content-Length is 0"),
        ],
    )
    def test_headers_that_cannot_be_read(
        self, serve, headers: dict[str, str], status: int, words: str
    ):
        """Nothing reaches the engine, and the next is served."""
        app = serve()
        response = infer(app, "/v2/models/identity/infer", b"", headers)
        assert (response.status_code, words in response.json()["error"]) == (status, True)
        assert app.engine.batches == []
        assert app.post(TILE.tobytes()).status_code == 200

    def test_a_nightly_request_of_the_body_is_counted_as_such(self, serve):
        """Its class stands in the JSON, which is read after the request was admitted."""
        app = serve()
        document = {
            "inputs": [
                {
                    "name": "lr",
                    "datatype": "UINT8",
                    "shape": [1, 1, 24, 24],
                    "data": TILE.reshape(-1).tolist(),
                }
            ],
            "parameters": {"priority": 2},
        }
        response = infer(app, "/v2/models/identity/infer", json.dumps(document).encode())
        assert response.status_code == 200
        assert (
            app.metric("semsr_queue_duration_seconds_count", priority="nightly", model="identity")
            == 1
        )
        assert app.metric("semsr_admitted_tiles") == 0

    def test_metadata_health_and_index(self, serve):
        """What clients ask before they send a tensor."""
        app = serve()
        get = app.client.get
        assert get("/v2").json()["name"] == "semsr"
        assert get("/v2/health/live").status_code == get("/v2/health/ready").status_code == 200
        version = get("/model").json()["version"]
        metadata = get(f"/v2/models/identity/versions/{version}").json()
        assert metadata["inputs"][0]["shape"] == [-1, 1, 24, 24]
        assert [output["shape"] for output in metadata["outputs"]] == [
            [-1, 1, 96, 96],
            [-1, len(FLAGS)],
        ]
        assert get("/v2/models/identity/ready").status_code == 200
        assert get("/v2/models/other").status_code == 404
        [entry] = app.client.post("/v2/repository/index").json()
        assert entry == {"name": "identity", "version": version, "state": "READY", "reason": ""}
        assert app.client.portal is not None
        app.client.portal.call(app.lifecycle.begin_drain)
        assert get("/v2/health/ready").status_code == 503


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Address of a server with the engine `identity`."""
    with running_server({"SEMSR_ENGINE": "identity"}) as server:
        yield server.url.removeprefix("http://")


class TestTritonClient:
    """NVIDIA's own client, unchanged, against a server process."""

    def test_infer_as_bytes_and_as_json(self, url: str):
        """A batch of three tiles, both ways of sending them."""
        http = pytest.importorskip("tritonclient.http")
        tiles = np.random.default_rng(0).integers(0, 256, (3, 1, 240, 240), dtype=np.uint8)
        expected = tiles.repeat(4, axis=2).repeat(4, axis=3)
        with http.InferenceServerClient(url) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready("identity")
            metadata = client.get_model_metadata("identity")
            assert metadata["inputs"][0]["name"] == "lr"
            assert client.get_model_repository_index()[0]["name"] == "identity"
            config = client.get_model_config("identity")
            assert (config["max_batch_size"] > 0, config["input"][0]["dims"]) == (
                True,
                [1, 240, 240],
            )
            assert "model_configuration" in client.get_server_metadata()["extensions"]
            for is_binary in (True, False):
                tensor = http.InferInput("lr", list(tiles.shape), "UINT8")
                tensor.set_data_from_numpy(tiles, binary_data=is_binary)
                wanted = [
                    http.InferRequestedOutput("sr", binary_data=is_binary),
                    http.InferRequestedOutput("flags", binary_data=is_binary),
                ]
                result = client.infer(
                    "identity",
                    [tensor],
                    outputs=wanted,
                    request_id="lot7",
                    priority=2,
                    timeout=20_000_000,
                )
                np.testing.assert_array_equal(result.as_numpy("sr"), expected)
                np.testing.assert_array_equal(result.as_numpy("flags"), [[0, 0, 1, 1, 0, 0]] * 3)
                assert result.get_response()["id"] == "lot7"

    def test_errors_reach_the_client(self, url: str):
        """With our message in its exception."""
        http = pytest.importorskip("tritonclient.http")
        utils = pytest.importorskip("tritonclient.utils")
        tensor = http.InferInput("lr", [1, 1, 8, 8], "UINT8")
        tensor.set_data_from_numpy(np.zeros((1, 1, 8, 8), np.uint8))
        with http.InferenceServerClient(url) as client:
            with pytest.raises(utils.InferenceServerException, match=r"expected .N, 1, 240, 240."):
                client.infer("identity", [tensor])
            assert not client.is_model_ready("other")
