"""Valid JPEGs, BMPs, npy arrays and raw bodies of every kind."""

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.fuzz.sample import DEEP, GREY, HEIGHT, WIDTH, Grey, Sample, noise

RAW_HEADERS = {"uint8": f"{HEIGHT},{WIDTH}", "uint16": f"{HEIGHT},{WIDTH}"}
_BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
_TABLE = np.linspace(250, 2, 256).astype(np.uint8)


def jpeg_samples() -> Iterator[Sample]:
    """Yield each kind of JPEG once; the greys of those that are read are libjpeg's."""
    kinds: dict[str, dict[str, Any]] = {
        "baseline": {},
        "optimized": {"optimize": True},
        "progressive": {"progressive": True},
        "restart-blocks": {"restart_marker_blocks": 2},
        "restart-rows": {"restart_marker_rows": 1},
        "progressive-restart": {"progressive": True, "restart_marker_blocks": 3},
        "quality-1": {"quality": 1},
        "quality-100": {"quality": 100},
        "comment": {"comment": b"tilt 0", "dpi": (300, 300)},
    }
    for name, options in kinds.items():
        yield _jpeg(name, Image.fromarray(GREY), **options)
    colour = Image.fromarray(np.repeat(GREY[..., np.newaxis], 3, -1))
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        for progressive in (False, True):
            name = f"rgb-{subsampling}{'-progressive' if progressive else ''}"
            yield _jpeg(name, colour, subsampling=subsampling, progressive=progressive)
    yield _jpeg("keep-rgb", colour, keep_rgb=True)
    plain = _jpeg("fill-bytes", Image.fromarray(GREY))
    yield replace(plain, body=_filled(plain.body))
    baseline = _jpeg("extended", Image.fromarray(GREY))
    yield replace(baseline, body=baseline.body.replace(b"\xff\xc0", b"\xff\xc1", 1))
    cmyk = Image.fromarray(np.repeat(GREY[..., np.newaxis], 4, -1), "CMYK")
    yield _jpeg("cmyk", cmyk, refused=422)
    twelve = bytes(imagecodecs.jpeg8_encode(DEEP >> 4, bitspersample=12))
    lossless = bytes(imagecodecs.ljpeg_encode(GREY))
    for name, body in (("12-bit", twelve), ("lossless", lossless)):
        yield Sample(name=f"jpeg/{name}", media_type="image/jpeg", body=body, refused=422)


def bmp_samples() -> Iterator[Sample]:
    """Yield each kind of BMP once."""
    for mode in ("L", "1", "P", "RGB", "RGBA"):
        picture = Image.fromarray(GREY if mode != "1" else (GREY // 128) * 255).convert(mode)
        buffer = io.BytesIO()
        picture.save(buffer, "BMP")
        yield _bmp(f"pillow-{mode}", buffer.getvalue(), np.asarray(picture.convert("L")))
    yield _bmp("top-down", _bitmap(GREY, 8, top_down=True), _TABLE[GREY])
    for header_bytes in (12, 40, 52, 56, 64, 108, 124):
        yield _bmp(
            f"header-{header_bytes}", _bitmap(GREY, 8, header_bytes=header_bytes), _TABLE[GREY]
        )
    for bits in (1, 4):
        levels = noise(levels=1 << bits)
        yield _bmp(f"{bits}-bit", _bitmap(levels, bits), _TABLE[levels])
    for bits in (24, 32):
        yield _bmp(f"{bits}-bit", _bitmap(GREY, bits), GREY)
    masked = _bitmap(GREY, 32, masks=_BGRA[:3])
    yield _bmp("bitfields-40", masked, GREY)
    yield _bmp("bitfields-108", _bitmap(GREY, 32, header_bytes=108, masks=_BGRA), GREY)
    rle = bytearray(_bitmap(GREY, 8))
    rle[30] = 1
    yield _bmp("rle8", bytes(rle), refused=422)
    sixteen = bytearray(_bitmap(GREY, 32))
    sixteen[28] = 16
    yield _bmp("16-bit", bytes(sixteen), refused=422)


def npy_samples() -> Iterator[Sample]:
    """Yield each kind of npy file once."""
    arrays: dict[str, NDArray[Any]] = {
        "u1": GREY,
        "u2": DEEP,
        "u2-big-endian": DEEP.astype(">u2"),
        "u1-fortran": np.asfortranarray(GREY),
        "u2-fortran-big-endian": np.asfortranarray(DEEP.astype(">u2")),
        "leading-ones": GREY[np.newaxis, np.newaxis],
    }
    for name, array in arrays.items():
        for version in ((1, 0), (2, 0), (3, 0)):
            body = _array_file(array, version)
            grey = array.reshape(GREY.shape, order="A").astype(array.dtype.newbyteorder("="))
            yield _npy(f"{name}-v{version[0]}", body, grey)
    body = _array_file(GREY, (1, 0))
    yield _npy("python-2", body.replace(b"(19, 27), }  ", b"(19L, 27L), }"), GREY)
    refused = {
        "float": GREY.astype(np.float32),
        "int16": GREY.astype(np.int16),
        "colour": np.repeat(GREY[..., np.newaxis], 3, -1),
        "line": GREY.ravel(),
    }
    for name, array in refused.items():
        yield _npy(name, _array_file(array, (1, 0)), refused=422)


def raw_samples() -> Iterator[Sample]:
    """Yield raw pixels of both types; their shape stands in headers, see `RAW_HEADERS`."""
    for name, grey in (("uint8", GREY), ("uint16", DEEP)):
        media_type = "application/octet-stream"
        body = grey.astype(grey.dtype.newbyteorder("<")).tobytes()
        yield Sample(name=f"raw/{name}", media_type=media_type, body=body, grey=grey)


def _jpeg(name: str, picture: Image.Image, *, refused: int = 0, **options: Any) -> Sample:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **({"quality": 90} | options))
    return Sample(
        name=f"jpeg/{name}", media_type="image/jpeg", body=buffer.getvalue(), refused=refused
    )


def _filled(body: bytes) -> bytes:
    """Put fill bytes before the first markers and zeros behind the end, as the standard allows."""
    return body[:2] + b"\xff\xff" + body[2:] + bytes(5)


def _bmp(name: str, body: bytes, grey: Grey | None = None, *, refused: int = 0) -> Sample:
    return Sample(name=f"bmp/{name}", media_type="image/bmp", body=body, grey=grey, refused=refused)


def _bitmap(
    levels: Grey,
    bits: int,
    *,
    top_down: bool = False,
    header_bytes: int = 40,
    masks: tuple[int, ...] = (),
) -> bytes:
    """Lay out a BMP by hand: a palette of falling greys, or equal channels."""
    height, width = levels.shape
    if bits < 8:
        spread = (levels[..., np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(spread.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = np.repeat(levels, bits // 8, axis=1)
        if bits == 32:
            rows[:, 3::4] = 255 if len(masks) == 4 else 0
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    data = (rows if top_down else rows[::-1]).tobytes()
    entries = np.repeat(_TABLE[: 1 << bits, np.newaxis], 3 if header_bytes == 12 else 4, axis=1)
    if header_bytes != 12:
        entries[:, 3] = 0
    palette = entries.tobytes() if bits <= 8 else b""
    compression = 3 if masks else 0
    if header_bytes == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        signed = -height if top_down else height
        info = struct.pack(
            "<IiiHHIIiiII", header_bytes, width, signed, 1, bits, compression, len(data), 2835,
            2835, 0, 0,
        )  # fmt: skip
        behind = struct.pack(f"<{len(masks)}I", *masks)
        info += behind if header_bytes == 40 else behind.ljust(header_bytes - 40, b"\0")
    start = 14 + len(info) + len(palette)
    head = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start)
    return head + info + palette + data


def _npy(name: str, body: bytes, grey: Grey | None = None, *, refused: int = 0) -> Sample:
    return Sample(
        name=f"npy/{name}", media_type="application/x-npy", body=body, grey=grey, refused=refused
    )


def _array_file(array: NDArray[Any], version: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version, allow_pickle=False)
    return buffer.getvalue()
