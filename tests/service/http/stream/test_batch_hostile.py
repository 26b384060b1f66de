"""Batch requests that lie, break off, or want to be too much."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.service.conftest import ServedApp
from tests.service.http.stream.batch_files import (
    npy,
    png,
    problem_of,
    some_tiles,
    tar_entries,
    tar_of,
    zip_of,
)
from tests.service.http.stream.test_batch_formats import RAW, TAR, post
from tests.service.images.codec.tiff_files import build, page_tags

ZIP = {"content-type": "application/zip"}
STREAM_PROBLEM = "batch.problem.json"


def last_problem(answer: bytes) -> dict[str, object]:
    """The problem that ends an answer."""
    entries = tar_entries(answer)
    assert STREAM_PROBLEM == list(entries)[-1]
    problem = problem_of(entries[STREAM_PROBLEM][0])
    assert "batch" == problem["scope"]
    return problem


@pytest.mark.parametrize(
    ("content", "headers", "words"),
    [
        (some_tiles(3).tobytes()[:-1], RAW, "1 bytes before the end of tile 2"),
        (
            npy(some_tiles(3))[:-100],
            {"content-type": "application/x-npy"},
            "100 bytes before the end of tile 2 of 3",
        ),
        (
            npy(some_tiles(2)) + b"x",
            {"content-type": "application/x-npy"},
            "followed by more bytes",
        ),
        (
            tar_of({f"{n}.npy": npy(tile) for n, tile in enumerate(some_tiles(3))})[: 3 * 1024 + 9],
            TAR,
            "503 bytes before the end of the tar header at byte 3072",
        ),
        (
            tar_of({f"{n}.npy": npy(tile) for n, tile in enumerate(some_tiles(2))})[: 2 * 1536],
            TAR,
            "without its end mark",
        ),
        (
            tar_of({f"{n}.npy": npy(tile) for n, tile in enumerate(some_tiles(2))})[: 2 * 1536]
            + b"j" * 1024,
            TAR,
            "tar header at byte 3072 cannot be read",
        ),
    ],
)
def test_an_upload_that_breaks_off_ends_the_answer_well(
    serve: Callable[..., ServedApp], content: bytes, headers: dict[str, str], words: str
) -> None:
    """What came whole is answered, then the problem says how far it got; the archive is whole."""
    app = serve()

    answer = post(app, content, headers)

    assert 200 == answer.status_code
    problem = last_problem(answer.content)
    assert (400, 2, 0) == (problem["status"], problem["tiles_done"], problem["tiles_failed"])
    assert words in str(problem["detail"])
    assert 3 == len(tar_entries(answer.content))
    assert 1 == app.metric("semsr_batch_requests_ended_total", reason="invalid_image")
    assert 0 == app.metric("semsr_admitted_tiles")


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **fields: str) -> bytes:
    """One GNU header."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    """Content and what fills its last block."""
    return content + bytes(-len(content) % 512)


GOOD = header("good.npy", 704) + padded(npy(some_tiles(1)[0]))
END = bytes(1024)


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header."""
    return header("pax", len(records), kind) + padded(records)


def test_what_is_no_file_is_refused_and_the_rest_is_read(serve: Callable[..., ServedApp]) -> None:
    """Links, devices, pipes, sparse files; directories are skipped silently."""
    sparse = bytearray(header("sparse.npy", 512, tarfile.GNUTYPE_SPARSE))
    sparse[482] = 1  # one more block of its map follows
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    content = b"".join(
        [
            header("folder/", kind=tarfile.DIRTYPE),
            header("soft", kind=tarfile.SYMTYPE, linkname="/etc/passwd"),
            header("hard", kind=tarfile.LNKTYPE, linkname="good.npy"),
            header("character", kind=tarfile.CHRTYPE),
            header("block", kind=tarfile.BLKTYPE),
            header("pipe", kind=tarfile.FIFOTYPE),
            bytes(sparse) + bytes(512) + bytes(512),
            pax(b"28 GNU.sparse.name=hole.npy\n") + header("GNUSparse.0/x", 512) + bytes(512),
            header("strange.npy", 512, b"Q") + bytes(512),
            GOOD,
            END,
        ]
    )

    entries = tar_entries(post(serve(), content, TAR).content)

    names = ["soft", "hard", "character", "block", "pipe", "sparse.npy", "hole.npy", "strange.npy"]
    assert [f"{name}.problem.json" for name in names] + ["good.npy"] == list(entries)
    details = [problem_of(entries[f"{name}.problem.json"][0])["detail"] for name in names]
    for word, detail in zip(
        ["symbolic", "hard link", "device", "device", "pipe", "sparse", "sparse", "unknown"],
        details,
        strict=True,
    ):
        assert word in detail


def test_entry_that_is_too_large_is_passed_over(serve: Callable[..., ServedApp]) -> None:
    """Its bytes are never in memory, and the next entry is found."""
    content = header("big.npy", 5000) + padded(bytes(5000)) + GOOD + END

    entries = tar_entries(post(serve(max_body_bytes=1024), content, TAR).content)

    assert ["big.npy.problem.json", "good.npy"] == list(entries)
    problem = problem_of(entries["big.npy.problem.json"][0])
    assert (413, 0) == (problem["status"], problem["index"])
    assert "5000 bytes; at most 1024" in problem["detail"]


def test_entry_that_claims_more_than_the_world_holds_ends_the_answer(
    serve: Callable[..., ServedApp],
) -> None:
    """Nothing is reserved for a claim."""
    content = GOOD + header("huge.npy", 1 << 60) + GOOD + END

    entries = tar_entries(post(serve(), content, TAR).content)

    assert ["good.npy", "huge.npy.problem.json", STREAM_PROBLEM] == list(entries)


def negative_size() -> bytes:
    """A header whose size is below zero, as the GNU number format can say."""
    block = bytearray(header("x.npy"))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("pax", 1 << 33, tarfile.XHDTYPE), "extended header of 8589934592 bytes"),
        (header("name", 1 << 33, tarfile.GNUTYPE_LONGNAME), "extended header of"),
        (header("global", 1 << 20, tarfile.XGLTYPE), "extended header of"),
        (pax(b"12 comment=\n") * 9 + GOOD, "9. before one entry"),
        (pax(b"99 path=x\n") + GOOD, "cannot be read at its byte 0"),
        (pax(b"0 path=x\n") + GOOD, "cannot be read at its byte 0"),
        (pax(b"-5 path=x\n") + GOOD, "cannot be read at its byte 0"),
        (pax(b"9 path\n\n\n") + GOOD, "cannot be read at its byte 0"),
        (pax(b"11 size=-1\n") + GOOD, "has the size '-1'"),
        (pax(b"14 size=1e30x\n") + GOOD, "has the size '1e30x'"),
        (negative_size(), "claims -1 bytes"),
        (header("s", 0, tarfile.GNUTYPE_SPARSE)[:482] + b"\1" + bytes(29), "cannot be read"),
    ],
)
def test_hostile_headers_end_the_answer_with_their_place(
    serve: Callable[..., ServedApp], content: bytes, words: str
) -> None:
    """Sizes that would fill memory, endless chains, numbers that are none."""
    answer = post(serve(), GOOD + content + bytes(1024), TAR)

    problem = last_problem(answer.content)
    assert words in str(problem["detail"])
    assert 1 == problem["tiles_done"]


def test_sparse_map_without_end_is_given_up(serve: Callable[..., ServedApp]) -> None:
    """Each of its blocks says that one more follows."""
    block = bytearray(512)
    block[504] = 1
    sparse = bytearray(header("sparse.npy", 512, tarfile.GNUTYPE_SPARSE))
    sparse[482] = 1
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)

    answer = post(serve(), GOOD + bytes(sparse) + bytes(block) * 100, TAR)

    assert "sparse map of more than 64 blocks" in str(last_problem(answer.content)["detail"])


def test_pax_and_gnu_names_and_sizes_are_used(serve: Callable[..., ServedApp]) -> None:
    """Names beyond 100 bytes, and a size that stands in the pax header alone."""
    long = "wafer/" * 30 + "tile.npy"
    body = npy(some_tiles(1)[0])
    by_size = pax(b"12 size=704\n") + header("sized.npy", 0) + padded(body)
    gnu = header("x", len(long) + 1, tarfile.GNUTYPE_LONGNAME) + padded(long.encode() + b"\0")
    link = header("x", 5, tarfile.GNUTYPE_LONGLINK) + padded(b"link\0")
    everywhere = pax(b"17 comment=hello\n", tarfile.XGLTYPE)
    by_pax = tarfile.TarInfo(f"pax/{long}")
    by_pax.size = len(body)
    content = b"".join(
        [
            everywhere,
            by_pax.tobuf(tarfile.PAX_FORMAT) + padded(body),
            by_size,
            link + gnu + header("short", 704) + padded(body),
            END,
        ]
    )

    entries = tar_entries(post(serve(), content, TAR).content)

    assert [f"pax/{long}", "sized.npy", long] == list(entries)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a\nb.npy", "\x1b[31m.npy", "\udcff\udcfe.npy", "-"]
)
def test_names_are_data_only(serve: Callable[..., ServedApp], tmp_path: Path, name: str) -> None:
    """Any name is returned unchanged, and no file is written under it."""
    app = serve(spool_dir=tmp_path)
    before = set(tmp_path.rglob("*"))
    content = tar_of({name: npy(some_tiles(1)[0]), f"{name}2": b"bad"}, errors="surrogateescape")

    answer = post(app, content, TAR)

    suffix = "" if name.endswith(".npy") else ".npy"
    with tarfile.open(fileobj=io.BytesIO(answer.content), errors="surrogateescape") as archive:
        assert [f"{name}{suffix}", f"{name}2.problem.json"] == archive.getnames()
    assert before == set(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["", "n" * 1025, "zero\0byte.npy"])
def test_unusable_names_are_replaced_by_numbers(serve: Callable[..., ServedApp], name: str) -> None:
    """Empty, endless, or with a zero byte: no answer can be called so."""
    records = f"path={name}\n".encode()
    length = next(n for n in range(2000) if len(f"{n} ") + len(records) == n)
    content = pax(f"{length} ".encode() + records) + GOOD + END

    entries = tar_entries(post(serve(), content, TAR).content)

    assert ["000000.problem.json"] == list(entries)
    assert "name is empty" in problem_of(entries["000000.problem.json"][0])["detail"]


# --- zip ---


def test_zip_entry_that_unpacks_to_too_much_is_refused(serve: Callable[..., ServedApp]) -> None:
    """Whether it says so or lies about it."""
    app = serve(max_body_bytes=2048)
    bomb = bytes(10 << 20)
    honest = zip_of({"bomb.npy": bomb, "good.npy": npy(some_tiles(1)[0])})
    lying = honest.replace(struct.pack("<I", len(bomb)), struct.pack("<I", 704))

    for content, status in ((honest, 413), (lying, 400)):
        entries = tar_entries(post(app, content, ZIP).content)
        assert ["bomb.npy.problem.json", "good.npy"] == list(entries)
        assert status == problem_of(entries["bomb.npy.problem.json"][0])["status"]


def test_zip_with_overlapping_entries_is_refused(serve: Callable[..., ServedApp]) -> None:
    """Many entries that share their data make little become much."""
    content = bytearray(zip_of({"a.npy": npy(some_tiles(1)[0]), "b.npy": npy(some_tiles(1)[0])}))
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = bytes(4)  # its data are where the first entry's are

    answer = post(serve(), bytes(content), ZIP)

    assert 400 == answer.status_code
    assert "overlap" in answer.json()["detail"]


def test_zip_directory_that_is_too_large_is_not_read(serve: Callable[..., ServedApp]) -> None:
    """A hundred thousand entries of nothing would fill memory."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number in range(50_000):
            archive.writestr(f"{number:060d}", b"")

    answer = post(serve(), file.getvalue(), ZIP)

    assert 422 == answer.status_code
    assert "send a tar" in answer.json()["detail"]


def test_zip_methods_that_are_not_read_cost_their_entries(serve: Callable[..., ServedApp]) -> None:
    """LZMA and bzip2 unpack without a bound; encrypted entries cannot be read."""
    file = io.BytesIO()
    body = npy(some_tiles(1)[0])
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("folder/", b"")
        archive.writestr("lzma.npy", body, zipfile.ZIP_LZMA)
        archive.writestr("bzip2.npy", body, zipfile.ZIP_BZIP2)
        archive.writestr("secret.npy", body)
        archive.writestr("damaged.npy", body, zipfile.ZIP_DEFLATED)
        archive.writestr("good.npy", body)
    content = bytearray(file.getvalue())
    for at in (content.index(b"secret.npy") - 24, content.rindex(b"secret.npy") - 38):
        content[at] |= 1
    content[content.index(b"damaged.npy") + 20] ^= 0xFF

    entries = tar_entries(post(serve(), bytes(content), ZIP).content)

    bad = [f"{name}.npy.problem.json" for name in ("lzma", "bzip2", "secret", "damaged")]
    assert [*bad, "good.npy"] == list(entries)
    assert [422, 422, 422, 400] == [problem_of(entries[name][0])["status"] for name in bad]


# --- spool ---


@pytest.mark.parametrize("kind", ["application/zip", "image/tiff"])
def test_what_is_too_large_to_spool_is_refused(
    serve: Callable[..., ServedApp], tmp_path: Path, kind: str
) -> None:
    """By its length, announced or not; nothing is left in the folder."""
    app = serve(max_spool_bytes=4096, spool_dir=tmp_path)

    answer = app.client.post(
        "/superresolve/batch",
        content=iter([bytes(1000)] * 10),
        headers={"content-type": kind},
    )

    assert 413 == answer.status_code
    assert "SEMSR_MAX_SPOOL_BYTES" in answer.json()["detail"]
    assert [] == list(tmp_path.iterdir())


def test_no_room_to_spool_is_said_and_logged(serve: Callable[..., ServedApp]) -> None:
    """A folder that is gone is the operator's problem: 503, and the log says which."""
    app = serve(spool_dir="/nowhere/at/all")

    answer = post(app, zip_of({"a.png": png(some_tiles(1)[0])}), ZIP)

    assert 503 == answer.status_code
    assert "no room" in answer.json()["detail"]
    assert "/nowhere" not in answer.text


def test_tiff_whose_pages_form_a_loop_ends_the_answer(serve: Callable[..., ServedApp]) -> None:
    """The page is answered once, and then the loop is seen."""
    content = build(page_tags(24, 24), some_tiles(1).tobytes(), link=8)

    problem = last_problem(post(serve(), content, {"content-type": "image/tiff"}).content)

    assert 1 == problem["tiles_done"]
    assert "loop" in str(problem["detail"])


def test_bad_tiff_page_costs_itself_only(serve: Callable[..., ServedApp]) -> None:
    """Of two pages the first is not grey."""
    first = build(page_tags(24, 24, bits=32), some_tiles(1).tobytes())
    link_at = 8 + 2 + 12 * int.from_bytes(first[8:10], "little")
    tags = page_tags(24, 24)
    second = build({273: (4, [len(first) + 4096])} | tags)[8:]
    content = first[:link_at] + struct.pack("<I", len(first)) + first[link_at + 4 :] + second
    content += bytes(len(first) + 4096 - len(content)) + some_tiles(1).tobytes()

    entries = tar_entries(post(serve(), content, {"content-type": "image/tiff"}).content)

    assert ["000000.problem.json", "000001.tif"] == list(entries)


@pytest.mark.parametrize("kind", ["application/x-tar", "application/zip", "image/tiff"])
def test_damaged_archives_never_cause_an_error_of_ours(
    serve: Callable[..., ServedApp], kind: str
) -> None:
    """Bytes changed and cut at random: every answer is a problem of the client's, or whole."""
    app = serve(max_body_bytes=4096)
    files = {f"{number}.npy": npy(tile) for number, tile in enumerate(some_tiles(3))}
    stack = io.BytesIO()
    tifffile.imwrite(stack, some_tiles(3), photometric="minisblack", compression="zlib")
    whole = {
        "application/x-tar": tar_of(files),
        "application/zip": zip_of(files),
        "image/tiff": stack.getvalue(),
    }[kind]
    random = np.random.default_rng(5)
    for _ in range(120):
        damaged = bytearray(whole)
        for _ in range(random.integers(1, 12)):
            damaged[random.integers(len(damaged))] = random.integers(256)
        if random.random() < 0.3:
            del damaged[random.integers(len(damaged)) :]

        answer = post(app, bytes(damaged), {"content-type": kind})

        assert answer.status_code in {200, 400, 413, 422}, answer.text
        assert b"internal-error" not in answer.content
        if answer.status_code == 200:
            assert answer.content.endswith(bytes(1024))
    assert 0 == app.metric("semsr_admitted_tiles")
