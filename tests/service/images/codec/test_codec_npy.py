"""npy and raw bodies: nothing is unpickled, nothing is guessed."""

import io
import pickle
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.ground.errors import BadRequest, ImageTooLarge, InvalidImage, UnsuitableImage
from service.images.codec import DecodedImage, decode, parse_dtype, parse_shape

NPY, RAW = "application/x-npy", "application/octet-stream"


def saved(array: npt.NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    """Write an array with NumPy."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version)
    return buffer.getvalue()


def with_header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    """Write an npy file with any header."""
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin-1") + data


def read(body: bytes, max_pixels: int = 10**6) -> DecodedImage:
    """Decode an npy file."""
    return decode(body, NPY, shape=None, dtype=None, max_pixels=max_pixels)


def read_raw(
    body: bytes, shape: tuple[int, int] | None = (2, 3), dtype: str | None = None
) -> DecodedImage:
    """Decode raw pixels."""
    return decode(body, RAW, shape=shape, dtype=dtype, max_pixels=10**6)


@settings(deadline=None)
@given(
    pixels=hnp.arrays(
        st.sampled_from(["|u1", "<u2", ">u2"]), st.tuples(st.integers(1, 20), st.integers(1, 20))
    ),
    fortran=st.booleans(),
    leading=st.integers(0, 3),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_arrays_written_by_numpy_are_read(
    pixels: npt.NDArray[Any], fortran: bool, leading: int, version: tuple[int, int]
) -> None:
    """Both byte orders, both memory orders, leading ones, all format versions."""
    array = pixels.reshape((1,) * leading + pixels.shape)
    body = saved(np.asfortranarray(array) if fortran else array, version)

    found = read(body).pixels

    assert found.dtype == (np.uint8 if pixels.itemsize == 1 else np.uint16)
    assert found.flags.c_contiguous
    assert found.dtype.isnative
    np.testing.assert_array_equal(pixels, found)


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 4), np.nan, np.float32),
        np.zeros((4, 4), np.float16),
        np.zeros((4, 4), np.int16),
        np.zeros((4, 4), np.uint32),
        np.zeros((4, 4), np.complex64),
        np.zeros((4, 4), bool),
        np.zeros((4, 4), "S3"),
        np.zeros((4, 4), "M8[s]"),
        np.zeros((4, 4), [("a", "u1"), ("b", "u1")]),
    ],
)
def test_other_dtypes_are_unsuitable(array: npt.NDArray[Any]) -> None:
    """Floats (so NaN), signed, wide, complex, text, time, structured: 422 with the reason."""
    with pytest.raises(UnsuitableImage, match="expected uint8 or uint16") as caught:
        read(saved(array))

    assert caught.value.status == 422


class Bomb:
    """Unpickling this would be seen."""

    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Bomb, "exploded", True))


def test_object_arrays_are_refused_and_never_unpickled() -> None:
    """An object array is a pickle; its code must not run."""
    array = np.empty((2, 2), object)
    array[:] = Bomb()
    body = saved(array)
    with pytest.raises(UnsuitableImage, match=r"dtype '\|O'"):
        read(body)
    with pytest.raises(InvalidImage, match="a Python pickle"):
        read(pickle.dumps(Bomb()))

    assert not Bomb.exploded


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4), (3, 4, 1), (4, 4, 3), (2, 1, 4, 4)])
def test_other_shapes_are_unsuitable(shape: tuple[int, ...]) -> None:
    """Only (H, W) with leading ones is one grey image."""
    with pytest.raises(UnsuitableImage, match=r"expected \(H, W\)"):
        read(saved(np.zeros(shape, np.uint8)))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_empty_arrays_are_unsuitable(shape: tuple[int, int]) -> None:
    """0×0 has nothing to upscale."""
    with pytest.raises(UnsuitableImage, match=f"{shape[0]}×{shape[1]}"):
        read(saved(np.zeros(shape, np.uint8)))


def test_length_must_be_exact() -> None:
    """One byte less or more is a damaged file, and the message counts."""
    body = saved(np.zeros((4, 5), np.uint16))
    for wrong, got in ((body[:-1], 39), (body + b"\0", 41)):
        with pytest.raises(InvalidImage, match=f"needs 40 bytes after its header, got {got}"):
            read(wrong)


def test_claimed_size_is_refused_before_memory_is_taken() -> None:
    """A small file that claims ten thousand million pixels."""
    with pytest.raises(ImageTooLarge, match="10000000000 in all"):
        read(with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000), }"))


GOOD = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), }"


@pytest.mark.parametrize(
    "header",
    [
        "{'shape': (1, 2), 'descr': '|u1', 'fortran_order': False}",
        "{'fortran_order':False,'descr':'<u1','shape':(1,2,)}",
        GOOD + " " * 100 + "\n",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1L, 2L), }",
    ],
)
def test_headers_may_be_written_in_other_ways(header: str) -> None:
    """Order of keys, spaces and a last comma are free; Python 2 wrote longs."""
    assert read(with_header(header, b"\1\2")).pixels.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{}",
        GOOD[:-3],
        GOOD.replace("'descr': '|u1', ", ""),
        GOOD.replace("'shape': (1, 2)", "'descr': '|u1'"),
        GOOD.replace("'fortran_order': False", "'shape': (1, 2)"),
        GOOD.replace("(1, 2)", "(1, -2)"),
        GOOD.replace("(1, 2)", "(1 2)"),
        GOOD.replace("(1, 2)", "(1,, 2)"),
        GOOD.replace("(1, 2)", "(L, 2)"),
        GOOD.replace("(1, 2)", "(1LL, 2)"),
        GOOD.replace("(1, 2)", "(1, " + "9" * 40 + ")"),
        GOOD.replace("False", "__import__('os')"),
        "(" * 4000,
        "-" * 4000,
        GOOD[:-1] + " " * 4000,
        GOOD + "\v\n",
        GOOD + "\xa0\n",
        GOOD + "\x1f\n",
    ],
)
def test_headers_that_are_not_numpys_are_invalid(header: str) -> None:
    """The header is matched, never evaluated."""
    with pytest.raises(InvalidImage, match="npy header"):
        read(with_header(header, b"\1\2"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x93NUMPY", "version bytes missing"),
        (b"\x93NUMPY\x04\0" + bytes(99), "version bytes 04 00"),
        (b"\x93NUMPY\x01\0\xff\x0f", "truncated"),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(99), "claims 4294967295 bytes"),
    ],
)
def test_broken_beginnings_are_invalid(body: bytes, reason: str) -> None:
    """Version and header length are checked first."""
    with pytest.raises(InvalidImage, match=reason):
        read(body)


def test_raw_rows_are_little_endian_uint16_or_uint8() -> None:
    """The same six bytes as 2×3 bytes or 1×3 words."""
    body = bytes([1, 0, 2, 0, 0, 3])

    assert read_raw(body).pixels.tolist() == [[1, 0, 2], [0, 0, 3]]
    assert read_raw(body, (1, 3), "uint16").pixels.tolist() == [[1, 2, 768]]
    assert read_raw(body, (1, 3), "uint16").pixels.dtype == np.uint16


def test_raw_view_at_an_odd_address_is_made_usable() -> None:
    """A body inside a larger buffer may be unaligned; the pixels are not."""
    view = memoryview(b"x" + bytes(range(12)))[1:]

    pixels = decode(view, RAW, shape=(2, 3), dtype="uint16", max_pixels=99).pixels

    assert pixels.flags.aligned
    np.testing.assert_array_equal(np.frombuffer(bytes(range(12)), "<u2").reshape(2, 3), pixels)


@pytest.mark.parametrize(
    ("body", "dtype", "message"),
    [
        (bytes(5), None, "the body is 5 bytes; expected 6 for 2×3 pixels"),
        (bytes(7), "uint8", "the body is 7 bytes; expected 6"),
        (bytes(6), "uint16", "the body is 6 bytes; expected 12"),
        (
            b"\x89PNG\r\n\x1a\n" + bytes(9),
            None,
            "begins like a PNG, which needs its own Content-Type",
        ),
    ],
)
def test_raw_length_that_does_not_fit_says_expected_and_got(
    body: bytes, dtype: str | None, message: str
) -> None:
    """The message has both numbers, and a hint where the body is a file."""
    with pytest.raises(UnsuitableImage) as caught:
        read_raw(body, dtype=dtype)

    assert caught.value.status == 422
    assert message in caught.value.detail


@pytest.mark.parametrize("shape", [(0, 0), (0, 6), (6, 0)])
def test_raw_shape_without_pixels_is_unsuitable(shape: tuple[int, int]) -> None:
    """0×0 is 422, not a crash and not an empty answer."""
    with pytest.raises(UnsuitableImage, match="at least 1×1"):
        read_raw(b"123456", shape)


def test_raw_shape_is_checked_against_the_limit_first() -> None:
    """A huge shape is 413, for any body."""
    with pytest.raises(ImageTooLarge):
        read_raw(b"123456", (10**6, 10**6))


def test_raw_without_shape_or_with_unknown_dtype_is_a_bad_request() -> None:
    """Both are faults of the headers, not of the image."""
    with pytest.raises(BadRequest, match="X-Tile-Shape"):
        read_raw(b"123456", None)
    with pytest.raises(BadRequest, match="'float32'; expected uint8 or uint16"):
        read_raw(b"123456", dtype="float32")


@pytest.mark.parametrize(
    ("header", "expected"), [("240,240", (240, 240)), (" 1 , 2 ", (1, 2)), ("0,0", (0, 0))]
)
def test_shape_header_is_height_then_width(header: str, expected: tuple[int, int]) -> None:
    """Two whole numbers; whether they suit is asked later."""
    assert expected == parse_shape(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "240",
        "240,240,1",
        "240x240",
        "-1,240",
        "240.0,240",
        "a,b",
        "1e9,1",
        "\u0663,1",
        "9" * 99 + ",1",
    ],
)
def test_shape_header_that_cannot_be_read_is_a_bad_request(header: str) -> None:
    """400, with what came and what was expected."""
    with pytest.raises(BadRequest, match="expected height and width in pixels") as caught:
        parse_shape(header)

    assert caught.value.status == 400


def test_dtype_header_is_one_of_two() -> None:
    """Case does not matter, other types do."""
    assert parse_dtype("uint8") == "uint8"
    assert parse_dtype(" UINT16 ") == "uint16"
    with pytest.raises(BadRequest, match="'int8'"):
        parse_dtype("int8")
