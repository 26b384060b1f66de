"""Archives and stacks for tests of batch requests, and what their answers hold."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from email.message import Message
from typing import Any, cast
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 24
Tiles = npt.NDArray[np.uint8]


def some_tiles(count: int) -> Tiles:
    """(N, 24, 24) tiles that differ, each with a structure of its own."""
    return np.random.default_rng(7).integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)


def enlarged(tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What the fake engine makes of a tile."""
    return tile.repeat(4, axis=0).repeat(4, axis=1)


def png(tile: npt.NDArray[Any]) -> bytes:
    """A tile as PNG."""
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "PNG")
    return file.getvalue()


def npy(array: npt.NDArray[Any]) -> bytes:
    """An array as npy."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tar_of(files: Mapping[str, bytes], **options: Any) -> bytes:
    """Files as a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zip_of(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Files as a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tar_entries(answer: bytes) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Names, bodies and facts of an answer; fails unless it ends as an archive must."""
    assert answer[-1024:] == bytes(1024)
    found: dict[str, tuple[bytes, dict[str, str]]] = {}
    with tarfile.open(fileobj=io.BytesIO(answer), mode="r:") as archive:
        for info in archive.getmembers():
            stream = archive.extractfile(info)
            assert stream is not None
            assert info.name not in found
            found[info.name] = (stream.read(), json.loads(info.pax_headers["comment"]))
    return found


def parts_of(answer: bytes, content_type: str) -> dict[str, tuple[bytes, Message]]:
    """Names, bodies and headers of a multipart answer, by the standard library's parser."""
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + answer)
    assert message.is_multipart()
    assert not message.defects
    found: dict[str, tuple[bytes, Message]] = {}
    for part in cast("Sequence[Message]", message.get_payload()):
        disposition = str(part["Content-Disposition"])
        name = unquote(disposition.partition("filename*=UTF-8''")[2], errors="surrogateescape")
        body = part.get_payload(decode=True)
        assert isinstance(body, bytes)
        found[name] = (body, part)
    return found


def problem_of(entry: bytes) -> dict[str, Any]:
    """A problem in an answer, whose shape is that of every problem."""
    problem = json.loads(entry)
    assert {"type", "title", "status", "detail", "request_id", "scope"} <= problem.keys()
    return problem
