"""BMP in: what Pillow writes, old headers, and what is refused."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.ground.errors import ImageTooLarge, InvalidImage, UnsuitableImage
from service.images.codec import DecodedImage, decode


def written(picture: Image.Image) -> bytes:
    """Write a BMP with Pillow."""
    buffer = io.BytesIO()
    picture.save(buffer, "BMP")
    return buffer.getvalue()


def read(body: bytes, max_pixels: int = 10**6) -> DecodedImage:
    """Decode a BMP."""
    return decode(body, "image/bmp", shape=None, dtype=None, max_pixels=max_pixels)


def bitmap(
    width: int,
    height: int,
    bits: int,
    data: bytes,
    *,
    compression: int = 0,
    palette: bytes = b"",
    colours: int = 0,
    masks: bytes = b"",
    header_bytes: int = 40,
    planes: int = 1,
) -> bytes:
    """Lay out a BMP by hand."""
    info = struct.pack(
        "<IiiHHIIiiII", header_bytes, width, height, planes, bits, compression, 0, 0, 0, colours, 0
    )
    info += masks.ljust(header_bytes - 40, b"\0") if header_bytes > 40 else masks
    head = info + palette
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(head)) + head + data


GREYS = b"".join(bytes([level, level, level, 0]) for level in range(256))
BGRA = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    mode=st.sampled_from(["L", "RGB", "RGBA", "P", "1"]),
)
def test_grey_written_by_pillow_is_read(size: tuple[int, int], mode: str) -> None:
    """1, 8, 24 and 32 bits, rows bottom up and padded to four bytes."""
    grey = np.random.default_rng(size[0]).integers(0, 256, size, np.uint8)
    picture = Image.fromarray(grey).convert(mode)

    found = read(written(picture)).pixels

    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(np.asarray(picture.convert("L")), found)


def test_negative_height_is_top_down() -> None:
    """Cameras write rows in the order in which they come."""
    data = bytes(range(8))

    assert read(bitmap(4, -2, 8, data, palette=GREYS)).pixels.tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]
    assert read(bitmap(4, 2, 8, data, palette=GREYS)).pixels.tolist() == [
        [4, 5, 6, 7],
        [0, 1, 2, 3],
    ]


def test_four_bit_palette_is_read() -> None:
    """Two pixels a byte, the left one in the high half."""
    palette = b"".join(bytes([level * 17] * 3 + [0]) for level in range(16))

    assert read(bitmap(3, 1, 4, b"\x1f\x20\0\0", palette=palette)).pixels.tolist() == [
        [17, 255, 34]
    ]


def test_os2_header_is_read() -> None:
    """The 12-byte header of old tools has palette entries of three bytes."""
    palette = b"".join(bytes([level] * 3) for level in range(256))
    head = struct.pack("<IHHHH", 12, 2, 1, 1, 8) + palette
    body = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(head)) + head + b"\x05\x06\0\0"

    assert read(body).pixels.tolist() == [[5, 6]]


def test_alpha_counts_only_where_the_file_says_so() -> None:
    """Plain 32-bit files leave their fourth byte undefined; with an alpha mask it must be full."""
    pixel = bytes([7, 7, 7, 9])
    assert read(bitmap(1, 1, 32, pixel)).pixels.tolist() == [[7]]
    with pytest.raises(UnsuitableImage, match="not opaque"):
        read(bitmap(1, 1, 32, pixel, compression=3, masks=BGRA, header_bytes=108))
    for alpha in (0, 255):
        body = bitmap(
            1, 1, 32, bytes([7, 7, 7, alpha]), compression=3, masks=BGRA, header_bytes=108
        )

        assert read(body).pixels.tolist() == [[7]]


def test_colour_masks_after_an_old_header_are_read() -> None:
    """The 40-byte header is followed by three masks and knows no alpha."""
    body = bitmap(1, 1, 32, bytes([7, 7, 7, 9]), compression=3, masks=BGRA[:12])

    assert read(body).pixels.tolist() == [[7]]


def test_colour_is_refused_only_where_used() -> None:
    """Colours of the palette that no pixel has do not matter."""
    palette = GREYS[:-4] + bytes([0, 0, 255, 0])

    assert read(bitmap(4, 1, 8, b"\0\1\2\3", palette=palette)).pixels.tolist() == [[0, 1, 2, 3]]
    with pytest.raises(UnsuitableImage, match=r"differ at 1 of 4 pixels.*R, G, B = 255, 0, 0"):
        read(bitmap(4, 1, 8, b"\0\1\2\xff", palette=palette))
    with pytest.raises(UnsuitableImage, match="R, G, B = 3, 2, 1"):
        read(bitmap(1, 1, 24, b"\1\2\3\0"))


@pytest.mark.parametrize(
    ("body", "error", "reason"),
    [
        (b"BM" + bytes(10), InvalidImage, "before its header is complete"),
        (bitmap(4, 1, 8, b"\0\1\2", palette=GREYS), InvalidImage, "truncated"),
        (bitmap(4, 1, 8, b"\0\1\2\3PK", palette=GREYS), InvalidImage, "2 bytes follow the end"),
        (bitmap(4, 1, 8, b"\0\1\2\3", palette=GREYS, header_bytes=41), InvalidImage, "of 41 bytes"),
        (bitmap(4, 1, 8, b"\0\1\2\3", palette=GREYS, planes=3), InvalidImage, "3 planes"),
        (bitmap(-4, 1, 8, b"\0\1\2\3", palette=GREYS), InvalidImage, "width -4"),
        (bitmap(4, 1, 8, b"\0\1\2\3", palette=GREYS[:40]), InvalidImage, "room for 10"),
        (bitmap(4, 1, 8, b"\0\1\2\3", palette=GREYS, colours=300), InvalidImage, "of 300 colours"),
        (bitmap(4, 1, 8, b"\0\1\2\x0b", palette=GREYS[:40], colours=10), InvalidImage, "index 11"),
        (bitmap(4, 1, 8, b"", palette=GREYS, compression=1), UnsuitableImage, r"\(RLE8\)"),
        (bitmap(4, 1, 16, bytes(8)), UnsuitableImage, "16 bits a pixel"),
        (
            bitmap(4, 1, 24, bytes(12), compression=3, masks=BGRA),
            UnsuitableImage,
            "24 bits a pixel",
        ),
        (bitmap(1, 1, 32, bytes(4), compression=3, masks=bytes(12)), UnsuitableImage, "masks"),
        (
            bitmap(1, 1, 32, b"", compression=3, masks=BGRA[:12])[:60],
            InvalidImage,
            "ends within its colour masks",
        ),
        (bitmap(0, 1, 8, b"", palette=GREYS), UnsuitableImage, "1×0"),
        (bitmap(1, 0, 8, b"", palette=GREYS), UnsuitableImage, "0×1"),
        (bitmap(100_000, 100_000, 8, b"", palette=GREYS), ImageTooLarge, "at most 1000000"),
        (bitmap(1, -(2**31), 8, b"", palette=GREYS), ImageTooLarge, "2147483648×1"),
    ],
)
def test_what_is_not_read_is_refused_with_its_reason(
    body: bytes, error: type[Exception], reason: str
) -> None:
    """Damage is 400, what is not read 422, too many pixels 413."""
    with pytest.raises(error, match=reason):
        read(body)


def test_pixels_cannot_begin_within_the_header() -> None:
    """An offset into the header would show header bytes as pixels."""
    body = bytearray(bitmap(4, 1, 8, b"\0\1\2\3", palette=GREYS))
    body[10:14] = struct.pack("<I", 20)

    with pytest.raises(InvalidImage, match="begin at byte 20"):
        read(bytes(body))


def test_an_alpha_mask_of_some_bits_is_refused() -> None:
    """Alpha takes the fourth byte or nothing; what seven bits of it say cannot be checked."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFE000000)
    body = bitmap(1, 1, 32, bytes(4), compression=3, masks=masks, header_bytes=108)

    with pytest.raises(UnsuitableImage, match="alpha mask fe000000"):
        read(body)
