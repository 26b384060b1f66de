"""NumPy's npy format, in and out, without NumPy's reader.

`numpy.load` can unpickle and evaluates the header as a Python literal; here the header must match
one expression, and the data become a view of the body. Nothing is ever unpickled.
"""

import re
import sys

import numpy as np

from service.codec.image import DecodedImage, DecodeOptions, Pixels, check_size
from service.errors import InvalidImage, UnsuitableImage
from service.metadata import ImageMetadata

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 4096

# Possessive repetitions (*+) never give back what they took: a header of spaces costs linear time.
_ITEM = (
    r"\s*+(?:'descr'\s*+:\s*+'(?P<descr{0}>[^'\\]{{1,64}})'"
    r"|'fortran_order'\s*+:\s*+(?P<fortran{0}>True|False)"
    r"|'shape'\s*+:\s*+\((?P<shape{0}>[0-9, ]{{0,128}})\))\s*+"
)
_HEADER = re.compile(
    r"\{" + ",".join(_ITEM.format(index) for index in range(3)) + r",?\s*+\}\s*", re.ASCII
)
_DTYPES = {"|u1": "u1", "<u1": "u1", ">u1": "u1", "=u1": "u1", "<u2": "<u2", ">u2": ">u2"}
_NATIVE_U2 = "<u2" if sys.byteorder == "little" else ">u2"


def decode_npy(body: memoryview, options: DecodeOptions) -> DecodedImage:
    """Decode an npy array of shape (H, W), or with leading ones, uint8 or uint16.

    A little-endian C-ordered array is returned as a read-only view of the body.

    Raises:
        InvalidImage: The header cannot be read, or the length is wrong.
        UnsuitableImage: Another dtype (floats, objects, complex) or shape.
        ImageTooLarge: More pixels than allowed.
    """
    descr, fortran, shape, offset = _read_header(body)
    height, width = _image_shape(shape)
    check_size(height, width, options.max_pixels)
    dtype = _dtype(descr)
    expected_bytes = height * width * dtype.itemsize
    if len(body) - offset != expected_bytes:
        raise InvalidImage(
            f"the npy array {shape} of {descr} needs {expected_bytes} bytes after its header, got "
            f"{len(body) - offset}"
        )
    flat = np.frombuffer(body, dtype, height * width, offset)
    image = flat.reshape((height, width), order="F" if fortran else "C")
    # No copy for what is already native, aligned and in rows.
    pixels = np.require(image, dtype.newbyteorder("="), ["C", "A"])
    return DecodedImage(pixels, ImageMetadata())


def encode_npy(pixels: Pixels, metadata: ImageMetadata) -> bytes:
    """Encode (H, W) uint8 or uint16 as npy, format 1.0, little-endian; metadata have no place."""
    del metadata
    descr = "|u1" if pixels.dtype.itemsize == 1 else "<u2"
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {pixels.shape}, }}"
    # The data begin at a multiple of 64, as the format asks.
    padding = -(len(header) + 11) % 64
    text = header.encode("ascii") + b" " * padding + b"\n"
    head = _MAGIC + b"\x01\x00" + len(text).to_bytes(2, "little") + text
    rows = np.ascontiguousarray(pixels.astype(descr, copy=False))
    return b"".join((head, rows.data.cast("B")))


def _read_header(body: memoryview) -> tuple[str, bool, tuple[int, ...], int]:
    """Return descr, Fortran order, shape, and where the data begin."""
    version = bytes(body[6:8])
    length_bytes = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(version)
    if length_bytes is None or len(body) < 8 + length_bytes:
        raise InvalidImage(
            f"the npy file has version bytes {version.hex(' ') or 'missing'}; expected 1.0 to 3.0"
        )
    start = 8 + length_bytes
    length = int.from_bytes(body[8:start], "little")
    if length > _MAX_HEADER_BYTES:
        raise InvalidImage(
            f"the npy header claims {length} bytes; expected at most {_MAX_HEADER_BYTES}"
        )
    if start + length > len(body):
        raise InvalidImage(f"the npy file is truncated: it ends at byte {len(body)} in its header")
    text = bytes(body[start : start + length]).decode("latin-1")
    match = _HEADER.fullmatch(text)
    if match is None:
        _refuse_other_descr(text)
        raise InvalidImage(f"the npy header cannot be read: {text[:120]!r}")
    fields = {name.rstrip("012"): value for name, value in match.groupdict().items() if value}
    shape = match["shape0"] or match["shape1"] or match["shape2"] or ""
    if len(fields) != (3 if shape else 2):
        raise InvalidImage(f"the npy header names a key twice: {text[:120]!r}")
    return fields["descr"], fields["fortran"] == "True", _read_shape(shape), start + length


def _refuse_other_descr(text: str) -> None:
    if re.search(r"'descr'\s*:\s*\[", text) is not None:
        raise UnsuitableImage("the npy array has a structured dtype; expected uint8 or uint16")


def _read_shape(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if parts and not parts[-1]:
        parts.pop()
    if not all(part.isdecimal() and len(part) <= 18 for part in parts):
        raise InvalidImage(f"the npy header has the shape ({text}), which cannot be read")
    return tuple(int(part) for part in parts)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2 or any(length != 1 for length in shape[:-2]):
        raise UnsuitableImage(
            f"the npy array has shape {shape}; expected (H, W), or (1, H, W), or (1, 1, H, W)"
        )
    return shape[-2], shape[-1]


def _dtype(descr: str) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    code = _DTYPES.get(descr)
    if code is None:
        raise UnsuitableImage(f"the npy array has dtype {descr!r}; expected uint8 or uint16")
    return np.dtype(code)
