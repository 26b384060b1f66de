"""The upload of a stream of tiles: bytes are taken only as they are needed.

All other bytes wait in the kernel's buffers, and then in the client's. This back-pressure bounds
the memory of a request of any length.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from service.ground.errors import InvalidImage, RequestTimeout
from service.http.body import ClientGone

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class TruncatedUpload(InvalidImage):
    """The upload ends too early, and no more images can be read."""


class Upload:
    """The body of one request, read piece by piece."""

    def __init__(self, receive: Receive, *, idle_timeout_s: float, piece_timeout_s: float) -> None:
        """Prepare; nothing is read yet.

        Args:
            receive: ASGI's.
            idle_timeout_s: Time limit for the next bytes, between tiles or within one.
            piece_timeout_s: Time limit from the first to the last byte of one `read`, so that slow
                clients do not hold places indefinitely.
        """
        self._receive = receive
        self._idle_timeout_s = idle_timeout_s
        self._piece_timeout_s = piece_timeout_s
        self._chunk: bytes = b""
        self._used = 0
        self._has_more = True
        self.position = 0

    async def read(self, size: int, what: str) -> bytes:
        """Return exactly `size` bytes.

        Args:
            size: Number of bytes.
            what: Name of the bytes, for the message about an upload that ends early.

        Raises:
            TruncatedUpload: The upload ends early.
            RequestTimeout: It arrived too slowly.
            ClientGone: The connection ended.
        """
        parts: list[bytes] = []
        missing = size
        deadline_s: float | None = None
        while missing:
            part = await self._take(missing, deadline_s)
            if not part:
                raise self._truncated(missing, what)
            if deadline_s is None:
                deadline_s = asyncio.get_running_loop().time() + self._piece_timeout_s
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_some(self, most: int) -> bytes:
        """Return the next bytes, `most` of them at most; none at the end. Raises as `read`."""
        return await self._take(most, None)

    async def skip(self, size: int, what: str) -> None:
        """Skip `size` bytes; raises as `read`."""
        missing = size
        while missing:
            part = await self._take(missing, None)
            if not part:
                raise self._truncated(missing, what)
            missing -= len(part)

    async def is_at_end(self) -> bool:
        """Whether the upload has ended; waits for the next byte to decide. Raises as `read`."""
        return not await self._fill(None)

    def _truncated(self, missing: int, what: str) -> TruncatedUpload:
        return TruncatedUpload(
            f"the upload ends after {self.position} bytes, {missing} bytes before the end of {what}"
        )

    async def _take(self, most: int, deadline_s: float | None) -> bytes:
        if not await self._fill(deadline_s):
            return b""
        part = self._chunk[self._used : self._used + most]
        self._used += len(part)
        self.position += len(part)
        return part

    async def _fill(self, deadline_s: float | None) -> bool:
        """Fetch at least one byte; False at the end."""
        while self._used == len(self._chunk):
            if not self._has_more:
                return False
            # Release the last chunk before waiting for the next one.
            self._chunk, self._used = b"", 0
            idle_s = asyncio.get_running_loop().time() + self._idle_timeout_s
            try:
                async with asyncio.timeout_at(min(idle_s, deadline_s or idle_s)):
                    message = await self._receive()
            except TimeoutError as error:
                raise RequestTimeout(
                    f"after {self.position} bytes the upload paused for more than "
                    f"{self._idle_timeout_s:g} s (SEMSR_BATCH_IDLE_TIMEOUT_S), or one tile took "
                    f"more than {self._piece_timeout_s:g} s (SEMSR_BODY_TIMEOUT_S)"
                ) from error
            if message["type"] == "http.disconnect":
                raise ClientGone
            self._chunk = message.get("body", b"")
            self._has_more = message.get("more_body", False)
        return True
