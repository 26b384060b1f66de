"""A request that says two things at once is refused: which of them is true cannot be known."""

import gzip
import io
import json
from collections.abc import Callable

import httpx2
import numpy as np
import pytest

from service.http.access import hash_key
from service.images import codec
from service.images.codec.sniffing import NPY, PNG, TIFF
from service.images.metadata import ImageMetadata
from tests.service.conftest import RAW, ServedApp

Serve = Callable[..., ServedApp]

TILE = np.random.default_rng(3).integers(0, 256, (24, 24), dtype=np.uint8)
PNG_BYTES = bytes(codec.encode(TILE, PNG, ImageMetadata()))
V2_HEADERS = {"inference-header-content-length": "0"}
JSON = {"content-type": "application/json"}


@pytest.fixture
def app(serve: Serve, tmp_path) -> ServedApp:
    """A service with keys and scans, whose client is an admin."""
    (tmp_path / "keys").write_text(f"boss {hash_key('b')} admin\n", encoding="utf-8")
    (tmp_path / "root").mkdir()
    app = serve(
        api_keys=tmp_path / "keys", scan_roots=str(tmp_path / "root"), scan_state=tmp_path / "state"
    )
    app.client.headers["authorization"] = "Bearer b"
    return app


ROUTES_WITH_A_BODY = [
    ("/superresolve", RAW, TILE.tobytes()),
    ("/superresolve/batch", RAW, TILE.tobytes() * 2),
    ("/v2/models/identity/infer", V2_HEADERS, TILE.tobytes()),
    ("/v2/repository/index", JSON, b"{}"),
    ("/v2/repository/models/identity/load", JSON, b"{}"),
    ("/admin/models/identity/load", JSON, b"{}"),
    ("/scans", JSON, b"{}"),
]


class TestContentEncoding:
    """Compressed bytes are never taken for pixels."""

    def test_any_but_identity_is_415_on_every_route_with_a_body(self, app: ServedApp):
        """And the message names it."""
        for path, headers, content in ROUTES_WITH_A_BODY:
            for coding in ("gzip", "GZIP", "br", "identity, gzip", "x-unknown"):
                sent = {**headers, "content-encoding": coding}
                answer = app.client.post(path, content=content, headers=sent)
                assert (415, path) == (answer.status_code, path), answer.text
                assert "Content-Encoding is" in answer.json()["detail"]
        assert [] == app.engine.batches

    def test_identity_passes_however_it_is_written(self, app: ServedApp):
        """As if it were not there."""
        for path, headers, content in ROUTES_WITH_A_BODY[:5]:
            for coding in ("identity", " Identity ", "IDENTITY", "", "identity,identity"):
                sent = {**headers, "content-encoding": coding}
                answer = app.client.post(path, content=content, headers=sent)
                assert (200, path, coding) == (answer.status_code, path, coding)

    def test_a_second_header_counts_too(self, app: ServedApp):
        """A proxy may add one of its own."""
        headers = [*RAW.items(), ("content-encoding", "identity"), ("content-encoding", "gzip")]
        answer = app.client.post("/superresolve", content=TILE.tobytes(), headers=headers)
        assert 415 == answer.status_code

    def test_gzip_bytes_as_raw_tiles_give_no_tiles(self, app: ServedApp):
        """The compressed bytes of 400 tiles: no answer at all, not even the first."""
        content = gzip.compress(bytes(24 * 24) * 400)
        headers = {**RAW, "content-encoding": "gzip"}
        answer = app.client.post("/superresolve/batch", content=content, headers=headers)
        assert 415 == answer.status_code
        assert [] == app.engine.batches


class TestHeaders:
    """Of one image."""

    def test_two_values_of_one_header_are_refused(self, app: ServedApp):
        """The message names the header and both."""
        for name, first, second in (
            ("x-tile-shape", "24,24", "12,48"),
            ("x-tile-dtype", "uint8", "uint16"),
            ("x-window", "0,4095", "0,255"),
            ("x-pixel-size-nm", "4", "5"),
            ("x-priority", "online", "nightly"),
            ("x-tool", "CDSEM-07", "CDSEM-08"),
            ("content-type", "application/octet-stream", "image/png"),
        ):
            others = [item for item in RAW.items() if item[0] != name]
            headers = [*others, (name, first), (name, second)]
            answer = app.client.post("/superresolve", content=TILE.tobytes(), headers=headers)
            assert 400 == answer.status_code
            detail = answer.json()["detail"]
            assert f"the header {name} occurs twice, as {first!r} and as {second!r}" in detail

    def test_the_same_value_twice_passes(self, app: ServedApp):
        """It says one thing."""
        headers = [*RAW.items(), ("x-tile-shape", "24,24")]
        answer = app.client.post("/superresolve", content=TILE.tobytes(), headers=headers)
        assert 200 == answer.status_code

    @pytest.mark.parametrize("media_type", [PNG, TIFF, NPY])
    @pytest.mark.parametrize(
        ("header", "words"),
        [
            ({"x-tile-shape": "24,25"}, "X-Tile-Shape says 24,25 and the file has 24,24"),
            ({"x-tile-dtype": "uint16"}, "X-Tile-Dtype says uint16 and the file has uint8"),
        ],
    )
    def test_a_file_of_another_shape_or_type_than_the_header_is_refused(
        self, app: ServedApp, media_type: str, header: dict[str, str], words: str
    ):
        """Formats that carry their own."""
        body = bytes(codec.encode(TILE, media_type, ImageMetadata()))
        answer = app.post(body, {"content-type": media_type, **header})
        assert 400 == answer.status_code
        assert words in answer.json()["detail"]
        agreeing = {"x-tile-shape": "24,24", "x-tile-dtype": "uint8"}
        assert 200 == app.post(body, {"content-type": media_type, **agreeing}).status_code

    def test_what_only_python_reads_as_a_number_is_not_a_timeout(self, app: ServedApp):
        """The schema says number."""
        for value in ("1_000", "Infinity", "nan", "0x10", "-5", "0"):
            answer = app.post(TILE.tobytes(), {**RAW, "x-request-timeout-ms": value})
            assert 400 == answer.status_code
            assert repr(value) in answer.json()["detail"]


class TestForm:
    """Multipart bodies as RFC 2046 and RFC 5987 allow them."""

    @staticmethod
    def send(
        app: ServedApp, disposition: str, *, preamble: bytes = b"", more: bytes = b""
    ) -> httpx2.Response:
        """Send one PNG without a Content-Type of its own."""
        head = f"--edge\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
        body = preamble + head + PNG_BYTES + b"\r\n" + more + b"--edge--\r\nafter the end"
        headers = {
            "content-type": "multipart/form-data; boundary=edge",
            "accept": RAW["content-type"],
        }
        return app.client.post("/superresolve", content=body, headers=headers)

    @pytest.mark.parametrize(
        "preamble", [b"", b"\r\n", b"This is a message in several parts.\r\n", b"--edg\r\n"]
    )
    def test_what_stands_before_the_first_boundary_is_ignored(
        self, app: ServedApp, preamble: bytes
    ):
        """As what stands behind the last one."""
        answer = self.send(app, 'name="file"; filename="a.png"', preamble=preamble)
        assert 200 == answer.status_code, answer.text
        np.testing.assert_array_equal(
            TILE, np.frombuffer(answer.content, np.uint8).reshape(96, 96)[2::4, 2::4]
        )

    @pytest.mark.parametrize(
        "disposition",
        [
            "name=\"file\"; filename*=UTF-8''tile%20%C3%A4.png",
            "name=\"file\"; filename*=utf-8'de'tile.PNG; size=3",
        ],
    )
    def test_a_name_in_the_extended_form_says_the_type(self, app: ServedApp, disposition: str):
        """Some clients send no other."""
        assert 200 == self.send(app, disposition).status_code

    def test_two_files_are_refused(self, app: ServedApp):
        """One of them would be lost."""
        second = (
            b'--edge\r\nContent-Disposition: form-data; name="file"; filename="b.png"\r\n\r\n\r\n'
        )
        answer = self.send(app, 'name="file"; filename="a.png"', more=second)
        assert 400 == answer.status_code
        assert "its fields are: 'file', 'file'" in answer.json()["detail"]

    def test_a_form_carries_a_batch(self, app: ServedApp):
        """In pieces, as it arrives; the type is that of its file."""
        stack = io.BytesIO()
        np.save(stack, np.stack([TILE, TILE + 1]))
        answer = app.client.post(
            "/superresolve/batch", files={"file": ("lot.npy", stack.getvalue(), NPY)}
        )
        assert 200 == answer.status_code, answer.text
        assert answer.content.count(b"X-Tile-Index") == 2

    def test_a_form_with_another_type_is_not_a_batch(self, app: ServedApp):
        """415 before anything is answered."""
        answer = app.client.post(
            "/superresolve/batch", files={"file": ("a.png", PNG_BYTES, "image/png")}
        )
        assert 415 == answer.status_code
        assert "the file in the form is 'image/png'" in answer.json()["detail"]


class TestWrongFile:
    """Bytes without a type and without a shape."""

    @pytest.mark.parametrize("path", ["/superresolve", "/superresolve/batch"])
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (PNG_BYTES, "begins like a PNG"),
            (PNG_BYTES, "send it with Content-Type: image/png"),
            (b"%PDF-1.7 ...", "begins like a PDF"),
            (b"%PDF-1.7 ...", "A file that this service reads is a PNG, TIFF, JPEG, BMP or npy"),
            (b"\x01\x02\x03\x04\x05\x06\x07\x08", "begins with the bytes 01 02 03 04 05 06 07 08"),
            (b"\x01\x02\x03\x04\x05\x06\x07\x08", "needs the header X-Tile-Shape"),
        ],
    )
    def test_the_message_says_what_the_bytes_look_like(
        self, app: ServedApp, path: str, content: bytes, words: str
    ):
        """And what to send, to people and to programs."""
        headers = {"content-type": "application/octet-stream"}
        answer = app.client.post(path, content=content, headers=headers)
        assert 400 == answer.status_code
        assert words in answer.json()["detail"]

    def test_an_image_beyond_the_limit_names_the_setting(self, serve: Serve):
        """With its size and the limit."""
        answer = serve(max_pixels=500).post(TILE.tobytes())
        assert 413 == answer.status_code
        detail = answer.json()["detail"]
        assert "24×24 pixels (height × width), 576 in all; expected at most 500" in detail
        assert "SEMSR_MAX_PIXELS" in detail


class TestOrders:
    """Small JSON bodies: what is not known is named, with what may have been meant."""

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"sorce": "/a", "sink": "/b"}, "unknown field 'sorce'; did you mean 'source'?"),
            (
                {"source": "/a", "sink": "/b", "options": {"windw": "0,1"}},
                "unknown field 'options.windw'; did you mean 'window'?",
            ),
            ({"source": "/a", "sink": "/b", "qq": 1}, "unknown field 'qq'; expected source, sink"),
            ({"source": "/a", "sink": "/b", "options": {"verify": 1}}, "options.verify"),
            ({"source": "/a", "sink": "/b", "finish_by": 1_900_000_000}, "finish_by"),
            ({"source": "/a"}, "sink: Field required"),
        ],
    )
    def test_a_scan_with_a_wrong_field_says_which(self, app: ServedApp, body: object, words: str):
        """422, as strict as the schema."""
        answer = app.client.post("/scans", json=body)
        assert 422 == answer.status_code
        assert words in answer.json()["detail"]

    def test_an_unknown_query_parameter_lists_nothing(self, app: ServedApp):
        """All scans would come where some are asked for."""
        answer = app.client.get("/scans", params={"sate": "running"})
        assert 422 == answer.status_code
        assert "unknown field 'sate'" in answer.json()["detail"]

    def test_a_load_with_another_configuration_is_refused(self, app: ServedApp):
        """Triton's clients may send one; it would be ignored."""
        order = {"parameters": {"config": json.dumps({"max_batch_size": 1})}}
        answer = app.client.post("/v2/repository/models/identity/load", json=order)
        assert 422 == answer.status_code
        assert "the parameter 'config' is not offered" in answer.json()["detail"]

    def test_the_index_lists_ready_models_where_only_they_are_asked_for(self, app: ServedApp):
        """Without a Content-Type too, as NVIDIA's client sends it."""
        path = "/v2/repository/index"
        [model] = app.client.post(path, content=b'{"ready": true}').json()
        assert "READY" == model["state"]
        assert app.client.portal is not None
        app.client.portal.call(app.lifecycle.begin_drain)
        assert [] == app.client.post(path, content=b'{"ready": true}').json()
        assert 1 == len(app.client.post(path).json())
