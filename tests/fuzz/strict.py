"""Decoders of others, with their warnings as errors: what a file holds, or that it holds nothing.

PNG by libpng (imagecodecs), JPEG by libjpeg-turbo (simplejpeg for its warnings, Pillow for the
pixels), TIFF by libtiff (imagecodecs) and by tifffile, which must agree, BMP by Pillow, npy by
NumPy. What a sample means as grey is worked out here once more, in few lines and without our codec.
"""

import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.fuzz.sample import Grey

MAX_SAMPLES = 4_000_000
"""Samples of the largest picture that is looked at: a damaged header may claim any number."""

# Said of what is left to libtiff (see `_tiff`).
_OF_THE_CALLER = ("missing data ByteCounts tag",)
_SURPLUS = ("Destination buffer is too small", "INSUFFICIENT_SPACE", "OUTPUT_TOO_SMALL")
_WRONG_PIECES = "Not enough data for scanline"


_one_at_a_time = threading.Lock()


class Refused(Exception):  # noqa: N818 -- an outcome, not a fault
    """The strict decoder does not take the file, or finds no grey picture in it."""


class TooLarge(Exception):  # noqa: N818 -- an outcome, not a fault
    """The header claims more than `MAX_SAMPLES`; nobody was asked."""


class _Warnings(logging.Handler):
    """Keeps what libraries only log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not any(phrase in text for phrase in _OF_THE_CALLER):
            self.texts.append(text)


def strict_grey(body: bytes, media_type: str) -> Grey:
    """Read a file as its strict decoder does.

    Returns:
        (H, W) uint8 or uint16, white high.

    Raises:
        Refused: It errs or warns, or the picture has colour, transparency or another depth.
        TooLarge: The picture would be very large.
    """
    try:
        # Warnings and loggers are the process's: one file at a time.
        with _one_at_a_time, warnings.catch_warnings(), _warnings_refuse():
            warnings.simplefilter("error")
            return _READERS[media_type](body)
    except (Refused, TooLarge):
        raise
    except Exception as error:  # whatever the libraries raise is a refusal
        raise Refused(f"{type(error).__name__}: {error}") from error


@contextmanager
def _warnings_refuse() -> Iterator[None]:
    handler = _Warnings()
    loggers = [logging.getLogger(name) for name in ("imagecodecs", "tifffile")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
    if handler.texts:
        raise Refused("; ".join(handler.texts))


def _png(body: bytes) -> Grey:
    _check_samples(int.from_bytes(body[16:20], "big") * int.from_bytes(body[20:24], "big"))
    return _grey(imagecodecs.png_decode(body))


def _jpeg(body: bytes) -> Grey:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(body, strict=True)
    _check_samples(int(height) * int(width))
    if colours not in {"Gray", "YCbCr", "RGB"}:
        raise Refused(f"the colours are {colours}")
    simplejpeg.decode_jpeg(body, "GRAY" if colours == "Gray" else "RGB", strict=True)
    with Image.open(io.BytesIO(body), formats=["JPEG"]) as picture:
        return _grey(np.asarray(picture))


def _tiff(body: bytes) -> Grey:
    with tifffile.TiffFile(io.BytesIO(body)) as file:
        if len(file.pages) != 1:
            raise Refused(f"{len(file.pages)} pages")
        page = file.pages.first
        _check_samples(int(np.prod(page.shape, dtype=np.float64)))
        _check_samples(int(np.prod([page.tilewidth, page.tilelength], dtype=np.float64)))
        if not {279, 325} & {tag.code for tag in page.tags.values()}:
            # tifffile takes an absent byte count for 0; libtiff reckons it from the size.
            return _grey_of_page(page, imagecodecs.tiff_decode(body))
        try:
            samples = page.asarray()
        except (ValueError, RuntimeError) as error:
            # Of strips that hold a row or so too much, which libtiff leaves alone.
            if not any(phrase in str(error) for phrase in _SURPLUS):
                raise
            return _grey_of_page(page, imagecodecs.tiff_decode(body))
        try:
            by_libtiff = imagecodecs.tiff_decode(body)
        except imagecodecs.TiffError as error:
            # Of uncompressed strips whose byte counts are rounded up, which imagecodecs then asks
            # for in wrong pieces; tifffile reads them.
            if _WRONG_PIECES not in str(error):
                raise
            by_libtiff = samples
        if samples.shape != by_libtiff.shape or not np.array_equal(samples, by_libtiff):
            raise Refused("tifffile and libtiff read different samples")
        return _grey_of_page(page, samples)


def _grey_of_page(page: tifffile.TiffPage, samples: NDArray[Any]) -> Grey:
    """Work out what the samples of a page mean."""
    if samples.dtype not in (np.bool_, np.uint8, np.uint16) or page.bitspersample not in (
        1, 2, 4, 8, 16,
    ):  # fmt: skip
        raise Refused(f"samples of type {samples.dtype} and {page.bitspersample} bits")
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        samples = np.moveaxis(samples, 0, -1)
    highest = (1 << page.bitspersample) - 1
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        table = np.asarray(page.colormap)
        shift = 8 if int(table.max()) > 255 else 0
        return _grey((table >> shift).astype(np.uint8).T[samples.astype(np.intp)])
    if page.photometric not in {0, 1, 2}:
        raise Refused(f"photometric interpretation {page.photometric}")
    if page.extrasamples and page.extrasamples[0] not in {1, 2}:
        # A channel without a meaning: nothing of it is lost where it is constant.
        if (samples[..., -1] != samples.reshape(-1, samples.shape[-1])[0, -1]).any():
            raise Refused("an extra channel holds something")
        samples = samples[..., :-1]
    grey = _grey(samples)
    if page.bitspersample < 8:
        grey = (grey.astype(np.uint8) * (255 // highest)).astype(np.uint8)
    return np.invert(grey) if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else grey


def _bmp(body: bytes) -> Grey:
    with Image.open(io.BytesIO(body), formats=["BMP"]) as picture:
        _check_samples(picture.width * picture.height)
        picture.load()
        mode = {"1": "L", "P": "RGB", "L": "L"}.get(picture.mode, picture.mode)
        return _grey(np.asarray(picture.convert(mode)))


def _npy(body: bytes) -> Grey:
    file = io.BytesIO(body)
    # NumPy reads the long integers of Python 2 and says that it took time.
    warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional header")
    array = np.lib.format.read_array(file, allow_pickle=False)
    if file.read():
        raise Refused("bytes follow the array")
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise Refused(f"an array of {array.dtype}")
    if array.ndim < 2 or array.shape[:-2] != (1,) * (array.ndim - 2):
        raise Refused(f"an array of shape {array.shape}")
    return _grey(array.reshape(array.shape[-2:]).astype(array.dtype.newbyteorder("=")))


def _grey(samples: NDArray[Any]) -> Grey:
    """Return the one grey of samples whose colours agree and whose opacity is full."""
    _check_samples(samples.size)
    if not samples.size:
        raise Refused("no pixels")
    if samples.ndim == 2:
        return samples
    channels = samples.shape[-1]
    if channels in {2, 4} and (samples[..., -1] != np.iinfo(samples.dtype).max).any():
        raise Refused("transparent")
    colours = samples[..., : 1 if channels == 2 else 3]
    if (colours != colours[..., :1]).any():
        raise Refused("coloured")
    return np.ascontiguousarray(colours[..., 0])


def _check_samples(count: int) -> None:
    if count > MAX_SAMPLES:
        raise TooLarge(f"{count} samples")


_READERS: dict[str, Callable[[bytes], Grey]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/tiff": _tiff,
    "image/bmp": _bmp,
    "application/x-npy": _npy,
}
