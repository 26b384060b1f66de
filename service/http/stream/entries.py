"""One image of a stream: its bytes, its name and its decoder."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.ground.errors import ServiceError, UnsupportedMediaType
from service.images import codec
from service.images.codec.sniffing import describe_start, media_type_of

# Longer names are answered by number; file systems end at 255 bytes a part, and 4,096 in all.
MAX_NAME_BYTES = 1024


@dataclass(frozen=True)
class Loaded:
    """An image whose bytes are in memory.

    Attributes:
        media_type: Media type of the bytes.
        decode: Function from the maximum number of pixels to the image.
        size_bytes: Number of bytes.
        content: Bytes of the image as they were sent; None if other images share them.
    """

    media_type: str
    decode: Callable[[int], codec.DecodedImage]
    size_bytes: int
    content: bytes | None = None


@dataclass(frozen=True)
class Entry:
    """One image of a stream, before its bytes are read.

    Attributes:
        name: Name that the client gave it; None where the container has no names.
        size_bytes: Bytes that `load` brings into memory.
        load: Function that reads them; called once, before the next entry is requested.
        refusal: Reason not to load it at all, or None.
    """

    name: str | None
    size_bytes: int
    load: Callable[[], Awaitable[Loaded]]
    refusal: ServiceError | None = None


def refused(name: str | None, refusal: ServiceError) -> Entry:
    """Make an entry that cannot be used."""

    async def load() -> Loaded:
        raise refusal

    return Entry(name, 0, load, refusal)


def loaded_file(body: bytes) -> Loaded:
    """Make an image from a file's bytes; its first bytes decide its type, its name does not.

    Raises:
        UnsupportedMediaType: Their type is not read here.
    """
    media_type = media_type_of(body)
    if media_type is not None:
        return loaded_bytes(body, media_type)
    raise UnsupportedMediaType(
        f"the entry {describe_start(body)}; expected a PNG, TIFF, JPEG, BMP or npy file"
        if body
        else "the entry is empty; expected an image file"
    )


def loaded_bytes(
    body: bytes,
    media_type: str,
    *,
    shape: tuple[int, int] | None = None,
    dtype: str | None = None,
) -> Loaded:
    """Make an image out of bytes of a known type."""

    def decode(max_pixels: int) -> codec.DecodedImage:
        return codec.decode(body, media_type, shape=shape, dtype=dtype, max_pixels=max_pixels)

    return Loaded(media_type, decode, len(body), body)


def usable_name(name: str) -> str | None:
    """Return a name that the answer can have; None where a number must replace it."""
    is_usable = name and "\0" not in name
    if not is_usable or len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        return None
    return name
