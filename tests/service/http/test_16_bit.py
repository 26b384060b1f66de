"""Answers of 16 bits through HTTP, in one process and in a pool."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest
import tifffile

import semsr
from semsr.server_process import ServerProcess, running_server
from semsr_client import Client

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}
NPY = {"content-type": "application/x-npy"}
SIXTEEN = {"x-answer-bits": "16"}


@pytest.fixture(scope="module", params=["single", "pool"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A service that answers in 8 and in 16 bits."""
    settings = {
        "SEMSR_MODE": request.param,
        "SEMSR_BUNDLE": str(TINY_BUNDLE),
        "SEMSR_ENGINE": "onnx",
        "SEMSR_THREADS": "1",
        "SEMSR_ANSWER_BITS": "16",
    }
    if request.param == "pool":
        settings["SEMSR_FRONT_ENDS"] = "1"
    with running_server(settings) as started:
        yield started


def post(
    server: ServerProcess, content: bytes, headers: dict[str, str], path: str = "/superresolve"
):
    """Send one request."""
    return httpx2.post(
        f"{server.url}{path}", content=content, headers=headers, trust_env=False, timeout=60
    )


def npy(array: np.ndarray) -> bytes:
    """An array as an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def expected(tile: np.ndarray, **options) -> np.ndarray:
    """The answer without a server."""
    with semsr.Upscaler(TINY_BUNDLE, bits=16, **options) as upscale:
        return upscale(tile)


def test_both_depths_are_answered_side_by_side(server: ServerProcess) -> None:
    """Tiles of both share the queue, and no batch mixes them up."""
    rng = np.random.default_rng(8)
    tiles = list(rng.integers(0, 256, (24, 24, 24), dtype=np.uint8))

    def ask(number: int) -> httpx2.Response:
        return post(server, tiles[number].tobytes(), {**RAW, **(SIXTEEN if number % 2 else {})})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(len(tiles))))

    with (
        semsr.Upscaler(TINY_BUNDLE, engine="onnx") as eight,
        semsr.Upscaler(TINY_BUNDLE, bits=16) as sixteen,
    ):
        for number, (tile, answer) in enumerate(zip(tiles, answers, strict=True)):
            assert 200 == answer.status_code, answer.text
            kind, upscale, most = ("uint16", sixteen, 5) if number % 2 else ("uint8", eight, 1)
            assert kind == answer.headers["x-tile-dtype"]
            assert ("16" if number % 2 else None) == answer.headers.get("x-answer-bits")
            sr = np.frombuffer(answer.content, kind).reshape(96, 96)
            assert np.abs(sr.astype(int) - upscale(tile)).max() <= most


def test_the_window_is_undone_with_all_bits(server: ServerProcess) -> None:
    """12-bit greys come back as 12-bit greys, more than 256 of them, in a TIFF with its scale."""
    tile = np.random.default_rng(9).integers(200, 3900, (60, 70), dtype=np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, tile, resolution=(1e7 / 4, 1e7 / 4), resolutionunit="CENTIMETER")
    headers = {"content-type": "image/tiff", "x-window": "0,4095", **SIXTEEN}

    answer = post(server, file.getvalue(), headers)

    assert 200 == answer.status_code, answer.text
    assert "1,1" == answer.headers["x-pixel-size-nm"]
    sr = tifffile.imread(io.BytesIO(answer.content))
    assert np.uint16 == sr.dtype
    assert (240, 280) == sr.shape
    assert sr.max() <= 4095
    assert len(np.unique(sr)) > 1000
    assert np.abs(sr.astype(int) - expected(tile, window=(0, 4095))).max() <= 1


def test_the_client_takes_the_option(server: ServerProcess) -> None:
    """Tiles by the client."""
    stack = np.random.default_rng(10).integers(0, 256, (3, 24, 24), dtype=np.uint8)
    with Client(server.url, answer_bits=16) as client:
        by_client = [client.superresolve(tile) for tile in stack]
    for tile, sr in zip(stack, by_client, strict=True):
        assert np.abs(sr.pixels.astype(int) - expected(tile)).max() <= 5


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x-answer-bits": "12"}, "X-Answer-Bits is '12'; expected 8 or 16"),
        ({**SIXTEEN, "x-answer-dtype": "uint8"}, "X-Answer-Dtype is 'uint8' and X-Answer-Bits 16"),
    ],
)
def test_wrong_headers_are_refused(
    server: ServerProcess, headers: dict[str, str], message: str
) -> None:
    """The error names the header, its value and what was expected."""
    answer = post(server, bytes(576), {**RAW, **headers})
    assert 400 == answer.status_code
    assert message in answer.text


def test_jpeg_cannot_hold_16_bits(server: ServerProcess) -> None:
    """Nothing is cut to 8 bits in silence."""
    tile = np.zeros((24, 24), np.uint8)
    answer = post(server, npy(tile), {**NPY, **SIXTEEN, "accept": "image/jpeg"})
    assert 406 == answer.status_code


@pytest.mark.parametrize("path", ["/superresolve", "/superresolve/batch"])
def test_a_service_of_8_bits_refuses_16_as_a_whole(serve, path: str) -> None:
    """The refusal names the setting, and no header says that 16 bits were computed."""
    app = serve(engine="onnx")
    answer = app.client.post(path, content=bytes(576), headers={**RAW, **SIXTEEN})
    assert 400 == answer.status_code
    assert "answers in 8 bits; an operator sets SEMSR_ANSWER_BITS=16" in answer.json()["detail"]
    assert "x-answer-bits" not in answer.headers
    assert app.client.get("/model").json()["engine"] == answer.headers["x-engine"]
