"""One damaged file before both of our readers and a strict decoder, and what must hold then.

1. Nothing but a service error (4xx) or an image comes out of either reader.
2. Both readers give equal grey levels, or both refuse.
3. A picture is the one that the strict decoder finds; what that refuses, we refuse too.
   What we refuse beyond that is our choice, and no fault.
"""

from pathlib import Path

import numpy as np

from service.ground.errors import ServiceError
from service.images.codec import decode
from service.images.window import FULL_RANGE, to_uint8
from tests.fuzz.essentials import essential
from tests.fuzz.sample import HEIGHT, WIDTH, Grey, Sample
from tests.fuzz.strict import MAX_SAMPLES, Refused, TooLarge, Unjudged, strict_grey
from training.data.images import MEDIA_TYPES, ImageFileError, read_images

RAW = "application/octet-stream"
_SUFFIXES = {media_type: suffix for suffix, media_type in MEDIA_TYPES.items()}


def served(sample: Sample, body: bytes) -> Grey | ServiceError:
    """Decode a body as a request does, white high; anything but a service error is raised."""
    shape = (HEIGHT, WIDTH) if sample.media_type == RAW else None
    dtype = sample.name.removeprefix("raw/") if sample.media_type == RAW else None
    try:
        image = decode(body, sample.media_type, shape=shape, dtype=dtype, max_pixels=MAX_SAMPLES)
    except ServiceError as error:
        return error
    return np.invert(image.pixels) if image.white_is_zero else image.pixels


def fault_between_readers(sample: Sample, body: bytes, folder: Path) -> str | None:
    """Return how training's reader and the service's differ on a damaged file, or None.

    Args:
        sample: What was damaged.
        body: The damaged file.
        folder: Where training's reader finds it.
    """
    try:
        found = served(sample, body)
    except Exception as error:  # a crash is the finding
        return f"the service's reader raises {type(error).__name__}: {error}"
    if isinstance(found, ServiceError) and not 400 <= found.status < 500:
        return f"the service's reader answers {found.status}: {found}"
    if sample.media_type == RAW:
        return None  # pixels whose shape stands in headers: no file says what they are
    # Of an npy file training asks its first bytes, as of any whose suffix it does not know.
    path = folder / f"case{_SUFFIXES.get(sample.media_type, '.npy')}"
    path.write_bytes(body)
    try:
        images = read_images(path)
    except ImageFileError as error:
        if isinstance(found, ServiceError):
            return None
        return f"training refuses what the service reads: {error}"
    except Exception as error:  # a crash is the finding
        return f"training's reader raises {type(error).__name__}: {error}"
    if isinstance(found, ServiceError):
        # A folder may hold stacks; one request is one image.
        several = len(images) > 1 or found.code == "image-too-large"
        return None if several else f"training reads what the service refuses: {found}"
    if len(images) != 1 or not np.array_equal(images[0], to_uint8(found, FULL_RANGE)):
        return "training and the service read different greys"
    return None


def fault_before_strict(sample: Sample, body: bytes) -> str | None:
    """Return how the picture that we read differs from a strict decoder's, or None."""
    found = served(sample, body)
    if isinstance(found, ServiceError) or sample.media_type == RAW:
        return None
    try:
        expected = strictly_read(body, sample.media_type)
    except Unjudged:
        return None
    except TooLarge:
        return "the strict decoder finds a larger picture"
    except Refused as refusal:
        return f"we read {found.shape} {found.dtype}; the strict decoder refuses: {refusal}"
    if found.dtype != expected.dtype or not np.array_equal(found, expected):
        return (
            f"we read {found.shape} {found.dtype}, the strict decoder {expected.shape} "
            f"{expected.dtype}, differing in {_differing(found, expected)} pixels"
        )
    return None


def strictly_read(body: bytes, media_type: str) -> Grey:
    """Read a file strictly: as it is, or else without what says nothing of its pixels."""
    try:
        return strict_grey(body, media_type)
    except Refused:
        copy = essential(body, media_type)
        if copy == body:
            raise
        return strict_grey(copy, media_type)


def _differing(found: Grey, expected: Grey) -> int:
    return int((found != expected).sum()) if found.shape == expected.shape else found.size
