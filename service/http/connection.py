"""A client's connection beyond ASGI, and answers that leave in one system call.

uvicorn writes head and body of an answer one after the other, and the small head alone wakes the
client, which takes as long as sending a whole picture.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

# Where a request finds its connection in its ASGI scope's extensions.
CONNECTION = "semsr.connection"
_ESTABLISHED = 1  # tcp_states.h
# Any head, and small answers whole.
_MAX_HELD_BYTES = 4096


class Connection:
    """The connection of a request.

    Attributes:
        is_lost: Whether the server has seen its end.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._on_lost: Callable[[], None] | None = None
        self.is_lost = False

    def watch(self, on_lost: Callable[[], None] | None) -> None:
        """Set the callback for a lost connection; None removes it.

        A connection serves its requests one after the other, so there is only one.
        """
        self._on_lost = on_lost

    def lost(self) -> None:
        """Mark the connection as lost, and run the callback; the protocol calls this."""
        self.is_lost = True
        if self._on_lost is not None:
            self._on_lost()

    def is_open(self) -> bool:
        """Whether the peer is connected, also while nothing is read from it."""
        if self._transport.is_closing():
            return False
        connection = self._transport.get_extra_info("socket")
        if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return True
        try:
            state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        except OSError:
            return False
        return state == _ESTABLISHED

    def set_send_timeout(self, seconds: float) -> None:
        """Set the time after which the kernel gives up on a peer that takes no data."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000)
            )

    def abort(self) -> None:
        """End the connection at once; unsent data are dropped."""
        if not self._transport.is_closing():
            self._transport.abort()


class JoinedWrites:
    """A transport that joins small writes: each is held until the loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (attributes of any type)
        """Forward all other attributes to the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold a small piece; send a larger one at once, after the held data."""
        size = len(data)
        if not size:
            return
        if size + self._held_bytes <= _MAX_HELD_BYTES:
            if not self._held:
                self._loop.call_soon(self._flush)
            self._held.append(data)
            self._held_bytes += size
        elif self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self._transport.writelines([*held, data])
        else:
            self._transport.write(data)

    def send(self, *pieces: bytes | memoryview) -> None:
        """Send pieces at once and together, after the held data."""
        held, self._held, self._held_bytes = self._held, [], 0
        self._transport.writelines([*held, *pieces])

    def close(self) -> None:
        """Send the held data, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.writelines(held)
