"""Files that were found to give wrong or missing pixels with status 200, sent as a client does."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from tests.service.conftest import ServedApp

SAMPLE = Path(__file__).parents[3] / "samples" / "0000_dense_lines.png"
EOI = b"\xff\xd9"


def jpeg(**options: int) -> bytes:
    """Write the sample tile as JPEG."""
    buffer = io.BytesIO()
    with Image.open(SAMPLE) as picture:
        picture.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def tiff(pixels: npt.NDArray[np.uint8 | np.uint16], **options: Any) -> bytes:
    """Write a plain TIFF."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"photometric": "minisblack", "metadata": None} | options)
    return buffer.getvalue()


def send(app: ServedApp, body: bytes, kind: str, **headers: str) -> httpx2.Response:
    """Send one image; the answer to a good one is raw."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.client.post(
        "/superresolve",
        content=body,
        headers={"content-type": kind, "accept": "application/octet-stream", **named},
    )


def decoded(response: httpx2.Response) -> npt.NDArray[np.uint8]:
    """Return what the service decoded; the engine repeats each pixel four times."""
    assert 200 == response.status_code, response.text
    height, width = map(int, response.headers["x-tile-shape"].split(","))
    return np.frombuffer(response.content, np.uint8).reshape(height, width)[2::4, 2::4]


def without_intervals(body: bytes, lost: int) -> bytes:
    """Drop restart intervals in the middle."""
    marks = [at for at in range(len(body)) if body[at] == 0xFF and 0xD0 <= body[at + 1] <= 0xD7]
    return body[: marks[10]] + body[marks[10 + lost] :]


@pytest.mark.parametrize(
    "body",
    [
        jpeg()[: len(jpeg()) // 2] + EOI,
        jpeg()[: len(jpeg()) * 9 // 10] + EOI,
        jpeg()[: len(jpeg()) * 98 // 100] + EOI,
        without_intervals(jpeg(restart_marker_rows=1), 3),
    ],
)
def test_jpeg_that_lacks_data_is_400(serve: Callable[..., ServedApp], body: bytes) -> None:
    """Closed with EOI or not: no pixel is invented."""
    response = send(serve(), body, "image/jpeg")

    assert 400 == response.status_code
    assert "urn:semsr:problem:invalid-image" == response.json()["type"]


@pytest.mark.parametrize(("low", "high"), [(0, 4095), (0, 65535), (100, 3000)])
def test_white_is_zero_is_inverted_within_the_window(
    serve: Callable[..., ServedApp], rng: np.random.Generator, low: int, high: int
) -> None:
    """12 bits in 16: a picture under `X-Window: 0,4095`, not white throughout."""
    pixels = rng.integers(0, 4096, (24, 24), np.uint16)
    app = serve()
    window = f"{low},{high}"
    plain = decoded(send(app, tiff(pixels), "image/tiff", x_window=window))

    found = send(app, tiff(pixels, photometric="miniswhite"), "image/tiff", x_window=window)
    wide = send(
        app, tiff(pixels, photometric="miniswhite"), "image/tiff", x_window=window,
        accept="image/png", x_answer_dtype="uint16",
    )  # fmt: skip

    np.testing.assert_array_equal(255 - plain, decoded(found))
    assert len(np.unique(plain)) > 10
    with Image.open(io.BytesIO(wide.content)) as picture:
        # Narrowed again by the same window, the wide answer is the other one.
        levels = np.asarray(picture, np.float64)[2::4, 2::4]
    np.testing.assert_array_equal(
        255 - plain, np.floor(255 * (levels - low) / (high - low) + 0.5).astype(np.uint8)
    )


def test_sixteen_bits_white_is_zero_are_the_negative(
    serve: Callable[..., ServedApp], rng: np.random.Generator
) -> None:
    """Over the whole range, as at 8 bits."""
    pixels = rng.integers(0, 65536, (60, 80), np.uint16)

    found = decoded(send(serve(), tiff(pixels, photometric="miniswhite"), "image/tiff"))

    np.testing.assert_array_equal(255 - np.rint(pixels / 257).astype(np.uint8), found)


def test_orientation_leaves_rows_and_columns_as_they_are_stored(
    serve: Callable[..., ServedApp], rng: np.random.Generator
) -> None:
    """The coordinates of the tool that wrote the file hold for the answer."""
    pixels = rng.integers(0, 256, (60, 80), np.uint8)

    found = send(serve(), tiff(pixels, extratags=[(274, 3, 1, 6, True)]), "image/tiff")

    np.testing.assert_array_equal(pixels, decoded(found))


def test_twelve_bits_in_a_png_of_16_fill_the_range_by_the_window(
    serve: Callable[..., ServedApp], rng: np.random.Generator
) -> None:
    """`X-Window: 0,4095` says so; without it the answer is dark, as the file is."""
    pixels = rng.integers(0, 4096, (24, 24), np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    app = serve()

    found = decoded(send(app, buffer.getvalue(), "image/png", x_window="0,4095"))
    dark = decoded(send(app, buffer.getvalue(), "image/png"))

    np.testing.assert_array_equal(np.rint(pixels / 4095 * 255).astype(np.uint8), found)
    assert dark.max() <= 16


def vendor_tiff(code: int, text: bytes) -> bytes:
    """Write a small TIFF with a vendor's text."""
    return tiff(np.zeros((24, 24), np.uint8), extratags=[(code, "s", len(text), text, True)])


@pytest.mark.parametrize("asked", [{}, {"x_pixel_size_nm": "8"}])
def test_decimal_comma_of_an_fei_text_is_scaled_whole(
    serve: Callable[..., ServedApp], asked: dict[str, str]
) -> None:
    """4,5e-9 becomes 1,125e-9, not 1,5e-9; with the client's 8 nm it becomes 2e-9."""
    text = b"[Scan]\r\nPixelWidth=4,5e-9\r\nPixelHeight=4,5e-9\r\n"

    response = send(serve(), vendor_tiff(34682, text), "image/tiff", accept="image/tiff", **asked)

    expected, header = (b"2e-09", "2,2") if asked else (b"1,125e-09", "1.125,1.125")
    assert b"PixelWidth=" + expected + b"\r\nPixelHeight=" + expected in response.content
    assert header == response.headers["x-pixel-size-nm"]


@pytest.mark.parametrize(
    ("statement", "after"),
    [
        (b"4,125 nm", None),
        ("1.5 \u00b5m".encode(), "375,375"),
        ("1.5 \u03bcm".encode(), "375,375"),
        (b"1.5", None),
        (b"4,5 nm", "1.125,1.125"),
    ],
)
def test_zeiss_text_never_keeps_the_size_of_the_image_before(
    serve: Callable[..., ServedApp], statement: bytes, after: str | None
) -> None:
    """Scaled where it is understood, else left out; never next to another size of the client's."""
    text = b"0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size =  " + statement + b"\r\n"
    app = serve()
    body = vendor_tiff(34118, text)

    found = send(app, body, "image/tiff", accept="image/tiff")
    asked = send(app, body, "image/tiff", accept="image/tiff", x_pixel_size_nm="8")

    assert after == found.headers.get("x-pixel-size-nm")
    assert "2,2" == asked.headers["x-pixel-size-nm"]
    for response in (found, asked):
        assert statement not in response.content
        assert (after is not None) == (b"AP_IMAGE_PIXEL_SIZE" in response.content)
