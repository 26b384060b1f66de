"""A client that openapi-python-client generates sends every type and reads every answer."""

import importlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from semsr.server_process import ServerProcess, running_server
from service.images import codec
from service.images.codec.sniffing import BMP, JPEG, NPY, PNG, RAW, TIFF
from service.images.metadata import ImageMetadata
from tests.scans import TINY_BUNDLE

ROOT = Path(__file__).parent.parent
TILE = np.full((24, 24), 77, dtype=np.uint8)
NAME = "generated_semsr_client"


def encoded(media_type: str) -> bytes:
    """The tile as a file of a type that the service writes."""
    return bytes(codec.encode(TILE, media_type, ImageMetadata()))


def by_pillow(name: str) -> bytes:
    """The tile as a file of a type that it does not write."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(TILE).save(content, name)
    return content.getvalue()


def archives() -> dict[str, bytes]:
    """A tar and a zip with the tile as a PNG."""
    tar, zipped, png = io.BytesIO(), io.BytesIO(), encoded(PNG)
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("a.png")
        entry.size = len(png)
        archive.addfile(entry, io.BytesIO(png))
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.png", png)
    return {"application/x-tar": tar.getvalue(), "application/zip": zipped.getvalue()}


def npy_stack() -> bytes:
    """The tile as a stack of one, which both routes read."""
    content = io.BytesIO()
    np.save(content, TILE[None])
    return content.getvalue()


FILES = {
    PNG: encoded(PNG),
    TIFF: encoded(TIFF),
    JPEG: by_pillow("JPEG"),
    BMP: by_pillow("BMP"),
    NPY: npy_stack(),
    RAW: TILE.tobytes(),
    **archives(),
}


def documented_config() -> str:
    """The configuration that docs/http-api.md gives for the generator."""
    page = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    return page.split("```yaml\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A service with the identity engine: what is sent comes back enlarged."""
    with running_server({"SEMSR_BUNDLE": str(TINY_BUNDLE), "SEMSR_ENGINE": "identity"}) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The generated package."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "config.yaml").write_text(documented_config(), encoding="utf-8")
    command = [
        sys.executable, "-m", "openapi_python_client", "generate",
        "--url", f"{server.url}/openapi.json", "--meta", "none",
        "--config", str(folder / "config.yaml"), "--output-path", str(folder / NAME),
    ]  # fmt: skip
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert 0 == finished.returncode, finished.stdout + finished.stderr
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(NAME)
    finally:
        sys.path.remove(str(folder))


def call(api: ModuleType, server: ServerProcess, function: str, accept: str, **options: Any) -> Any:  # noqa: ANN401
    """Call a function of the generated client; returns its detailed answer."""
    module = importlib.import_module(f"{NAME}.api.super_resolution.{function}")
    with api.Client(server.url, headers={"Accept": accept}) as client:
        return module.sync_detailed(client=client, **options)


def form(function: str, content: bytes, media_type: str) -> Any:  # noqa: ANN401
    """The generated form with one file."""
    models = importlib.import_module(f"{NAME}.models")
    types = importlib.import_module(f"{NAME}.types")
    kind = {
        "superresolve": "SuperresolveFilesBody",
        "superresolve_batch": "SuperresolveBatchFilesBody",
    }[function]
    file = types.File(payload=io.BytesIO(content), file_name="tile", mime_type=media_type)
    return getattr(models, kind)(file=file)


@pytest.mark.slow
@pytest.mark.parametrize("media_type", [PNG, TIFF, JPEG, BMP, NPY, RAW])
def test_every_image_type_is_sent_and_its_answer_read(
    api: ModuleType, server: ServerProcess, media_type: str
) -> None:
    """As the file of a form, which carries its type."""
    shape = {"x_tile_shape": "24,24"} if media_type == RAW else {}
    body = form("superresolve", FILES[media_type], media_type)
    answer = call(api, server, "superresolve", RAW, body=body, **shape)
    assert 200 == answer.status_code, answer.content
    pixels = np.frombuffer(answer.parsed.payload.read(), np.uint8).reshape(96, 96)
    assert TILE[2, 2] == pixels[10, 10]


@pytest.mark.slow
def test_raw_bytes_are_sent_as_they_are(api: ModuleType, server: ServerProcess) -> None:
    """Without a form: the type that the generator knows."""
    types = importlib.import_module(f"{NAME}.types")
    body = types.File(payload=io.BytesIO(FILES[RAW]))
    answer = call(api, server, "superresolve", RAW, body=body, x_tile_shape="24,24")
    assert 200 == answer.status_code
    assert 96 * 96 == len(answer.parsed.payload.read())


@pytest.mark.slow
@pytest.mark.parametrize("media_type", [RAW, NPY, TIFF, "application/x-tar", "application/zip"])
def test_every_batch_type_is_sent_and_the_tar_read(
    api: ModuleType, server: ServerProcess, media_type: str
) -> None:
    """The answer is a file that tarfile opens."""
    shape = {"x_tile_shape": "24,24"} if media_type == RAW else {}
    body = form("superresolve_batch", FILES[media_type], media_type)
    answer = call(api, server, "superresolve_batch", "application/x-tar", body=body, **shape)
    assert 200 == answer.status_code, answer.content
    with tarfile.open(fileobj=answer.parsed.payload) as archive:
        [entry] = archive.getmembers()
        facts = json.loads(entry.pax_headers["comment"])
    assert "96,96" == facts["X-Tile-Shape"]


@pytest.mark.slow
def test_a_refusal_is_a_problem(api: ModuleType, server: ServerProcess) -> None:
    """Typed, with its detail."""
    body = form("superresolve", b"%PDF-1.7", PNG)
    answer = call(api, server, "superresolve", RAW, body=body)
    assert 400 == answer.status_code
    assert "begins like a PDF" in answer.parsed.detail
