"""Messages between the processes of a pool: Unix sockets that keep message boundaries.

When a process dies, its peer sees the end of the socket at once. The first message of a turn of the
event loop leaves at once; others of the same turn follow together in one packet, because each
packet wakes the peer. Packets that do not fit into the kernel's buffer wait in the sender.

Addresses are random, and abstract so that no file is left behind. A listener accepts only processes
of the same user.
"""

import asyncio
import itertools
import os
import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable

import structlog

log = structlog.get_logger()

# Larger than any message: the largest is a list of models with their engine processes.
MAX_MESSAGE_BYTES = 128 * 1024
_LENGTH = struct.Struct("<I")
_MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + _LENGTH.size
# Larger packets need memory of the kernel in one piece, which may be missing.
_MAX_JOINED_BYTES = 16 * 1024
_BACKLOG = 128
_ACCEPT_PAUSE_S = 0.1


def listen() -> tuple[socket.socket, str]:
    """Make a listening socket at a random address; returns the socket and its address."""
    name = f"semsr-{secrets.token_hex(16)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener, name


def connect(name: str) -> socket.socket:
    """Connect to an address.

    Raises:
        OSError: No process listens there, or its queue of connections is full.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setblocking(False)
        connection.connect(f"\0{name}")
    except OSError:
        connection.close()
        raise
    return connection


def accept(listener: socket.socket) -> socket.socket | None:
    """Take the next connection; returns None if there is none or another user opened it."""
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return None
    connection.setblocking(False)
    if is_own_user(connection):
        return connection
    log.warning("stranger_refused")
    connection.close()
    return None


def is_own_user(connection: socket.socket) -> bool:
    """Whether the process at the other end belongs to this process's user."""
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, user, _ = struct.unpack("3i", credentials)
    return user == os.geteuid()


def pack_packet(messages: Iterable[bytes]) -> bytes:
    """Join messages into one packet."""
    return b"".join(part for message in messages for part in (_LENGTH.pack(len(message)), message))


def parse_packet(packet: bytes) -> list[bytes]:
    """Return the messages of a packet.

    Raises:
        ValueError: It ends within a message.
    """
    messages: list[bytes] = []
    start = 0
    while start < len(packet):
        end = start + _LENGTH.size
        size = _LENGTH.unpack(packet[start:end])[0] if end <= len(packet) else 0
        start = end + size
        if start > len(packet):
            raise ValueError(f"a packet of {len(packet)} bytes ends within a message")
        messages.append(packet[end:start])
    return messages


class Acceptor:
    """Accepts connections on the running event loop."""

    def __init__(self, listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        """Begin.

        Args:
            listener: Listening socket; its owner closes it.
            take: Callback with each connection.
        """
        self._listener = listener
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        """Stop accepting; call it before the listener is closed."""
        self._loop.remove_reader(self._listener.fileno())
        if self._pause is not None:
            self._pause.cancel()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection = accept(self._listener)
        except OSError as error:
            # No file descriptors are left: without a pause, the waiting connection would be
            # reported again at once, over and over.
            log.warning("cannot_accept", error=str(error))
            self._loop.remove_reader(self._listener.fileno())
            self._pause = self._loop.call_later(_ACCEPT_PAUSE_S, self._resume)
            return
        if connection is not None:
            self._take(connection)


class Channel:
    """One connection on the running event loop."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        on_message: Callable[[bytes], None],
        on_close: Callable[[], None],
    ) -> None:
        """Begin to read.

        Args:
            connection: Connected socket, which the channel closes.
            on_message: Callback with each message.
            on_close: Callback for a peer that has disconnected; not called after `close`.
        """
        self._connection = connection
        self._on_message = on_message
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._outgoing: deque[bytes] = deque()
        # Whether a message has left in this turn of the event loop.
        self._has_sent = False
        self._is_blocked = False
        self._is_open = True
        self._loop.add_reader(connection.fileno(), self._read)

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until there is room; a closed channel drops it.

        Raises:
            ValueError: It is too large to arrive as one message.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(
                f"the message has {len(message)} bytes; expected at most {MAX_MESSAGE_BYTES}"
            )
        if not self._is_open:
            return
        self._outgoing.append(message)
        if not self._has_sent:
            self._has_sent = True
            self._loop.call_soon(self._end_turn)
            self._write()

    def close(self) -> None:
        """Send what waits, as far as there is room, and close without `on_close`."""
        if self._is_open:
            self._write()
            self._is_open = False
            self._loop.remove_reader(self._connection.fileno())
            self._loop.remove_writer(self._connection.fileno())
            self._connection.close()

    def _read(self) -> None:
        while self._is_open:
            try:
                packet = self._connection.recv(_MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lost()
                return
            for message in parse_packet(packet):
                if self._is_open:
                    self._take(message)

    def _take(self, message: bytes) -> None:
        try:
            self._on_message(message)
        except Exception:
            # The messages behind it in the same packet are about other tiles.
            log.exception("message_failed", size=len(message))

    def _end_turn(self) -> None:
        self._has_sent = False
        if self._is_open and not self._is_blocked:
            self._write()

    def _write(self) -> None:
        while self._outgoing:
            count, size = 0, 0
            for message in self._outgoing:
                size += _LENGTH.size + len(message)
                # A single message may be longer, and goes alone.
                if size > _MAX_JOINED_BYTES and count:
                    break
                count += 1
            if not self._try(pack_packet(itertools.islice(self._outgoing, count))):
                break
            for _ in range(count):
                self._outgoing.popleft()
        self._wait_for_room(is_needed=bool(self._outgoing))

    def _wait_for_room(self, *, is_needed: bool) -> None:
        if is_needed and not self._is_blocked:
            self._loop.add_writer(self._connection.fileno(), self._write)
        elif self._is_blocked and not is_needed:
            self._loop.remove_writer(self._connection.fileno())
        self._is_blocked = is_needed

    def _try(self, packet: bytes) -> bool:
        """Send without waiting; False if there is no room. Reading detects a lost peer."""
        try:
            self._connection.send(packet)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _lost(self) -> None:
        if self._is_open:
            self.close()
            self._on_close()
