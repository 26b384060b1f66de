"""Turns bytes into grey pixels and back: pure functions, safe on hostile input, a file per format.

Callers use `dispatch.decode` and `dispatch.encode`. `image` holds the shared types. `grey` turns
grey stored as colour into grey. `sniffing` names the true format of a wrong body. The package
imports the metadata and the errors of the service, but no web framework and no engine.
"""

from service.images.codec.dispatch import (
    DECODERS,
    ENCODERS,
    decode,
    decode_images,
    decode_one,
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
    "decode_one",
    "encode",
    "media_type_of",
    "parse_dtype",
    "parse_shape",
]
