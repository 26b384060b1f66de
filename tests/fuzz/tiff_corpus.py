"""Valid TIFFs of every layout, read and not read: by tifffile, by libtiff, and by hand."""

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.fuzz.sample import DEEP, GREY, Grey, Sample, noise
from tests.service.images.codec.tiff_files import LONG, SHORT, build, page_tags

_DEFLATE_OLD = 32946
_PACKED = [None, "lzw", "zlib", "packbits", "zstd"]


def tiff_samples() -> Iterator[Sample]:
    """Yield each kind of TIFF once."""
    yield from _compressed()
    yield from _arranged()
    yield from _coloured()
    yield from _of_few_bits()
    yield from _not_read()


def _compressed() -> Iterator[Sample]:
    for order, name in (("<", "ii"), (">", "mm")):
        for compression in _PACKED:
            for grey in (GREY, DEEP):
                bits = 8 * grey.itemsize
                body = _written(grey, byteorder=order, compression=compression, rowsperstrip=5)
                yield _sample(f"{name}-{compression}-{bits}", body, grey)
    for grey in (GREY, DEEP):
        for compression in ("lzw", "zlib", "zstd"):
            body = _written(grey, compression=compression, predictor=True, rowsperstrip=4)
            yield _sample(f"predictor-{compression}-{8 * grey.itemsize}", body, grey)
    body = _written(DEEP, byteorder=">", compression="lzw", predictor=True)
    yield _sample("predictor-lzw-16-mm", body, DEEP)
    yield _sample("deflate-old", _written(GREY, compression=_DEFLATE_OLD), GREY)
    for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd"):
        yield _sample(f"libtiff-{compression}", _by_libtiff(GREY, compression), GREY)
        yield _sample(f"libtiff-{compression}-16", _by_libtiff(DEEP, compression), DEEP)


def _arranged() -> Iterator[Sample]:
    for order in ("<", ">"):
        body = _written(DEEP, byteorder=order, bigtiff=True, compression="zlib", rowsperstrip=7)
        yield _sample(f"big-{'ii' if order == '<' else 'mm'}", body, DEEP)
    for grey in (GREY, DEEP):
        bits = 8 * grey.itemsize
        for compression in (None, "lzw", "zstd"):
            body = _written(grey, tile=(16, 16), compression=compression)
            yield _sample(f"tiles-{compression}-{bits}", body, grey)
        yield _sample(f"one-row-strips-{bits}", _written(grey, rowsperstrip=1), grey)
        body = _written(grey, photometric="miniswhite")
        yield _sample(f"white-is-zero-{bits}", body, np.invert(grey))
        body = _written(grey, photometric="miniswhite", byteorder=">", compression="lzw")
        yield _sample(f"white-is-zero-lzw-mm-{bits}", body, np.invert(grey))
    body = _written(GREY, extratags=[(274, "H", 1, 6, True)])
    yield _sample("orientation-6", body, GREY)
    body = _written(GREY, imagej=True, resolution=(9, 9), metadata={"unit": "um"})
    yield _sample("imagej", body, GREY)
    yield _sample("ome", _written(GREY, ome=True, bigtiff=True), GREY)
    yield _sample("strips-apart", _strips_apart(), GREY)


def _coloured() -> Iterator[Sample]:
    for grey in (GREY, DEEP):
        bits = 8 * grey.itemsize
        colour = np.repeat(grey[..., np.newaxis], 3, -1)
        for compression in (None, "lzw"):
            body = _written(colour, photometric="rgb", compression=compression)
            yield _sample(f"rgb-{compression}-{bits}", body, grey)
        planes = np.moveaxis(colour, -1, 0)
        body = _written(planes, photometric="rgb", planarconfig="separate", compression="zlib")
        yield _sample(f"rgb-planar-{bits}", body, grey)
        full = np.full_like(grey, np.iinfo(grey.dtype).max)[..., np.newaxis]
        body = _written(np.dstack([colour, full]), photometric="rgb", extrasamples=["unassalpha"])
        yield _sample(f"rgba-{bits}", body, grey)
        body = _written(
            np.dstack([grey[..., np.newaxis], full]),
            photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"],
            compression="zlib", predictor=True,
        )  # fmt: skip
        yield _sample(f"la-{bits}", body, grey)
    table = np.linspace(255, 0, 256).astype(np.uint16)
    colour_map = np.repeat((table * 257)[np.newaxis], 3, 0)
    body = _written(GREY, photometric="palette", colormap=colour_map)
    yield _sample("palette", body, table.astype(np.uint8)[GREY])
    clear = np.dstack([GREY, GREY])
    body = _written(
        clear, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )
    yield _sample("transparent", body, refused=422)


def _of_few_bits() -> Iterator[Sample]:
    bilevel = GREY > 100
    for photometric, grey in (("minisblack", bilevel), ("miniswhite", ~bilevel)):
        for compression in (None, "packbits"):
            # One row a strip: tifffile packs a strip as a whole, TIFF wants each row by itself.
            body = _written(
                bilevel, photometric=photometric, compression=compression, rowsperstrip=1
            )
            yield _sample(f"1-{photometric}-{compression}", body, grey.astype(np.uint8) * 255)
    for bits in (2, 4):
        levels = noise(levels=1 << bits)
        rows = _packed(levels, bits)
        tags = page_tags(*levels.shape, bits=bits, strip_bytes=len(rows))
        scaled = (levels * (255 // ((1 << bits) - 1))).astype(np.uint8)
        for order in ("<", ">"):
            name = f"{bits}-{'ii' if order == '<' else 'mm'}"
            yield _sample(name, build(tags, rows, order=order), scaled)
        yield _sample(
            f"{bits}-white-is-zero", build(tags | {262: (SHORT, [0])}, rows), np.invert(scaled)
        )
        table = list(range(0, 65536, 65536 // (1 << bits)))
        palette = tags | {262: (SHORT, [3]), 320: (SHORT, table * 3)}
        grey = (np.array(table) >> 8).astype(np.uint8)[levels]
        yield _sample(f"{bits}-palette", build(palette, rows), grey)


def _not_read() -> Iterator[Sample]:
    """Yield what a request refuses for what it is."""
    stack = np.stack([GREY, GREY[::-1]])
    yield _sample("pages", _written(stack, photometric="minisblack"), refused=422)
    yield _sample("jpeg", _by_libtiff(GREY, "jpeg"), refused=422)
    yield _sample("group4", _by_libtiff(GREY > 100, "group4"), refused=422)
    yield _sample("float", _written(GREY.astype(np.float32)), refused=422)
    yield _sample("int16", _written(GREY.astype(np.int16)), refused=422)
    yield _sample("uint32", _written(GREY.astype(np.uint32)), refused=422)
    deflated = _written(GREY.astype(np.float32), predictor=3, compression="zlib")
    yield _sample("predictor-3", deflated, refused=422)
    tags = page_tags(*GREY.shape, fill_order=2)
    yield _sample("fill-order-2", build(tags, GREY.tobytes()), refused=422)
    colour = np.repeat(GREY[..., np.newaxis], 3, -1)
    colour[3, 4, 1] ^= 128
    yield _sample("colour", _written(colour, photometric="rgb"), refused=422)


def _sample(name: str, body: bytes, grey: Grey | None = None, *, refused: int = 0) -> Sample:
    return Sample(
        name=f"tiff/{name}", media_type="image/tiff", body=body, grey=grey, refused=refused
    )


def _written(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    options = {"metadata": None} | options if "ome" not in options else options
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def _by_libtiff(pixels: NDArray[Any], compression: str) -> bytes:
    """Write with Pillow, which hands compressed files to libtiff."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", compression=compression)
    return buffer.getvalue()


def _packed(levels: NDArray[Any], bits: int) -> bytes:
    """Pack samples of few bits, most significant first, each row to whole bytes."""
    spread = (levels[..., np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.reshape(len(levels), -1).astype(np.uint8), axis=1).tobytes()


def _strips_apart() -> bytes:
    """Lay the strips out backwards with gaps between them, as an editor of files may."""
    height, width = GREY.shape
    strips = [GREY[top : top + 4].tobytes() for top in range(0, height, 4)]
    tags = page_tags(height, width, rows_per_strip=4)
    tags[273] = (LONG, [0] * len(strips))
    tags[279] = (LONG, [len(strip) for strip in strips])
    start = len(build(tags))
    data, offsets = b"", [0] * len(strips)
    for index in reversed(range(len(strips))):
        offsets[index] = start + len(data)
        data += strips[index] + struct.pack("<I", 0xDEADBEEF)
    return build(tags | {273: (LONG, offsets)}, data)
