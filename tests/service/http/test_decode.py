"""`POST /decode`: the pixels that the model gets, as a picture that browsers show."""

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from service.http.access import hash_key

DEEP = (np.arange(24 * 24, dtype=np.uint16).reshape(24, 24) * 7).astype(np.uint16)
FLAT = np.full((24, 24), 90, np.uint8)


def tiff(*pages: np.ndarray, **options: Any) -> bytes:
    """A TIFF of one or several pages."""
    with io.BytesIO() as file:
        with tifffile.TiffWriter(file) as writer:
            for page in pages:
                writer.write(page, contiguous=False, metadata=None, **options)
        return file.getvalue()


def grey(content: bytes) -> np.ndarray:
    """Pixels of an answer."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def ask(client, content: bytes, query: str = "", **headers: str):
    """Send a TIFF, unless the headers say otherwise."""
    named = {"content-type": "image/tiff", "accept": "image/png"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/decode{query}", content=content, headers=named)


def test_the_picture_is_the_model_s_own_input(serve):
    """The identity engine repeats its input: the SR shrunk is the decoded picture, bit by bit."""
    app = serve()
    sent = tiff(DEEP, resolution=(2e6, 2e6), resolutionunit="CENTIMETER")
    seen = ask(app.client, sent, x_window="100,3000")
    assert 200 == seen.status_code, seen.text
    headers = {"content-type": "image/tiff", "accept": "image/png", "x-window": "100,3000"}
    sr = grey(app.post(sent, headers).content)
    np.testing.assert_array_equal(sr[::4, ::4], grey(seen.content))
    assert "image/png" == seen.headers["content-type"]
    assert ("24,24", "uint8") == (seen.headers["x-tile-shape"], seen.headers["x-tile-dtype"])
    assert ("uint16", "0,4025") == (seen.headers["x-stored-dtype"], seen.headers["x-stored-range"])
    assert "100,3000" == seen.headers["x-window"]
    assert "1" == seen.headers["x-page-count"]
    assert "5,5" == seen.headers["x-pixel-size-nm"]
    batches = len(app.engine.batches)
    ask(app.client, sent)
    assert batches == len(app.engine.batches), "the model need not run"


def test_eight_bits_have_no_window_and_white_is_zero_is_inverted(serve):
    """A window in the answer would say that one was applied."""
    seen = ask(serve().client, tiff(FLAT, photometric="miniswhite"))
    assert 255 - 90 == grey(seen.content)[0, 0]
    assert "x-window" not in seen.headers
    assert "uint8" == seen.headers["x-stored-dtype"]


def test_each_page_of_a_stack_is_reached(serve):
    """By its index from 0; the number of pages comes with each answer."""
    client = serve().client
    stack = tiff(FLAT, FLAT + 1, FLAT[:20] + 2)
    for page, shape in ((0, "24,24"), (1, "24,24"), (2, "20,24")):
        seen = ask(client, stack, f"?page={page}")
        assert ("3", shape) == (seen.headers["x-page-count"], seen.headers["x-tile-shape"])
        assert 90 + page == grey(seen.content)[0, 0]
    beyond = ask(client, stack, "?page=3")
    assert 422 == beyond.status_code
    assert "page is 3 and the file holds 3 images; expected 0 to 2" == beyond.json()["detail"]
    png = io.BytesIO()
    Image.fromarray(FLAT).save(png, "PNG")
    other = ask(client, png.getvalue(), "?page=1", content_type="image/png")
    assert (422, True) == (other.status_code, "holds one image" in other.json()["detail"])


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?pages=1", "expected model=NAME and page=N"),
        ("?page=1&page=2", "each at most once"),
        ("?page=-1", "expected an index from 0"),
        ("?page=1e3", "expected an index from 0"),
        ("?page=", "expected an index from 0"),
        ("?model=", "model is empty"),
    ],
)
def test_a_mistyped_query_is_refused(serve, query, detail):
    """Another page than the one that was meant would be shown otherwise."""
    answer = ask(serve().client, tiff(FLAT), query)
    assert (400, True) == (answer.status_code, detail in answer.json()["detail"]), answer.text


def test_refusals_are_those_of_a_request_for_sr(serve):
    """Same limits, same strictness, same words."""
    app = serve(max_pixels=1000, max_body_bytes=5000)
    wide = tiff(np.zeros((40, 40), np.uint8))
    cases = [
        (tiff(DEEP)[:-9], {}),
        (wide, {}),
        (bytes(6000), {}),
        (tiff(FLAT), {"content_type": "image/png"}),
        (tiff(FLAT), {"content_type": "text/plain"}),
        (tiff(FLAT), {"x_window": "9,1"}),
        (tiff(FLAT), {"accept": "image/webp"}),
        (tiff(FLAT), {"content_encoding": "gzip"}),
    ]
    for content, headers in cases:
        seen = ask(app.client, content, **headers)
        named = {"content-type": "image/tiff", "accept": "image/png"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        sr = app.post(content, named)
        assert 400 <= seen.status_code < 500
        assert (sr.status_code, sr.json()["detail"]) == (seen.status_code, seen.json()["detail"])
    assert 400 == ask(app.client, tiff(FLAT), x_answer_dtype="uint16").status_code
    deep = ask(app.client, tiff(FLAT), x_answer_bits="16")
    assert (400, "X-Answer-Bits is 16; expected 8 or none") == (
        deep.status_code, deep.json()["detail"],
    )  # fmt: skip
    assert 404 == ask(app.client, tiff(FLAT), "?model=other").status_code
    assert 405 == app.client.get("/decode").status_code


def test_forms_and_raw_pixels_are_read_too(serve):
    """All types that `/superresolve` reads."""
    client = serve().client
    form = client.post("/decode", files={"file": ("a.tif", tiff(FLAT), "image/tiff")})
    assert (200, "image/tiff") == (form.status_code, form.headers["content-type"])
    raw = ask(
        client, DEEP.tobytes(), content_type="application/octet-stream",
        x_tile_shape="24,24", x_tile_dtype="uint16",
    )  # fmt: skip
    assert (24, 24) == grey(raw.content).shape


def test_a_key_is_needed_and_the_places_come_back(serve, tmp_path):
    """The route does not bypass access, and every request gives its memory back."""
    keys = tmp_path / "keys"
    keys.write_text(f"line {hash_key('secret')}\n")
    app = serve(api_keys=keys)
    assert 401 == ask(app.client, tiff(FLAT)).status_code
    assert 200 == ask(app.client, tiff(FLAT), authorization="Bearer secret").status_code
    assert 400 == ask(app.client, b"II*\0", authorization="Bearer secret").status_code
    assert 0 == app.metric("semsr_admitted_tiles")
    assert 1 == app.metric("semsr_requests_total", route="/decode", code="200", priority="online")


def test_the_log_names_the_model_and_its_statistics_do_not_count_it(serve, capsys):
    """The model has not run: neither its metrics nor Triton's statistics have a request."""
    app = serve()
    assert 200 == ask(app.client, tiff(FLAT), x_tool="CDSEM-07").status_code
    [line] = [text for text in capsys.readouterr().out.splitlines() if "path=/decode" in text]
    assert "model=identity" in line
    assert "tool=CDSEM-07" in line
    assert 'semsr_model_requests_total{model="identity"' not in app.client.get("/metrics").text
    [stats] = app.client.get("/v2/models/identity/stats").json()["model_stats"]
    assert 0 == stats["inference_stats"]["success"]["count"]
