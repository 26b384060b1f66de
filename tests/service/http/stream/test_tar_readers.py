"""Tar archives that are whole, cut, damaged or joined: scan and batch say the same of each."""

import asyncio
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.ground.errors import ServiceError
from service.http.stream.tar_entries import read_tar
from service.http.stream.upload import Upload
from service.scans.errors import ScanError
from service.scans.local_store import LocalStore
from service.scans.sources import Listed
from service.scans.tar_source import TarSource
from tests.scan_api import Scans
from tests.service.conftest import ServedApp
from tests.service.http.stream.batch_files import npy, problem_of, some_tiles, tar_entries, tar_of

TILES = {f"die{n}/t{n}.npy": npy(tile) for n, tile in enumerate(some_tiles(3))}
WHOLE = tar_of(TILES)
# 512 of header, 704 of npy in two blocks.
MEMBER_BYTES = 1536
END_AT = len(TILES) * MEMBER_BYTES


def listed(folder: Path, content: bytes) -> tuple[list[Listed], str]:
    """What a scan lists of an archive, and what it says is wrong, or nothing."""
    (folder / "lot.tar").write_bytes(content)
    found: list[Listed] = []
    try:
        found.extend(TarSource("lot.tar", LocalStore(folder), "lot.tar").listing())
    except ScanError as error:
        return found, str(error)  # what was listed before it is computed
    return found, ""


def streamed(content: bytes, piece: int = 700) -> tuple[list[str | None], str]:
    """The names of a batch's entries whose bytes came, and what is said to be wrong."""
    chunks = [content[start : start + piece] for start in range(0, len(content), piece)]

    async def receive() -> Mapping[str, Any]:
        body = chunks.pop(0) if chunks else b""
        return {"type": "http.request", "body": body, "more_body": bool(chunks)}

    async def read() -> tuple[list[str | None], str]:
        upload = Upload(receive, idle_timeout_s=5, piece_timeout_s=5)
        names: list[str | None] = []
        try:
            async for entry in read_tar(upload, max_entry_bytes=1 << 20):
                if entry.refusal is None:
                    await entry.load()
                names.append(entry.name)
        except ServiceError as error:
            return names, error.detail
        return names, ""

    return asyncio.run(read())


def test_an_archive_that_is_cut_anywhere_is_never_taken_for_whole(tmp_path: Path) -> None:
    """Within a header, data, padding or before the end mark: what came is kept, and more is said.

    With the first block of the end mark nothing is missing.
    """
    for length in range(0, len(WHOLE), 64):
        items, said = listed(tmp_path, WHOLE[:length])
        names, said_of_batch = streamed(WHOLE[:length])
        whole = min(length // MEMBER_BYTES, len(TILES))
        assert list(TILES)[:whole] == [item.name for item in items][:whole]
        assert list(TILES)[:whole] == names[:whole]
        assert (length < END_AT + 512) == bool(said) == bool(said_of_batch), length


@pytest.mark.parametrize("zeros", [0, 1, 511, 512, 9216, 1 << 20])
def test_any_number_of_zeros_may_follow_the_end_mark(tmp_path: Path, zeros: int) -> None:
    """Writers fill up to a blocking factor of their own."""
    content = WHOLE[: END_AT + 1024] + bytes(zeros)

    assert ([*TILES], "") == streamed(content, 1 << 16)
    assert "" == listed(tmp_path, content)[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WHOLE + WHOLE, "bytes follow the end mark"),
        (WHOLE[: END_AT + 512] + WHOLE, "bytes follow the end mark"),
        (WHOLE + bytes(99) + b"x", f"the first is byte {len(WHOLE) + 99}"),
    ],
    ids=["cat", "cat without the second block", "one byte"],
)
def test_what_follows_the_end_mark_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    """As `cat a.tar b.tar` makes it: the first archive is read, the rest is not lost silently."""
    items, said = listed(tmp_path, content)
    names, said_of_batch = streamed(content)

    assert list(TILES) == [item.name for item in items] == names
    assert words in said
    assert words in said_of_batch


@pytest.mark.parametrize("block", range(len(TILES)))
@pytest.mark.parametrize("damage", ["zeros", "a wrong checksum", "a size beyond the end"])
def test_a_damaged_header_is_an_error_at_its_place(tmp_path: Path, block: int, damage: str) -> None:
    """Whichever header it is, and however it is damaged: those before it are kept."""
    content = bytearray(WHOLE)
    at = block * MEMBER_BYTES
    if damage == "zeros":
        content[at : at + 512] = bytes(512)
    elif damage == "a wrong checksum":
        content[at + 130] ^= 1
    else:
        info = tarfile.TarInfo(f"die{block}/t{block}.npy")
        info.size = 1 << 33
        content[at : at + 512] = info.tobuf(tarfile.GNU_FORMAT)

    items, said = listed(tmp_path, bytes(content))
    names, said_of_batch = streamed(bytes(content))

    assert list(TILES)[:block] == [item.name for item in items][:block] == names[:block]
    assert said
    assert said_of_batch


@pytest.mark.parametrize(
    ("start", "kind"), [(b"\x1f\x8b\x08", "gzip"), (b"BZh9", "bzip2"), (b"PK\x03\x04", "zip")]
)
def test_a_compressed_archive_is_named_as_such(tmp_path: Path, start: bytes, kind: str) -> None:
    """For any name."""
    content = start + b"\x55" * 2000
    words = f"it is {kind}; expected an uncompressed tar"

    assert words in listed(tmp_path, content)[1]
    assert words in streamed(content)[1]


def test_what_macos_writes_beside_files_is_no_tile(tmp_path: Path) -> None:
    """A scan leaves hidden files out as in folders, a batch what begins as macOS's own does."""
    extra = b"\0\x05\x16\x07" + bytes(200)
    files = {"._t.npy": extra, "die0/._t0.npy": extra, "__MACOSX/t.npy": extra, **TILES}
    files |= {".hidden/t.npy": TILES["die0/t0.npy"], "._true.npy": TILES["die1/t1.npy"]}
    content = tar_of(files)

    items, said = listed(tmp_path, content)

    assert (list(TILES), "") == ([item.name for item in items if item.is_tile], said)
    assert ([*TILES, ".hidden/t.npy", "._true.npy"], "") == streamed(content)


def test_links_and_sparse_files_with_a_tiles_name_are_tiles_that_fail(tmp_path: Path) -> None:
    """A lot must not become smaller because its archive knows a file by two names."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind in (("hard.npy", tarfile.LNKTYPE), ("soft.npy", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "t.npy"
            archive.addfile(info)

    items, said = listed(tmp_path, file.getvalue())

    assert ["hard.npy", "soft.npy"] == [item.name for item in items if item.is_tile]
    assert "" == said
    assert all(item.place < 0 for item in items)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    """As `tar -r` appends a file again: only one of them could be the tile."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("a.npy", "b.npy", "a.npy"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())

    with pytest.raises(ScanError, match=r"holds 2 members with the name a\.npy"):
        list_all(tmp_path, file.getvalue())


def list_all(folder: Path, content: bytes) -> list[Listed]:
    """What a scan lists of an archive; raises what that raises."""
    (folder / "lot.tar").write_bytes(content)
    return list(TarSource("lot.tar", LocalStore(folder), "lot.tar").listing())


@pytest.mark.parametrize(
    "make",
    [
        lambda long: tar_of({long: b"x"}, format=tarfile.PAX_FORMAT),
        lambda long: tar_of({long: b"x"}, format=tarfile.GNU_FORMAT),
    ],
    ids=["pax", "GNU"],
)
def test_long_names_are_read_whole(tmp_path: Path, make: Callable[[str], bytes]) -> None:
    """Names beyond 100 bytes, in both ways to write them."""
    long = "wafer/" * 60 + "ü.npy"

    assert [long] == [item.name for item in list_all(tmp_path, make(long))]


def test_a_global_header_that_renames_all_members_is_refused(tmp_path: Path) -> None:
    """It would be wrong to pass it over, and no writer needs it."""
    records = b"15 path=x.npy\n\n"
    info = tarfile.TarInfo("g")
    info.type, info.size = tarfile.XGLTYPE, len(records)
    content = info.tobuf() + records + bytes(512 - len(records)) + WHOLE

    with pytest.raises(ScanError, match="sets path for all members"):
        list_all(tmp_path, content)


def test_a_batch_says_that_an_archive_goes_on(serve: Callable[..., ServedApp]) -> None:
    """The answers are kept, and `batch.problem.json` says what was not read."""
    answer = serve().client.post(
        "/superresolve/batch",
        content=WHOLE + WHOLE,
        headers={"content-type": "application/x-tar", "accept": "application/x-npy"},
    )

    entries = tar_entries(answer.content)
    assert [*TILES, "batch.problem.json"] == list(entries)
    assert "bytes follow the end mark" in problem_of(entries["batch.problem.json"][0])["detail"]


def test_a_job_with_a_damaged_archive_is_incomplete(
    serve: Callable[..., ServedApp], tmp_path: Path
) -> None:
    """What could be read is done; the reason stands where clients look."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "lot.tar").write_bytes(WHOLE[: 2 * MEMBER_BYTES] + WHOLE[3 * MEMBER_BYTES - 512 :])
    app = serve(scan_roots=str(root), scan_state=tmp_path / "state")
    scans = Scans(app.client)

    info = scans.wait(scans.start(root / "lot.tar", root / "out"))

    assert ("incomplete", 2) == (info["state"], info["tiles"]["done"])
    assert f"the tar header at byte {2 * MEMBER_BYTES} cannot be read" in info["detail"]
    assert (24 * 4, 24 * 4) == np.load(root / "out" / "die0" / "t0_x4.npy").shape
