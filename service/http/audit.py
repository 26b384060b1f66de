"""Hashes of images and answers in the log, so that a stored answer can be checked against it.

Off by default (`SEMSR_AUDIT`). The hashes are computed in threads of their own before the answer is
sent: hashing a tile takes longer than everything else that the event loop does for it. How an
auditor uses them: docs/operations.md, Audit.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from engines.cpu import available_cpus
from service.images.multipart import extract_file
from service.images.request import MULTIPART, TileRequest

log = structlog.get_logger()

Content = bytes | memoryview

_MAX_NAME = 200
"""Characters of an entry's name in a log line; a zip allows 65,535."""


class Audit:
    """Computes the hashes; one instance serves every request of the process."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="audit")

    def begin(self, image: Content | None, answer: Content) -> asyncio.Future[dict[str, str]]:
        """Begin to hash; call it on the event loop.

        Args:
            image: Bytes of the image as they were sent, or None if they were hashed before.
            answer: Bytes of the answer as they will be sent.

        Returns:
            Future of the fields of a log line: `input_sha256`, unless the image is None, and
            `output_sha256`, in hex.
        """
        return asyncio.get_running_loop().run_in_executor(self._threads, _hashes, image, answer)

    async def one_image(self, body: bytes, answer: Content, request: TileRequest) -> dict[str, str]:
        """Hash one image and its answer.

        Args:
            body: Body of the request; of a form, the file in it is hashed.
            answer: Body of the answer.
            request: Headers of the request.
        """
        if request.media_type != MULTIPART:
            return await self.begin(body, answer)

        def hash_file() -> dict[str, str]:
            return _hashes(extract_file(body, request.content_type).content, answer)

        return await asyncio.get_running_loop().run_in_executor(self._threads, hash_file)

    def close(self) -> None:
        """End the threads without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class ImageLines:
    """The log lines of a request with several images: one line for each of them."""

    def __init__(self, audit: Audit, state: Mapping[str, Any]) -> None:
        """Prepare.

        Args:
            audit: Hashes of the process.
            state: State of the request's ASGI scope, with its id and the facts of its log line.
        """
        self._audit = audit
        self._state = state

    async def write(
        self,
        index: int,
        *,
        answer: Content,
        image: Content | None = None,
        input_sha256: str | None = None,
        entry: str | None = None,
    ) -> None:
        """Hash one image's answer and write the line.

        Args:
            index: Number of the image in the request, from 0.
            answer: Bytes of its answer.
            image: Bytes of the image, or None if they were hashed before.
            input_sha256: SHA-256 of the image if it was hashed before.
            entry: Name that the client gave the image, or None.
        """
        hashes = {"input_sha256": input_sha256, **await self._audit.begin(image, answer)}
        facts = self._state["facts"]
        named = {
            name: facts[name]
            for name in ("client", "address", "model", "model_version", "tool")
            if name in facts
        }
        if entry is not None:
            # A name in an archive may hold any bytes.
            named["entry"] = entry[:_MAX_NAME].encode("utf-8", "replace").decode()
        log.info(
            "image_answered",
            request_id=self._state["request_id"],
            index=index,
            **named,
            **hashes,
        )


def digest(content: Content) -> str:
    """Return the SHA-256 of bytes in hex."""
    return hashlib.sha256(content).hexdigest()


def pixel_bytes(pixels: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of pixels, row by row in little endian; copied only where needed."""
    plain = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data


def _hashes(image: Content | None, answer: Content) -> dict[str, str]:
    hashes = {} if image is None else {"input_sha256": digest(image)}
    return {**hashes, "output_sha256": digest(answer)}
