"""Bytes to grey pixels and back, one small file a format; pure functions, safe on hostile input.

`dispatch.decode` and `dispatch.encode` are the way in. `image` holds the shared types; `grey` turns
grey stored as colour into grey; `sniffing` names what a wrong body really is. Imports the metadata
and the errors of the service, no web framework, no engine.
"""

from service.images.codec.dispatch import (
    DECODERS,
    ENCODERS,
    decode,
    decode_images,
    encode,
)
from service.images.codec.image import DecodedImage, Pixels
from service.images.codec.raw import parse_dtype, parse_shape
from service.images.codec.sniffing import media_type_of

__all__ = [
    "DECODERS",
    "ENCODERS",
    "DecodedImage",
    "Pixels",
    "decode",
    "decode_images",
    "encode",
    "media_type_of",
    "parse_dtype",
    "parse_shape",
]
