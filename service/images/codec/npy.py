"""NumPy's npy format, in and out, without NumPy's reader.

`numpy.load` can unpickle and evaluates the header as a Python literal; here the header must match
one expression, and the data become a view of the body. Nothing is ever unpickled.
"""

import re

import numpy as np

from service.ground.errors import InvalidImage, UnsuitableImage
from service.images.codec.image import DecodedImage, DecodeOptions, Pixels, check_size, native_rows
from service.images.codec.sniffing import NPY, SIGNATURES
from service.images.metadata import ImageMetadata

[_MAGIC] = SIGNATURES[NPY]
MAX_HEADER_BYTES = 4096

# One entry of the header's dictionary. Possessive repetitions (*+) never give back what they took,
# so that a header of spaces costs linear time.
_SPACE = " \t\f\r\n"  # what Python's own parser, and with it NumPy's reader, takes for space
_GAP = f"[{_SPACE}]*+"
_ENTRY = re.compile(
    rf"{_GAP}'(descr|fortran_order|shape)'{_GAP}:{_GAP}"
    rf"(?:'([^'\\]{{1,64}})'|(True|False)|\(([0-9L, ]{{0,128}})\)){_GAP}(?:,|(?=\}}))",
    re.ASCII,
)
_KINDS = {"descr": 2, "fortran_order": 3, "shape": 4}  # the group that holds each key's value
_COLOUR_CHANNELS = frozenset({3, 4})
_DTYPES = {"|u1": "u1", "<u1": "u1", ">u1": "u1", "=u1": "u1", "<u2": "<u2", ">u2": ">u2"}


def decode_npy(body: memoryview, options: DecodeOptions) -> DecodedImage:
    """Decode an npy array of shape (H, W), or with leading ones, uint8 or uint16.

    A little-endian C-ordered array is returned as a read-only view of the body.

    Raises:
        InvalidImage: The header cannot be read, or the length is wrong.
        UnsuitableImage: Another dtype (floats, objects, complex) or shape.
        ImageTooLarge: More pixels than allowed.
    """
    descr, fortran, shape, offset = read_npy_header(body)
    height, width = _image_shape(shape)
    check_size(height, width, options.max_pixels)
    dtype = npy_dtype(descr)
    expected_bytes = height * width * dtype.itemsize
    if len(body) - offset != expected_bytes:
        raise InvalidImage(
            f"the npy array {shape} of {descr} needs {expected_bytes} bytes after its header, got "
            f"{len(body) - offset}"
        )
    flat = np.frombuffer(body, dtype, height * width, offset)
    image = flat.reshape((height, width), order="F" if fortran else "C")
    # No copy if it is already native, aligned and in rows.
    return DecodedImage(native_rows(image[: options.max_rows]), ImageMetadata())


def encode_npy(pixels: Pixels, metadata: ImageMetadata) -> bytes:
    """Encode (H, W) uint8 or uint16 as npy, format 1.0, little-endian; metadata are left out."""
    del metadata
    descr = "|u1" if pixels.dtype.itemsize == 1 else "<u2"
    rows = np.ascontiguousarray(pixels.astype(descr, copy=False))
    return b"".join((npy_header(descr, rows.shape), rows.data.cast("B")))


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """Return the bytes before the data of a C-ordered array, format 1.0."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    # The data begin at a multiple of 64, as the format asks.
    padding = -(len(header) + 11) % 64
    text = header.encode("ascii") + b" " * padding + b"\n"
    return _MAGIC + b"\x01\x00" + len(text).to_bytes(2, "little") + text


def read_npy_header(body: memoryview) -> tuple[str, bool, tuple[int, ...], int]:
    """Return descr, Fortran order, shape, and where the data begin; the magic bytes are not read.

    Args:
        body: File, or its first `MAX_HEADER_BYTES` and 12 more.

    Raises:
        InvalidImage: The header cannot be read.
        UnsuitableImage: It describes a structured array.
    """
    version = bytes(body[6:8])
    length_bytes = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(version)
    if length_bytes is None or len(body) < 8 + length_bytes:
        raise InvalidImage(
            f"the npy file has version bytes {version.hex(' ') or 'missing'}; expected 1.0 to 3.0"
        )
    start = 8 + length_bytes
    length = int.from_bytes(body[8:start], "little")
    if length > MAX_HEADER_BYTES:
        raise InvalidImage(
            f"the npy header claims {length} bytes; expected at most {MAX_HEADER_BYTES}"
        )
    if start + length > len(body):
        raise InvalidImage(f"the npy file is truncated: it ends at byte {len(body)} in its header")
    text = bytes(body[start : start + length]).decode("latin-1")
    fields = _read_dictionary(text)
    if fields is None:
        _refuse_other_descr(text)
        raise InvalidImage(f"the npy header cannot be read: {text[:120]!r}")
    shape = _read_shape(fields["shape"])
    return fields["descr"], fields["fortran_order"] == "True", shape, start + length


def _read_dictionary(text: str) -> dict[str, str] | None:
    """Return the three entries of the header as text, or None where it is not such a header."""
    fields: dict[str, str] = {}
    position = 1
    while (match := _ENTRY.match(text, position)) is not None:
        key = match[1]
        if key in fields or match.lastindex != _KINDS[key]:
            return None
        fields[key] = match[_KINDS[key]]
        position = match.end()
    is_whole = text.startswith("{") and text[position:].strip(_SPACE) == "}"
    return fields if is_whole and len(fields) == len(_KINDS) else None


def _refuse_other_descr(text: str) -> None:
    if re.search(r"'descr'\s*:\s*\[", text) is not None:
        raise UnsuitableImage("the npy array has a structured dtype; expected uint8 or uint16")


def _read_shape(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if parts and not parts[-1]:
        parts.pop()
    # Python 2 wrote a long as 60L.
    digits = [part.removesuffix("L") for part in parts]
    if not all(number.isdecimal() and len(number) <= 18 for number in digits):
        raise InvalidImage(f"the npy header has the shape ({text}), which cannot be read")
    return tuple(int(number) for number in digits)


def stack_layout(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return N, H and W of a stack of grey tiles, (N, H, W) or (N, 1, H, W).

    A last axis of 3 or 4 is taken for colour: no tile is 3 or 4 pixels wide, and (H, W, 3) read as
    tiles would be H pictures of one row of pixels each. (N, 1, H, 3) says that it is one.

    Raises:
        UnsuitableImage: Another shape, or colour.
    """
    if len(shape) == 4 and shape[1] == 1:
        return shape[0], shape[2], shape[3]
    if len(shape) in {3, 4} and shape[-1] in _COLOUR_CHANNELS:
        axes = "(H, W, " if len(shape) == 3 else "(N, H, W, "
        raise UnsuitableImage(
            f"the array has shape {shape}, which is colour: {axes}{shape[-1]}); expected grey "
            "tiles (N, H, W). Convert it to grey; tiles that are 3 or 4 pixels wide go as "
            "(N, 1, H, W)"
        )
    if len(shape) != 3:
        raise UnsuitableImage(
            f"the array has shape {shape}; expected a stack of grey tiles (N, H, W) or (N, 1, H, W)"
        )
    return shape[0], shape[1], shape[2]


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2 or any(length != 1 for length in shape[:-2]):
        raise UnsuitableImage(
            f"the npy array has shape {shape}; expected (H, W), or (1, H, W), or (1, 1, H, W)"
        )
    return shape[-2], shape[-1]


def npy_dtype(descr: str) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    """Return the data type that the `descr` of a header names.

    Raises:
        UnsuitableImage: It is neither uint8 nor uint16.
    """
    code = _DTYPES.get(descr)
    if code is None:
        raise UnsuitableImage(f"the npy array has dtype {descr!r}; expected uint8 or uint16")
    return np.dtype(code)
