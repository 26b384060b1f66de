"""`POST /superresolve/batch`: every way in, every way out, and what one bad image costs."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from service.http.stream.request import STREAM_TYPES
from tests.service.conftest import ServedApp
from tests.service.http.stream.batch_files import (
    enlarged,
    npy,
    parts_of,
    png,
    problem_of,
    some_tiles,
    tar_entries,
    tar_of,
    zip_of,
)

RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}
TAR = {"content-type": "application/x-tar"}


def post(app: ServedApp, content: bytes, headers: dict[str, str]) -> Any:  # noqa: ANN401
    """Send one batch."""
    return app.client.post("/superresolve/batch", content=content, headers=headers)


def raw_pixels(entry: tuple[bytes, dict[str, str]]) -> np.ndarray:
    """Pixels of a raw entry, by what its facts say."""
    body, facts = entry
    shape = [int(side) for side in facts["X-Tile-Shape"].split(",")]
    return np.frombuffer(body, facts["X-Tile-Dtype"]).reshape(shape)


def test_raw_tiles_come_back_numbered_in_order(serve: Callable[..., ServedApp]) -> None:
    """Each with its shape, its type and what the model says of it."""
    app = serve()
    tiles = some_tiles(30)

    answer = post(app, tiles.tobytes(), RAW)

    assert 200 == answer.status_code
    assert "application/x-tar" == answer.headers["content-type"]
    assert "no" == answer.headers["x-accel-buffering"]
    assert "identity" == answer.headers["x-engine"]
    entries = tar_entries(answer.content)
    assert [f"{number:06d}.raw" for number in range(30)] == list(entries)
    for number, entry in enumerate(entries.values()):
        np.testing.assert_array_equal(enlarged(tiles[number]), raw_pixels(entry))
        assert {
            "Content-Type": "application/octet-stream",
            "X-Tile-Index": str(number),
            "X-Tile-Shape": "96,96",
            "X-Tile-Dtype": "uint8",
        }.items() <= entry[1].items()
        assert entry[1]["X-Quality"].startswith("non-finite=0.0000, ")
    assert 30 == app.metric("semsr_batch_entries_total", outcome="ok")
    assert 1 == app.metric("semsr_batch_requests_ended_total", reason="complete")
    assert 0 == app.metric("semsr_batch_requests", priority="nightly")
    assert 0 == app.metric("semsr_admitted_tiles")


def test_wide_raw_tiles_go_through_the_window_and_back(serve: Callable[..., ServedApp]) -> None:
    """The headers of one tile hold for each of them."""
    tiles = np.array([0, 100, 4095], np.uint16)[:, None, None] * np.ones((24, 24), np.uint16)
    headers = {
        **RAW,
        "x-tile-dtype": "uint16",
        "x-window": "0,4095",
        "x-answer-dtype": "uint16",
        "x-pixel-size-nm": "8",
    }

    entries = tar_entries(post(serve(), tiles.tobytes(), headers).content)

    assert [0, 96, 4095] == [int(raw_pixels(entry)[0, 0]) for entry in entries.values()]
    assert {"2,2"} == {entry[1]["X-Pixel-Size-Nm"] for entry in entries.values()}


@pytest.mark.parametrize("shape", [(5, 24, 24), (5, 1, 24, 24)])
@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2"])
def test_npy_stack_comes_back_as_npy_files(
    serve: Callable[..., ServedApp], shape: tuple[int, ...], dtype: str
) -> None:
    """One file a tile, in any byte order."""
    grey = some_tiles(5)
    stack = (grey.astype(dtype) * (257 if dtype.endswith("2") else 1)).astype(dtype)

    answer = post(serve(), npy(stack.reshape(shape)), {"content-type": "application/x-npy"})

    entries = tar_entries(answer.content)
    assert [f"{number:06d}.npy" for number in range(5)] == list(entries)
    for tile, (body, _) in zip(grey, entries.values(), strict=True):
        np.testing.assert_array_equal(enlarged(tile), np.load(io.BytesIO(body)))


def test_empty_stack_and_empty_archive_have_empty_answers(serve: Callable[..., ServedApp]) -> None:
    """An empty stream is not an error."""
    app = serve()
    nothing = npy(np.zeros((0, 24, 24), np.uint8))
    for content, headers in (
        (nothing, {"content-type": "application/x-npy"}),
        (tar_of({}), TAR),
        (zip_of({}), {"content-type": "application/zip"}),
    ):
        answer = post(app, content, headers)
        assert (200, {}) == (answer.status_code, tar_entries(answer.content))


def mixed_files() -> tuple[dict[str, bytes], list[np.ndarray]]:
    """A file of each type that is read, and what is in them."""
    tiles = some_tiles(5)
    tiff, bmp, jpeg = io.BytesIO(), io.BytesIO(), io.BytesIO()
    tifffile.imwrite(tiff, tiles[1])
    Image.fromarray(tiles[2]).save(bmp, "BMP")
    flat = np.full((24, 24), 90, np.uint8)
    Image.fromarray(flat).save(jpeg, "JPEG")
    files = {
        "lot/a.png": png(tiles[0]),
        "lot/b.TIFF": tiff.getvalue(),
        "lot/c": bmp.getvalue(),
        "lot/d.npy": npy(tiles[3]),
        "lot/e.jpg": jpeg.getvalue(),
    }
    return files, [tiles[0], tiles[1], tiles[2], tiles[3], flat]


def decoded(name: str, body: bytes) -> np.ndarray:
    """Read an answer by its name."""
    if name.endswith(".npy"):
        return np.load(io.BytesIO(body))
    return np.asarray(Image.open(io.BytesIO(body)))


@pytest.mark.parametrize(
    ("pack", "content_type"),
    [
        (tar_of, "application/x-tar"),
        (lambda files: tar_of(files, format=1), "application/x-tar"),
        (lambda files: tar_of(files, format=0), "application/tar"),
        (zip_of, "application/zip"),
        (lambda files: zip_of(files, zipfile.ZIP_STORED), "application/zip"),
    ],
)
def test_files_of_any_type_come_back_under_their_names(
    serve: Callable[..., ServedApp],
    pack: Callable[[dict[str, bytes]], bytes],
    content_type: str,
) -> None:
    """Each in its own type; a name that does not say the answer's type gets a suffix more."""
    files, tiles = mixed_files()

    answer = post(serve(), pack(files), {"content-type": content_type})

    entries = tar_entries(answer.content)
    assert ["lot/a.png", "lot/b.TIFF", "lot/c.png", "lot/d.npy", "lot/e.jpg.png"] == list(entries)
    for tile, (name, (body, _)) in zip(tiles, entries.items(), strict=True):
        np.testing.assert_array_equal(enlarged(tile), decoded(name, body))


def test_tiff_pages_come_back_one_by_one(serve: Callable[..., ServedApp]) -> None:
    """However many there are, compressed or not."""
    tiles = some_tiles(40)
    for compression in (None, "zlib"):
        stack = io.BytesIO()
        tifffile.imwrite(stack, tiles, compression=compression, photometric="minisblack")

        answer = post(serve(), stack.getvalue(), {"content-type": "image/tiff"})

        entries = tar_entries(answer.content)
        assert [f"{number:06d}.tif" for number in range(40)] == list(entries)
        for tile, (body, _) in zip(tiles, entries.values(), strict=True):
            np.testing.assert_array_equal(enlarged(tile), tifffile.imread(io.BytesIO(body)))


def test_planes_of_one_tiff_directory_come_back_one_by_one(
    serve: Callable[..., ServedApp],
) -> None:
    """As ImageJ and tifffile store long stacks; a single request refuses them."""
    app = serve()
    tiles = some_tiles(5)
    for is_imagej in (True, False):
        stack = io.BytesIO()
        tifffile.imwrite(stack, tiles, truncate=True, imagej=is_imagej, photometric="minisblack")

        answer = post(app, stack.getvalue(), {"content-type": "image/tiff"})
        single = app.client.post(
            "/superresolve", content=stack.getvalue(), headers={"content-type": "image/tiff"}
        )

        entries = tar_entries(answer.content)
        assert [f"{number:06d}.tif" for number in range(5)] == list(entries)
        for tile, (body, _) in zip(tiles, entries.values(), strict=True):
            np.testing.assert_array_equal(enlarged(tile), tifffile.imread(io.BytesIO(body)))
        assert 422 == single.status_code
        assert "holds 5 images" in single.json()["detail"]


def test_accept_chooses_container_and_type_of_entries(serve: Callable[..., ServedApp]) -> None:
    """Both in one header."""
    app = serve()
    tiles = some_tiles(3)
    cases = {
        "image/png": ("application/x-tar", "000000.png"),
        "application/x-tar, image/tiff;q=0.5": ("application/x-tar", "000000.tif"),
        "multipart/mixed, application/zstd": ("multipart/mixed", "000000.raw.zst"),
        "multipart/*": ("multipart/mixed", "000000.raw"),
        "application/x-tar;q=0, image/jxl": ("multipart/mixed", "000000.jxl"),
        "multipart/mixed;q=0.5, application/x-tar": ("application/x-tar", "000000.raw"),
        "*/*": ("application/x-tar", "000000.raw"),
    }
    for accept, (container, name) in cases.items():
        answer = post(app, tiles.tobytes(), {**RAW, "accept": accept})
        assert 200 == answer.status_code, accept
        kind = answer.headers["content-type"]
        assert container == kind.partition(";")[0], accept
        found = tar_entries(answer.content) if kind == container else parts_of(answer.content, kind)
        assert name == next(iter(found)), accept


def test_multipart_answer_is_read_by_the_standard_library(serve: Callable[..., ServedApp]) -> None:
    """Parts in order, with their names, lengths and facts."""
    tiles = some_tiles(3)
    names = ["a.png", 'quote".png', "ümlaut\n.png"]
    files = {name: png(tile) for name, tile in zip(names, tiles, strict=True)}

    answer = post(serve(), tar_of(files), {**TAR, "accept": "multipart/mixed"})

    parts = parts_of(answer.content, answer.headers["content-type"])
    assert names == list(parts)
    for tile, (body, headers) in zip(tiles, parts.values(), strict=True):
        np.testing.assert_array_equal(enlarged(tile), decoded("x.png", body))
        assert ("image/png", str(len(body)), "96,96") == (
            headers["Content-Type"],
            headers["Content-Length"],
            headers["X-Tile-Shape"],
        )


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_bad_image_costs_its_own_answer_only(
    serve: Callable[..., ServedApp], pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    """The others come as if it were not there, and it gets a problem under its name."""
    app = serve()
    tiles = some_tiles(2)
    files = {
        "first.png": png(tiles[0]),
        "cut.png": png(tiles[0])[:100],
        "text.png": b"hello",
        "empty.png": b"",
        "colour.png": png(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)),
        "last.png": png(tiles[1]),
    }
    kind = "application/x-tar" if pack is tar_of else "application/zip"

    answer = post(app, pack(files), {"content-type": kind, "x-request-id": "lot7"})

    entries = tar_entries(answer.content)
    bad = [f"{name}.problem.json" for name in list(files)[1:5]]
    assert ["first.png", *bad, "last.png"] == list(entries)
    for tile, name in zip(tiles, ["first.png", "last.png"], strict=True):
        np.testing.assert_array_equal(enlarged(tile), decoded(name, entries[name][0]))
    problems = [problem_of(entries[name][0]) for name in bad]
    assert [400, 415, 415, 422] == [problem["status"] for problem in problems]
    assert [1, 2, 3, 4] == [problem["index"] for problem in problems]
    assert list(files)[1:5] == [problem["entry"] for problem in problems]
    assert {("tile", "lot7", "/superresolve/batch")} == {
        (problem["scope"], problem["request_id"], problem["instance"]) for problem in problems
    }
    assert 4 == app.metric("semsr_batch_entries_total", outcome="failed")


def test_failed_engine_batch_costs_its_tiles_only(serve: Callable[..., ServedApp]) -> None:
    """The engine's error is a problem of those tiles; the request goes on."""
    app = serve(max_queue=16, max_batch_size=1)
    app.engine.failures = [None, RuntimeError("no"), None]

    entries = tar_entries(post(app, some_tiles(3).tobytes(), RAW).content)

    assert ["000000.raw", "000001.problem.json", "000002.raw"] == list(entries)
    assert "engine-failed" in problem_of(entries["000001.problem.json"][0])["type"]


def test_larger_images_are_cut_and_put_together(serve: Callable[..., ServedApp]) -> None:
    """One that needs more places than a request has at once waits until it is alone."""
    app = serve()
    small = some_tiles(4)
    large = np.random.default_rng(3).integers(0, 256, (90, 70), dtype=np.uint8)
    files = {
        "a.npy": npy(small[0]),
        "b.npy": npy(small[1]),
        "large.npy": npy(large),
        "c.npy": npy(small[2]),
        "d.npy": npy(small[3]),
    }

    entries = tar_entries(post(app, tar_of(files), TAR).content)

    assert list(files) == list(entries)
    np.testing.assert_array_equal(enlarged(large), decoded("large.npy", entries["large.npy"][0]))
    np.testing.assert_array_equal(enlarged(small[3]), decoded("d.npy", entries["d.npy"][0]))


def test_image_beyond_what_a_request_may_hold_is_refused_alone(
    serve: Callable[..., ServedApp],
) -> None:
    """Its problem names the limit, and its neighbours are answered."""
    app = serve(max_queue=8)
    tile = some_tiles(1)[0]
    files = {
        "a.npy": npy(tile),
        "huge.npy": npy(np.zeros((200, 200), np.uint8)),
        "b.npy": npy(tile),
    }

    entries = tar_entries(post(app, tar_of(files), TAR).content)

    assert ["a.npy", "huge.npy.problem.json", "b.npy"] == list(entries)
    problem = problem_of(entries["huge.npy.problem.json"][0])
    assert 413 == problem["status"]
    assert "SEMSR_MAX_QUEUE" in problem["detail"]


@pytest.mark.parametrize(
    ("headers", "content", "status", "words"),
    [
        ({}, b"x", 415, "expected one of application/octet-stream, application/x-npy"),
        ({"content-type": "image/png"}, b"x", 415, "application/zip"),
        ({"content-type": "application/octet-stream"}, b"x", 400, "X-Tile-Shape"),
        (RAW, b"", 400, "the body is empty"),
        ({**RAW, "x-tile-shape": "0,24"}, b"x", 422, "at least 1×1"),
        ({**RAW, "x-tile-shape": "9999999,9999999"}, b"x", 413, "at most"),
        ({**RAW, "accept": "text/html"}, b"x", 406, "text/html"),
        ({**RAW, "accept": "application/x-tar;q=0, multipart/*;q=0"}, b"x", 406, "multipart/mixed"),
        ({**RAW, "x-priority": "urgent"}, b"x", 400, "X-Priority"),
        (TAR, b"", 400, "the body is empty"),
        (TAR, b"no tar" * 200, 400, "tar header at byte 0"),
        ({"content-type": "application/zip"}, b"no zip", 400, "not a readable zip archive"),
        ({"content-type": "application/zip"}, b"", 400, "the body is empty"),
        ({"content-type": "image/tiff"}, b"no tiff" * 9, 400, "begins with"),
        ({"content-type": "application/x-npy"}, b"no npy, but longer", 400, "begins with"),
        (
            {"content-type": "application/x-npy"},
            npy(np.zeros((2, 24, 24), np.float32)),
            422,
            "expected uint8 or uint16",
        ),
        ({"content-type": "application/x-npy"}, npy(some_tiles(1)[0]), 422, "a stack"),
        (
            {"content-type": "application/x-npy"},
            npy(np.zeros((24, 30, 3), np.uint8)),
            422,
            "which is colour: (H, W, 3); expected grey tiles",
        ),
        (
            {"content-type": "application/x-npy"},
            npy(np.asfortranarray(some_tiles(3))),
            422,
            "Fortran order",
        ),
    ],
)
def test_what_cannot_be_begun_is_refused_with_its_status(
    serve: Callable[..., ServedApp],
    headers: dict[str, str],
    content: bytes,
    status: int,
    words: str,
) -> None:
    """Before the first answer there is still a status to say it with."""
    app = serve()

    answer = post(app, content, headers)

    assert status == answer.status_code, answer.text
    assert "application/problem+json" == answer.headers["content-type"]
    assert words in answer.json()["detail"]
    assert 0 == app.metric("semsr_admitted_tiles")


def test_batches_are_nightly_unless_they_say_otherwise(serve: Callable[..., ServedApp]) -> None:
    """A batch is throughput work; an online one is possible."""
    app = serve()
    post(app, some_tiles(3).tobytes(), RAW)
    post(app, some_tiles(2).tobytes(), {**RAW, "x-priority": "online"})

    labels = {"model": "identity", "precision": "fp32"}
    version = str(app.client.get("/model").json()["version"])
    counted = {
        priority: app.metric("semsr_tiles_total", priority=priority, version=version, **labels)
        for priority in ("nightly", "online")
    }
    assert {"nightly": 3, "online": 2} == counted
    for priority in counted:
        assert 1 == app.metric(
            "semsr_requests_total", route="/superresolve/batch", code="200", priority=priority
        )


def test_other_methods_are_told_what_to_do(serve: Callable[..., ServedApp]) -> None:
    """As on the route for one image."""
    answer = serve().client.get("/superresolve/batch")
    assert (405, "POST") == (answer.status_code, answer.headers["allow"])


def test_the_schema_names_the_types_that_work(serve: Callable[..., ServedApp]) -> None:
    """OpenAPI promises what is read."""
    schema = serve().client.get("/openapi.json").json()
    operation = schema["paths"]["/superresolve/batch"]["post"]
    read = {*STREAM_TYPES, "multipart/form-data"}
    assert read == set(operation["requestBody"]["content"])
    assert {"application/x-tar", "multipart/mixed"} == set(operation["responses"]["200"]["content"])
