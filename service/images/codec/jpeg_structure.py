"""The structure of a JPEG file: every segment from the first byte to the end marker, checked.

libjpeg paints missing parts grey, or moves up the next ones. It warns about most of that
(`jpeg_decode` makes errors of its warnings), but not about what only the structure shows: scans
that are missing or doubled, Huffman tables that are never defined (it uses the standard's own), a
height that is stated twice. Nothing here touches image data. libjpeg gets neither EXIF, ICC nor
thumbnails.
"""

import re
from dataclasses import dataclass, field

from service.ground.errors import InvalidImage, UnsuitableImage
from service.images.codec.image import check_size
from service.images.metadata import PixelSize

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
_KEPT = frozenset({_DHT, _DQT, _DRI, _APP14, _SOS, *_READ_FRAMES})
# Reserved markers and those of extensions (JPG, DHP, EXP) stop libjpeg.
_IN_HEADER = frozenset(
    {*_READ_FRAMES, *_OTHER_FRAMES, _DHT, _DAC, _SOS, _DQT, _DNL, _DRI, _COM, *range(0xE0, 0xF0)}
)
_BETWEEN_SCANS = frozenset({_SOS, _DHT, _DQT, _DRI, _DNL, _COM, *range(0xE0, 0xF0)})
# A marker after any fill bytes, of which encoders write a few at most.
_MARKER = re.compile(rb"\xff{1,64}[^\xff]")
# In entropy-coded data FF is followed by 00 (stuffing), D0 to D7 (restart) or FF (fill).
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_COEFFICIENTS = 64
_PER_M = {1: 1 / 0.0254, 2: 100.0}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame header.

    Attributes:
        progressive: Whether the coefficients come in several scans.
        width: Columns.
        height: Rows.
        components: Ids of the components; a grey image has 1, a colour image has 3.
    """

    progressive: bool
    width: int
    height: int
    components: bytes

    @property
    def least_bytes(self) -> int:
        """Minimum number of bytes that can encode an image of this size.

        An 8×8 block takes at least one bit in a progressive first scan. In a baseline scan it takes
        at least two: a code for DC, and a code for the end of the block. Colour is not counted.
        """
        blocks = -(-self.width // 8) * -(-self.height // 8)
        return blocks * (1 if self.progressive else 2) // 8


@dataclass(slots=True)
class Structure:
    """The structure of a complete JPEG.

    Attributes:
        frame: Its frame header.
        parts: The segments that decoding needs, in order, from SOI to EOI.
        pixel_size: Pixel size of its JFIF header, or None.
    """

    frame: Frame
    parts: list[bytes | memoryview]
    pixel_size: PixelSize | None


@dataclass(slots=True)
class _Progress:
    """Tables and bits that the scans so far have sent.

    Attributes:
        tables: Huffman tables by class (0 DC, 1 AC) and number.
        bits: Lowest bit sent of each of the 64 coefficients, by component; -1 for none.
        scans: Scans so far.
    """

    tables: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    bits: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    scans: int = 0


def read_structure(body: memoryview, max_pixels: int) -> Structure:
    """Walk a JPEG from its first segment to its end.

    Raises:
        InvalidImage: It is truncated or damaged, lacks scans or tables, or is followed by bytes.
        UnsuitableImage: A kind of JPEG that is not read, or more than one image.
        ImageTooLarge: More pixels than allowed.
    """
    parts: list[bytes | memoryview] = [b"\xff\xd8"]
    frame: Frame | None = None
    size: PixelSize | None = None
    progress = _Progress()
    position, first_scan = 2, 0
    for _ in range(_MAX_SEGMENTS):
        marker, start = _next_marker(body, position, in_scan=bool(first_scan))
        if marker == _EOI and frame is not None and first_scan:
            parts.append(body[position : start + 2])
            _check_end(body, first_scan, start, frame)
            _check_complete(frame, progress)
            return Structure(frame, parts, size)
        if first_scan:
            parts.append(body[position:start])  # the image data of the scan before
        position = _segment_end(body, marker, start, between_scans=bool(first_scan))
        segment = body[start + 4 : position]
        if marker in _READ_FRAMES or marker in _OTHER_FRAMES:
            if frame is not None:
                raise InvalidImage("the JPEG has a second frame header")
            frame = _read_frame(marker, segment)
            check_size(frame.height, frame.width, max_pixels)
        elif marker == _APP0:
            size = size or _read_jfif(segment)
        elif marker == _DHT:
            progress.tables |= _read_tables(segment)
        elif marker == _DNL:
            _check_lines(segment, frame)
        elif marker == _SOS:
            if frame is None:
                raise InvalidImage("the JPEG has a scan before its frame header")
            first_scan = first_scan or start
            _read_scan(segment, frame, progress)
        if marker in _KEPT:
            parts.append(body[start:position])
    where = "between its scans" if first_scan else "before its image data"
    raise InvalidImage(f"the JPEG has more than {_MAX_SEGMENTS} segments {where}")


def _next_marker(body: memoryview, position: int, *, in_scan: bool) -> tuple[int, int]:
    """Return the next marker, and the position of its last FF."""
    if in_scan:
        match = _MARKER_IN_SCAN.search(body, position)
        if match is None:
            raise InvalidImage(f"the JPEG is truncated: it ends at byte {len(body)} without EOI")
    else:
        match = _MARKER.match(body, position)
        if match is None or match.end() + 2 > len(body):
            reason = "damaged: no marker" if position + 4 <= len(body) else "truncated: it ends"
            raise InvalidImage(f"the JPEG is {reason} at byte {position}, in its header")
    return body[match.end() - 1], match.end() - 2


def _segment_end(body: memoryview, marker: int, start: int, *, between_scans: bool) -> int:
    """Return the end of the segment of a marker."""
    allowed = marker in (_BETWEEN_SCANS if between_scans else _IN_HEADER)
    length = int.from_bytes(body[start + 2 : start + 4], "big")
    if not allowed or length < 2:
        raise InvalidImage(f"the JPEG is damaged: marker {marker:02x} at byte {start}")
    end = start + 2 + length
    if end > len(body):
        raise InvalidImage(
            f"the JPEG is truncated: its segment at byte {start} needs {length} bytes, the "
            f"body ends after {len(body) - start - 2}"
        )
    return end


def _read_frame(marker: int, segment: memoryview) -> Frame:
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
    return Frame(
        progressive=_READ_FRAMES[marker] == "progressive",
        width=int.from_bytes(segment[3:5], "big"),
        height=int.from_bytes(segment[1:3], "big"),
        components=bytes(segment[6::3]),
    )


def _read_tables(segment: memoryview) -> set[tuple[int, int]]:
    """Return class and number of the Huffman tables that a DHT segment defines."""
    tables: set[tuple[int, int]] = set()
    position = 0
    while position + 17 <= len(segment):
        tables.add(divmod(segment[position], 16))
        position += 17 + sum(segment[position + 1 : position + 17])
    if position != len(segment):
        raise InvalidImage("the JPEG is damaged: a segment of Huffman tables has the wrong length")
    return tables


def _check_lines(segment: memoryview, frame: Frame | None) -> None:
    """Refuse a DNL segment that does not repeat the frame's height; libjpeg ignores it."""
    lines = int.from_bytes(segment, "big")
    if frame is None or lines != frame.height:
        height = 0 if frame is None else frame.height
        raise InvalidImage(
            f"the JPEG states {height} rows in its frame header and {lines} in a DNL segment"
        )


def _read_scan(segment: memoryview, frame: Frame, progress: _Progress) -> None:
    """Record the bits that a scan sends; reject one that repeats or skips bits or lacks tables."""
    progress.scans += 1
    if progress.scans > _MAX_SCANS:
        raise InvalidImage(f"the JPEG has more than {_MAX_SCANS} scans")
    count = segment[0] if len(segment) else 0
    if not count or len(segment) != 4 + 2 * count:
        raise InvalidImage("the JPEG is damaged: the header of a scan has the wrong length")
    first, last, approximation = segment[1 + 2 * count :]
    high, low = divmod(approximation, 16)
    if not frame.progressive:
        first, last, high, low = 0, _COEFFICIENTS - 1, 0, 0  # libjpeg warns of anything else
    if first > last or last >= _COEFFICIENTS:
        raise InvalidImage(
            f"the JPEG is damaged: a scan of the coefficients {first} to {last}; expected 0 to 63"
        )
    for at in range(1, 1 + 2 * count, 2):
        component, tables = segment[at], divmod(segment[at + 1], 16)
        needed = {(0, tables[0])} if first == 0 and high == 0 else set[tuple[int, int]]()
        needed |= {(1, tables[1])} if last > 0 else set[tuple[int, int]]()
        if not needed <= progress.tables:
            raise InvalidImage("the JPEG has a scan whose Huffman table is not defined before it")
        if component not in frame.components:
            raise InvalidImage(f"the JPEG has a scan of component {component}, which it lacks")
        bits = progress.bits.setdefault(component, [-1] * _COEFFICIENTS)
        expected = high if high else -1
        if any(bit != expected for bit in bits[first : last + 1]) or (high and low != high - 1):
            raise InvalidImage(
                f"the JPEG's scans do not follow one another: scan {progress.scans} repeats or "
                f"skips bits of component {component}"
            )
        bits[first : last + 1] = [low] * (last + 1 - first)


def _check_complete(frame: Frame, progress: _Progress) -> None:
    """Refuse a file whose scans do not send every bit of every coefficient."""
    for component in frame.components:
        bits = progress.bits.get(component, [-1] * _COEFFICIENTS)
        missing = sum(bit != 0 for bit in bits)
        if missing:
            raise InvalidImage(
                f"the JPEG lacks scans: after {progress.scans} of them {missing} of the 64 "
                f"coefficients of component {component} are not complete"
            )


def _check_end(body: memoryview, first_scan: int, end: int, frame: Frame) -> None:
    """Refuse too little image data, and anything but zeros after the end."""
    if end - first_scan < frame.least_bytes:
        raise InvalidImage(
            f"the JPEG has {end - first_scan} bytes of image data, too few for the "
            f"{frame.height}×{frame.width} pixels (height × width) of its header"
        )
    rest = body[end + 2 :].tobytes().strip(b"\0")
    if rest.startswith(b"\xff\xd8"):
        raise UnsuitableImage("the JPEG holds more than one image; expected one")
    if rest:
        raise InvalidImage(f"{len(body) - end - 2} bytes follow the end of the JPEG")


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
