"""Zip archives whose directory, headers and bytes differ: nothing is lost or made up silently."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.service.conftest import ServedApp
from tests.service.http.stream.batch_files import npy, problem_of, some_tiles, tar_entries, zip_of

TILES = {f"t{n}.npy": npy(tile) for n, tile in enumerate(some_tiles(3))}
WHOLE = zip_of(TILES)
PLAIN = zip_of(TILES, zipfile.ZIP_STORED)


@pytest.fixture
def post(serve: Callable[..., ServedApp]) -> Callable[[bytes], Any]:
    """Send a zip archive."""
    app = serve()
    headers = {"content-type": "application/zip", "accept": "application/x-npy"}
    return lambda content: app.client.post("/superresolve/batch", content=content, headers=headers)


def commented(comment: bytes) -> bytes:
    """The whole archive with a comment."""
    return WHOLE[:-2] + len(comment).to_bytes(2, "little") + comment


@pytest.mark.parametrize(
    "comment",
    [b"lot 7", b"an end PK\x05\x06 in the comment", b"PK\x05\x06" + bytes(30), b"x" * 65_535],
)
def test_a_comment_may_hold_anything(post: Callable[[bytes], Any], comment: bytes) -> None:
    """Also the mark of an archive's end."""
    answer = post(commented(comment))

    assert (200, list(TILES)) == (answer.status_code, list(tar_entries(answer.content)))


@pytest.mark.parametrize("zeros", [1, 9_000, 200_000])
def test_zeros_may_follow_an_archive(post: Callable[[bytes], Any], zeros: int) -> None:
    """As bsdtar fills its output into a pipe to whole blocks."""
    assert list(TILES) == list(tar_entries(post(WHOLE + bytes(zeros)).content))


def unlisted() -> bytes:
    """An archive whose directory lacks its second entry."""
    content = bytearray(PLAIN)
    starts = [at for at in range(len(content)) if content[at : at + 4] == b"PK\x01\x02"]
    del content[starts[1] : starts[2]]
    end = content.rindex(b"PK\x05\x06")
    size = starts[2] - starts[1]
    struct.pack_into("<2HL", content, end + 8, 2, 2, end - starts[0])
    assert size > 0
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WHOLE + b"more", "4 bytes follow the end of the zip archive"),
        (WHOLE + bytes(9) + b"x", "10 bytes follow the end of the zip archive"),
        (WHOLE + WHOLE, f"{len(WHOLE)} bytes come before the zip archive"),
        (b"stub" + WHOLE, "4 bytes come before the zip archive"),
        (commented(WHOLE[-22:]), "two ends"),
        (unlisted(), "that its directory does not list"),
        (WHOLE[:-22] + struct.pack("<4s4H2LH", b"PK\x05\x06", 1, 0, 3, 3, 0, 0, 0), "one part of"),
        (WHOLE[:-14] + b"\x09\0\x09\0" + WHOLE[-10:], "lists 3 entries and counts 9"),
        *((WHOLE[:-cut], "no end record") for cut in (1, 21, 22, 60, len(WHOLE) - 10)),
    ],
)  # fmt: skip
def test_an_archive_that_is_not_whole_is_refused(
    post: Callable[[bytes], Any], content: bytes, words: str
) -> None:
    """Cut, joined, or with an entry that the directory does not know."""
    answer = post(content)

    assert 400 == answer.status_code
    assert words in answer.json()["detail"]


def with_bytes(at: int, new: bytes) -> bytes:
    """The stored archive with other bytes at a place."""
    return PLAIN[:at] + new + PLAIN[at + len(new) :]


def deflated(packed: bytes, size: int, crc: int) -> bytes:
    """An archive of one entry with such deflated data."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("t0.npy", packed)
    content = bytearray(file.getvalue())
    for mark, method, fields in ((b"PK\x03\x04", 8, 14), (b"PK\x01\x02", 10, 16)):
        at = content.index(mark)
        struct.pack_into("<H", content, at + method, 8)
        struct.pack_into("<3L", content, at + fields, crc, len(packed), size)
    return bytes(content)


def packed(data: bytes) -> bytes:
    """Data as raw deflate."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


TILE = TILES["t0.npy"]
CRC = zlib.crc32(TILE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_bytes(200, b"\xff\xfe\xfd"), "CRC"),
        (with_bytes(30, b"u"), "its header has the name 'u0.npy', the directory 't0.npy'"),
        (with_bytes(18, b"\x09"), "packed size"),
        (with_bytes(8, b"\x08"), "compression"),
        (with_bytes(0, b"PX"), "its header is missing"),
        (deflated(packed(TILE)[:-9], len(TILE), CRC), "end early"),
        (deflated(packed(TILE) + b"tail", len(TILE), CRC), "continue after their end"),
        (deflated(packed(TILE + bytes(9)), len(TILE), CRC), "end early, or continue"),
        (deflated(packed(TILE[:-9]), len(TILE), zlib.crc32(TILE[:-9])), "do not give the 704"),
    ],
)
def test_a_damaged_entry_costs_its_own_answer_only(
    post: Callable[[bytes], Any], content: bytes, words: str
) -> None:
    """The others are answered."""
    entries = tar_entries(post(content).content)

    name = next(iter(entries))
    assert name.endswith(".problem.json")
    assert words in problem_of(entries[name][0])["detail"]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(archive.infolist()) == len(entries)
    assert not any(other.endswith(".problem.json") for other in list(entries)[1:])


def test_two_entries_of_one_name_are_both_read(post: Callable[[bytes], Any]) -> None:
    """Each by its own header: the directory has two."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("t.npy", TILES["t0.npy"])
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("t.npy", TILES["t1.npy"])

    answer = post(file.getvalue())

    with tarfile.open(fileobj=io.BytesIO(answer.content)) as found:
        streams = [found.extractfile(member) for member in found]
        tiles = [np.load(io.BytesIO(stream.read())) for stream in streams if stream is not None]
    assert 2 == len(tiles)
    for tile, expected in zip(tiles, some_tiles(2), strict=True):
        np.testing.assert_array_equal(expected.repeat(4, axis=0).repeat(4, axis=1), tile)


def test_what_macos_writes_beside_files_is_passed_over(post: Callable[[bytes], Any]) -> None:
    """`__MACOSX/` whole; `._NAME` where it begins as macOS's own does."""
    extra = b"\0\x05\x16\x07" + bytes(200)
    files = {"__MACOSX/._t0.npy": extra, "._t0.npy": extra, "._own.npy": TILES["t1.npy"]}

    answer = post(zip_of({**files, **TILES}))

    assert ["._own.npy", *TILES] == list(tar_entries(answer.content))
