"""Frames between the service and its shadow process, over a stream socket.

A frame is the length of its head, the head as a JSON object, and the pixels that the head
announces under `bytes`. Both processes come from one installation, so frames have no version.

    shadow ──> service   Hello, or {"failed": reason}
    service ──> shadow   {"shape", "scale"} with LR and served pixels; or {"keep": name}
    shadow ──> service   the figures of the tile, or {"error": text}; {} once pictures are stored
"""

import socket
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

_LENGTH = struct.Struct("<I")
# A head holds a few names and figures.
_MAX_HEAD_BYTES = 64 * 1024


def send_frame(
    connection: socket.socket, head: dict[str, Any], pixels: Sequence[npt.NDArray[np.uint8]] = ()
) -> None:
    """Send one frame.

    Args:
        connection: Connected stream socket, with its time limit.
        head: Fields that JSON can hold.
        pixels: Arrays uint8, sent one after the other in row-major order.

    Raises:
        OSError: The peer is gone, or does not read within the time limit.
    """
    arrays = [np.ascontiguousarray(array) for array in pixels]
    text = orjson.dumps({**head, "bytes": sum(array.nbytes for array in arrays)})
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for array in arrays:
        connection.sendall(array.reshape(-1).data)


def receive_frame(connection: socket.socket) -> tuple[dict[str, Any], bytearray]:
    """Receive one frame.

    Returns:
        Its head, and its pixels one after the other.

    Raises:
        EOFError: The peer has closed the connection.
        OSError: The connection failed, or the time limit has passed.
        ValueError: The bytes are not a frame.
    """
    [length] = _LENGTH.unpack(_read(connection, _LENGTH.size))
    if length > _MAX_HEAD_BYTES:
        raise ValueError(f"a frame's head has {length} bytes; expected at most {_MAX_HEAD_BYTES}")
    head: dict[str, Any] = orjson.loads(_read(connection, length))
    return head, _read(connection, head["bytes"])


def _read(connection: socket.socket, size: int) -> bytearray:
    content = bytearray(size)
    rest = memoryview(content)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            raise EOFError("the other process has closed the connection")
        rest = rest[count:]
    return content
