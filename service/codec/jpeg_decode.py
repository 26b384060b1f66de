"""JPEG in: a walk over the markers, then libjpeg (through Pillow) on the decoding segments only.

The walk finds size, kind, end and number of scans before anything is decoded; EXIF, ICC and
thumbnails never reach a parser. EXIF orientation is ignored: a SEM has no up, and rotating would
break coordinates. Read: 8-bit baseline, extended and progressive, Huffman coded, grey or YCbCr/RGB
with equal channels.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from service.codec.grey import grey_from_channels
from service.codec.image import DecodedImage, DecodeOptions, check_size
from service.errors import InvalidImage, UnsuitableImage
from service.metadata import ImageMetadata, PixelSize

# A progressive file has about ten scans for grey; each scan walks the whole image, so a file made
# of thousands of empty ones would cost minutes.
_MAX_SCANS = 64
_MAX_SEGMENTS = 4096

_RST0, _EOI, _SOS = 0xD0, 0xD9, 0xDA
_DHT, _DAC, _DNL, _DQT, _DRI, _APP0, _APP14, _COM = 0xC4, 0xCC, 0xDC, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE
_READ_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
_OTHER_FRAMES = {
    0xC3: "lossless", 0xC5: "differential", 0xC6: "differential", 0xC7: "differential",
    0xC9: "arithmetic", 0xCA: "arithmetic", 0xCB: "arithmetic", 0xCD: "differential",
    0xCE: "differential", 0xCF: "differential",
}  # fmt: skip
_KEPT = frozenset({_DHT, _DQT, _DRI, _APP14, *_READ_FRAMES})
# A marker in the header, after any fill bytes; nobody writes more than a few.
_MARKER = re.compile(rb"\xff{1,64}[^\xff]")
# In entropy-coded data FF is followed by 00 (stuffing), D0 to D7 (restart) or FF (fill).
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_PER_M = {1: 1 / 0.0254, 2: 100.0}


@dataclass(frozen=True, slots=True)
class _Frame:
    progressive: bool
    width: int
    height: int

    @property
    def least_bytes(self) -> int:
        """The fewest bytes that can code an image of this size.

        An 8×8 block takes one bit at least in a progressive first scan, and two in a baseline one
        (a code for DC, a code for the end of the block). Colour counts nothing here.
        """
        blocks = -(-self.width // 8) * -(-self.height // 8)
        return blocks * (1 if self.progressive else 2) // 8


def decode_jpeg(body: memoryview, options: DecodeOptions) -> DecodedImage:
    """Decode a JPEG to grey.

    Raises:
        InvalidImage: Truncated, damaged, or not a JPEG this service reads.
        UnsuitableImage: 12-bit, CMYK, coloured, or more than one image.
        ImageTooLarge: More pixels than allowed.
    """
    parts: list[bytes | memoryview] = [b"\xff\xd8"]
    frame: _Frame | None = None
    size: PixelSize | None = None
    for marker, start, end in _segments(body):
        if marker == _SOS:
            if frame is None:
                raise InvalidImage("the JPEG has a scan before its frame header")
            _check_scans(body, start, frame)
            parts.append(body[start:])
            break
        if marker in _READ_FRAMES or marker in _OTHER_FRAMES:
            if frame is not None:
                raise InvalidImage("the JPEG has a second frame header")
            frame = _read_frame(marker, body[start + 4 : end])
            check_size(frame.height, frame.width, options.max_pixels)
        if marker == _APP0:
            size = size or _read_jfif(body[start + 4 : end])
        if marker in _KEPT:
            parts.append(body[start:end])
    # The class itself, not `Image.open`: no plug-in search, no multi-picture parsing, no warnings.
    with JpegImageFile(io.BytesIO(b"".join(parts))) as image:
        image.load()
        samples = np.asarray(image)
    metadata = ImageMetadata() if size is None else ImageMetadata(size, "jfif")
    return DecodedImage(grey_from_channels(samples[: options.max_rows]), metadata)


def _segments(body: memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment up to the first scan's header, or raise."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.match(body, position)
        if match is None or match.end() + 2 > len(body):
            reason = "damaged: no marker" if position + 4 <= len(body) else "truncated: it ends"
            raise InvalidImage(f"the JPEG is {reason} at byte {position}, in its header")
        start = match.end() - 2
        marker = body[start + 1]
        length = int.from_bytes(body[start + 2 : start + 4], "big")
        end = start + 2 + length
        if length < 2 or marker < 0xC0 or _RST0 <= marker <= _EOI:
            raise InvalidImage(f"the JPEG is damaged: marker {marker:02x} at byte {start}")
        if end > len(body):
            raise InvalidImage(
                f"the JPEG is truncated: its segment at byte {start} needs {length} bytes, the "
                f"body ends after {len(body) - start - 2}"
            )
        yield marker, start, end
        position = end
    raise InvalidImage(f"the JPEG has more than {_MAX_SEGMENTS} segments before its image data")


def _read_frame(marker: int, segment: memoryview) -> _Frame:
    if marker in _OTHER_FRAMES:
        raise UnsuitableImage(
            f"the JPEG is {_OTHER_FRAMES[marker]} (SOF{marker - 0xC0}); expected baseline or "
            "progressive with Huffman coding"
        )
    if len(segment) < 6:
        raise InvalidImage("the JPEG is damaged: its frame header is too short")
    bits, count = segment[0], segment[5]
    if bits != 8:
        raise UnsuitableImage(f"the JPEG has {bits} bits a sample; expected 8")
    if count not in {1, 3}:
        raise UnsuitableImage(f"the JPEG has {count} components; expected 1 (grey) or 3")
    if len(segment) != 6 + 3 * count:
        raise InvalidImage("the JPEG is damaged: its frame header has the wrong length")
    return _Frame(
        progressive=_READ_FRAMES[marker] == "progressive",
        width=int.from_bytes(segment[3:5], "big"),
        height=int.from_bytes(segment[1:3], "big"),
    )


def _check_scans(body: memoryview, start: int, frame: _Frame) -> None:
    """Walk the scans to the end of the image; refuse what is cut short or goes on too long."""
    end = _find_end(body, start)
    if end - start < frame.least_bytes:
        raise InvalidImage(
            f"the JPEG has {end - start} bytes of image data, too few for the "
            f"{frame.height}×{frame.width} pixels (height × width) of its header"
        )
    rest = body[end + 2 :].tobytes().strip(b"\0")
    if rest.startswith(b"\xff\xd8"):
        raise UnsuitableImage("the JPEG holds more than one image; expected one")
    if rest:
        raise InvalidImage(f"{len(body) - end - 2} bytes follow the end of the JPEG")


def _find_end(body: memoryview, start: int) -> int:
    """Return where the end marker (EOI) is, from the first scan's header on."""
    position, scans = start, 0
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER_IN_SCAN.search(body, position)
        if match is None:
            raise InvalidImage(f"the JPEG is truncated: it ends at byte {len(body)} without EOI")
        marker, position = body[match.start() + 1], match.start()
        if marker == _EOI:
            return position
        scans += marker == _SOS
        if scans > _MAX_SCANS:
            raise InvalidImage(f"the JPEG has more than {_MAX_SCANS} scans")
        if marker not in {_SOS, _DHT, _DQT, _DRI, _DNL, _COM} and not 0xE0 <= marker <= 0xEF:
            raise InvalidImage(f"the JPEG is damaged: marker {marker:02x} at byte {position}")
        position += 2 + int.from_bytes(body[position + 2 : position + 4], "big")
    raise InvalidImage(f"the JPEG has more than {_MAX_SEGMENTS} segments between its scans")


def _read_jfif(segment: memoryview) -> PixelSize | None:
    """Return the pixel size of a JFIF header, or None where it states none."""
    if len(segment) < 12 or bytes(segment[:5]) != b"JFIF\0":
        return None
    per_m = _PER_M.get(segment[7])
    if per_m is None:
        return None
    return PixelSize.from_density(
        int.from_bytes(segment[8:10], "big") * per_m, int.from_bytes(segment[10:12], "big") * per_m
    )
