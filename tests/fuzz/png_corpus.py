"""Valid PNGs of every colour type and depth: by Pillow, by libpng, and put together by hand."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.fuzz.sample import DEEP, GREY, Grey, Sample, noise
from tests.service.images.codec import png_files
from tests.service.images.codec.png_files import GREY_ALPHA, PALETTE, RGB, RGBA, SAMPLES

_DEPTHS = {
    png_files.GREY: (1, 2, 4, 8, 16),
    RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    RGBA: (8, 16),
}
_NAMES = {png_files.GREY: "grey", RGB: "rgb", PALETTE: "palette", GREY_ALPHA: "la", RGBA: "rgba"}
_FILTERS = range(5)


def png_samples() -> Iterator[Sample]:
    """Yield each kind of PNG once."""
    for colour, depths in _DEPTHS.items():
        for depth, adam7 in itertools.product(depths, (False, True)):
            yield _by_hand(colour, depth, adam7=adam7)
    for mode in ("L", "1", "P", "LA", "RGB", "RGBA"):
        # Bilevel without dithering; the others keep every grey.
        picture = Image.fromarray(GREY if mode != "1" else (GREY // 128) * 255).convert(mode)
        yield _sample(f"pillow-{mode}", _by_pillow(picture), np.asarray(picture.convert("L")))
    yield _sample("pillow-16", _by_pillow(Image.fromarray(DEEP)), DEEP)
    yield _sample("libpng-16-rgb", bytes(imagecodecs.png_encode(_repeated(DEEP, 3))), DEEP)
    for kind in _FILTERS:
        yield _sample(f"filter-{kind}", _filtered(kind), GREY)
    yield _sample("many-idat", _many_idat(), GREY)
    yield _sample("texts", _with_texts(), GREY)
    yield _sample("trns-unused", _with_transparency(_absent_level()), GREY)
    yield _sample("trns-used", _with_transparency(int(GREY[3, 3])), refused=422)
    colour = _repeated(GREY, 3)
    colour[5, 6, 0] ^= 1
    yield _sample("colour", bytes(imagecodecs.png_encode(colour)), refused=422)
    yield _sample("animated", bytes(imagecodecs.apng_encode(np.stack([GREY, GREY]))), refused=422)


def _sample(name: str, body: bytes, grey: Grey | None = None, *, refused: int = 0) -> Sample:
    return Sample(name=f"png/{name}", media_type="image/png", body=body, grey=grey, refused=refused)


def _by_hand(colour: int, depth: int, *, adam7: bool) -> Sample:
    """Lay out grey levels in a colour type: equal channels, full opacity, a palette of greys."""
    levels = noise(levels=1 << depth)
    count = SAMPLES[colour]
    samples = _repeated(levels, count).astype(np.int64)
    if colour in {GREY_ALPHA, RGBA}:
        samples[..., -1] = (1 << depth) - 1
    ihdr, idat = png_files.image(samples, depth=depth, colour=colour, adam7=adam7)
    chunks, grey = [ihdr, idat], levels
    if colour == PALETTE:
        table = np.linspace(255, 3, 1 << depth).astype(np.uint8)
        chunks.insert(1, png_files.chunk(b"PLTE", np.repeat(table, 3).tobytes()))
        grey = table[levels]
    elif depth < 8:
        grey = (levels * (255 // ((1 << depth) - 1))).astype(np.uint8)
    name = f"{_NAMES[colour]}-{depth}{'-adam7' if adam7 else ''}"
    return _sample(name, png_files.png(*chunks), grey)


def _repeated(grey: Grey, count: int) -> NDArray[Any]:
    return np.repeat(grey[..., np.newaxis], count, axis=-1)


def _by_pillow(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def _filtered(kind: int) -> bytes:
    """Filter every row in one of the five ways; the fifth predicts by the closest neighbour."""
    height, width = GREY.shape
    padded = np.zeros((height + 1, width + 1), np.int64)
    padded[1:, 1:] = GREY
    left, above, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    estimate = left + above - corner
    distances = np.stack([abs(estimate - other) for other in (left, above, corner)])
    closest = np.choose(distances.argmin(axis=0), [left, above, corner])
    predicted = [np.zeros_like(left), left, above, (left + above) // 2, closest][kind]
    rows = ((GREY - predicted) % 256).astype(np.uint8)
    data = b"".join(bytes([kind]) + row.tobytes() for row in rows)
    return png_files.png(
        png_files.header(height, width), png_files.chunk(b"IDAT", zlib.compress(data))
    )


def _many_idat() -> bytes:
    """Cut the image data into chunks of 37 bytes, one of them empty."""
    height, width = GREY.shape
    packed = zlib.compress(png_files.rows_of(GREY[..., np.newaxis].astype(np.int64), 8))
    parts = [packed[at : at + 37] for at in range(0, len(packed), 37)]
    parts.insert(2, b"")
    chunks = [png_files.chunk(b"IDAT", part) for part in parts]
    return png_files.png(png_files.header(height, width), *chunks)


def _with_texts() -> bytes:
    """Put everything that says nothing of the pixels around them, before and behind."""
    ihdr, idat = png_files.image(GREY[..., np.newaxis].astype(np.int64))
    before = [
        (b"gAMA", struct.pack(">I", 45455)),
        (b"pHYs", struct.pack(">IIB", 3000, 3000, 1)),
        (b"tEXt", b"Software\0a microscope"),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"tilt 0")),
        (b"iTXt", b"Title\0\0\0\0\0die 7"),
        (b"tIME", struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5)),
        (b"prVt", b"whatever"),
    ]
    chunks = [png_files.chunk(kind, data) for kind, data in before]
    return png_files.png(ihdr, *chunks, idat, png_files.chunk(b"tEXt", b"End\0end"))


def _with_transparency(level: int) -> bytes:
    ihdr, idat = png_files.image(GREY[..., np.newaxis].astype(np.int64))
    return png_files.png(ihdr, png_files.chunk(b"tRNS", struct.pack(">H", level)), idat)


def _absent_level() -> int:
    """Return a grey that no pixel has."""
    return int(np.flatnonzero(np.bincount(GREY.ravel(), minlength=256) == 0)[0])
