"""JPEG that lacks data, or has too much, of which libjpeg only warns: refused, never invented."""

import io
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from service.ground.errors import InvalidImage
from service.images.codec import decode

NOISE = np.random.default_rng(3).integers(0, 256, (160, 56), np.uint8)
EOI = b"\xff\xd9"
RESTART = re.compile(rb"\xff[\xd0-\xd7]")

KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
    "colour": {"mode": "RGB"},
    "progressive colour": {"mode": "RGB", "progressive": True},
}


def written(mode: str = "L", **options: Any) -> bytes:
    """Write the noise as a JPEG with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def read(body: bytes) -> npt.NDArray[np.uint8 | np.uint16]:
    """Decode a JPEG."""
    return decode(body, "image/jpeg", shape=None, dtype=None, max_pixels=10**6).pixels


def scans_of(body: bytes) -> tuple[bytes, list[bytes]]:
    """Return what stands before the first scan, and each scan with the tables before it."""
    starts = [match.start() for match in re.finditer(rb"\xff\xda", body)]
    head = body[: starts[0]]
    # Pillow puts a scan's tables before it, so that a part ends where the next tables begin.
    parts = [
        body[start:end] for start, end in zip(starts, [*starts[1:], len(body) - 2], strict=True)
    ]
    tables = b""
    scans: list[bytes] = []
    for part in parts:
        cut = part.find(b"\xff\xc4")
        own, following = (part, b"") if cut < 0 else (part[:cut], part[cut:])
        scans.append(tables + own)
        tables = following
    return head, scans


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.98])
def test_data_that_ends_early_is_refused_though_an_end_marker_follows(
    kind: str, share: float
) -> None:
    """Cut anywhere and closed with EOI: libjpeg would go on in flat grey."""
    body = written(**KINDS[kind])
    start = body.rindex(b"\xff\xda") + 14
    cut = start + int(share * (len(body) - 2 - start))

    with pytest.raises(InvalidImage):
        read(body[:cut].removesuffix(b"\xff") + EOI)


@pytest.mark.parametrize("kind", ["restarts", "progressive with restarts"])
def test_lost_restart_intervals_are_refused_wherever_and_how_many(kind: str) -> None:
    """Also eight of them, after which the markers count right again."""
    body = written(**KINDS[kind])
    first_scan = body.index(b"\xff\xda")
    second_scan = body.find(b"\xff\xda", first_scan + 2)
    end = second_scan if second_scan > 0 else len(body)
    marks = [match.start() for match in RESTART.finditer(body, first_scan, end)]
    assert len(marks) > 16

    for lost in (1, 2, 3, 7, 8, 9, 16):
        for first in range(0, len(marks) - lost, 3):
            with pytest.raises(InvalidImage):
                read(body[: marks[first]] + body[marks[first + lost] :])


@pytest.mark.parametrize("kind", ["progressive", "progressive colour"])
def test_progressive_file_that_lacks_scans_is_refused(kind: str) -> None:
    """Its first scan alone is a whole picture to libjpeg, of few grey levels."""
    head, scans = scans_of(written(**KINDS[kind]))
    assert len(scans) > 4
    np.testing.assert_array_equal(read(written(**KINDS[kind])), read(head + b"".join(scans) + EOI))

    for count in range(1, len(scans)):
        with pytest.raises(InvalidImage, match="lacks scans"):
            read(head + b"".join(scans[:count]) + EOI)


@pytest.mark.parametrize("kind", ["baseline", "progressive", "progressive colour"])
def test_scan_dropped_doubled_or_moved_is_refused(kind: str) -> None:
    """Each bit of each coefficient comes once, after the bits above it."""
    head, scans = scans_of(written(**KINDS[kind]))
    for index, scan in enumerate(scans):
        dropped = [*scans[:index], *scans[index + 1 :]]
        for changed in (dropped, [*scans[:index], scan, *scans[index:]]):
            with pytest.raises(InvalidImage):
                read(head + b"".join(changed) + EOI)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_between_the_data_and_the_end_are_refused(kind: str) -> None:
    """A block of another file, or of zeros, within the image data."""
    body = written(**KINDS[kind])

    for surplus in (bytes(512), bytes(range(1, 255))):
        with pytest.raises(InvalidImage):
            read(body[:-2] + surplus + EOI)


def test_header_of_a_smaller_image_is_refused() -> None:
    """A height flipped to less leaves data over; libjpeg would crop without a word."""
    body = bytearray(written())
    at = body.index(b"\xff\xc0")
    body[at + 5 : at + 7] = (160 - 32).to_bytes(2, "big")

    with pytest.raises(InvalidImage, match="extraneous bytes"):
        read(bytes(body))


def test_height_stated_again_behind_the_first_scan_passes() -> None:
    """A DNL segment that says what the frame header says is legal."""
    body = written()

    np.testing.assert_array_equal(read(body), read(body[:-2] + b"\xff\xdc\0\x04\0\xa0" + EOI))
