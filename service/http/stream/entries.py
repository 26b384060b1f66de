"""One image of a stream: where it comes from, what it is called, how it is decoded."""

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
        media_type: Of the bytes.
        decode: Given the most pixels that may be, gives the image.
        size_bytes: How many bytes.
    """

    media_type: str
    decode: Callable[[int], codec.DecodedImage]
    size_bytes: int


@dataclass(frozen=True)
class Entry:
    """One image of a stream, before its bytes are read.

    Attributes:
        name: As the client calls it; None where the container has no names.
        size_bytes: Bytes that `load` brings into memory.
        load: Reads them; called once, and before the next entry is asked for.
        refusal: Why it is not loaded at all, or None.
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
    """Make an image out of a file's bytes, whatever its name says: its first bytes tell its type.

    Raises:
        UnsupportedMediaType: They are those of no type that is read here.
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

    return Loaded(media_type, decode, len(body))


def usable_name(name: str) -> str | None:
    """Return a name that can be answered under; None where it must be replaced by a number."""
    is_usable = name and "\0" not in name
    if not is_usable or len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        return None
    return name
