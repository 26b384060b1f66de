"""Images of one size, one after another: raw bytes, or an npy stack, read as they arrive."""

import functools
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np

from service.ground.errors import InvalidImage, UnsuitableImage
from service.http.stream.entries import Entry, Loaded, loaded_bytes
from service.http.stream.upload import Upload
from service.images.codec.image import check_size
from service.images.codec.npy import (
    MAX_HEADER_BYTES,
    npy_dtype,
    npy_header,
    read_npy_header,
    stack_layout,
)
from service.images.codec.raw import shapeless
from service.images.codec.sniffing import NPY, RAW, SIGNATURES

_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
# Length of the longest signature that `service.images.codec.sniffing` knows.
_LONGEST_SIGNATURE = 16


async def read_raw(
    upload: Upload, *, shape: tuple[int, int] | None, dtype: str | None, max_pixels: int
) -> AsyncGenerator[Entry]:
    """Yield images of `shape` and `dtype` (uint8 where None) until the upload ends.

    Raises:
        BadRequest: The shape is missing.
        UnsuitableImage, ImageTooLarge: The shape is not a valid size.
        InvalidImage: The upload is empty, or ends within an image.
    """
    if shape is None:
        raise shapeless(memoryview(await upload.read_some(_LONGEST_SIGNATURE)))
    check_size(*shape, max_pixels)
    size = shape[0] * shape[1] * (2 if dtype == "uint16" else 1)

    async def load(index: int) -> Loaded:
        body = await upload.read(size, f"tile {index}")
        return loaded_bytes(body, RAW, shape=shape, dtype=dtype)

    index = 0
    while not await upload.is_at_end():
        yield Entry(None, size, functools.partial(load, index))
        index += 1
    if not index:
        raise InvalidImage("the body is empty; expected tiles of raw pixels")


async def read_npy(upload: Upload, *, max_pixels: int) -> AsyncGenerator[Entry]:
    """Yield the images of one npy array of shape (N, H, W) or (N, 1, H, W).

    Raises:
        InvalidImage: The header cannot be read, or the length is wrong.
        UnsuitableImage: Another dtype or shape, or Fortran order.
        ImageTooLarge: An image has more pixels than allowed.
    """
    what = "the npy header"
    head = await upload.read(8, what)
    if not head.startswith(SIGNATURES[NPY]):
        raise InvalidImage(
            f"Content-Type is {NPY} but the body begins with the bytes {head.hex(' ')}"
        )
    length = await upload.read(_LENGTH_BYTES.get(head[6], 2), what)
    text_size = int.from_bytes(length, "little")
    # A longer one is refused by `read_npy_header`.
    text = await upload.read(text_size, what) if text_size <= MAX_HEADER_BYTES else b""
    descr, fortran, shape, _ = read_npy_header(memoryview(head + length + text))
    count, height, width = stack_layout(shape)
    if fortran:
        raise UnsuitableImage(f"the npy array has shape {shape} in Fortran order; expected C order")
    check_size(height, width, max_pixels)
    image_head = npy_header(descr, (height, width))
    size = height * width * np.dtype(npy_dtype(descr)).itemsize

    async def load(index: int) -> Loaded:
        body = await upload.read(size, f"tile {index} of {count}")
        return replace(loaded_bytes(image_head + body, NPY), content=body)

    for index in range(count):
        yield Entry(None, size, functools.partial(load, index))
    if not await upload.is_at_end():
        raise InvalidImage(f"the npy array {shape} is followed by more bytes than it needs")
