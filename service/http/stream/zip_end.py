"""Finds the end record of a zip archive by strict rules, and shows the archive to `zipfile`."""

import errno
import struct
from typing import IO

from service.ground.errors import InvalidImage, UnsuitableImage

# A zip's directory is read as one piece and becomes a Python object for each entry: this many bytes
# hold some 40,000 entries, and never more than 90,000.
_MAX_ZIP_DIRECTORY_BYTES = 4 << 20
END = struct.Struct("<4s4H2LH")
"""The end record without its comment."""
IN_ZIP64 = 0xFFFF_FFFF
"""Placeholder for a number in a zip64 record."""
_END_MARK = b"PK\x05\x06"
_MAX_COMMENT_BYTES = 0xFFFF
_PIECE_BYTES = 1 << 16


class ArchiveView:
    """A view of the file up to its end record, without the comment; reads are limited in size.

    `zipfile` looks for the last end mark, which may lie in the comment.
    """

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file = file
        self._end = end
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Read from the view, like `IO.read`.

        Raises:
            UnsuitableImage: The piece is larger than a directory may be.
        """
        most = _MAX_ZIP_DIRECTORY_BYTES + 1
        left = max(0, self._end - self._at)
        self._file.seek(self._at)
        data = self._file.read(min(left, most if size < 0 else min(size, most)))
        if len(data) == most:
            raise UnsuitableImage(
                f"the zip's directory has more than {_MAX_ZIP_DIRECTORY_BYTES} bytes; send a tar, "
                "which streams"
            )
        self._at += len(data)
        hidden = min(self._at - (self._end - 2), len(data))  # the length of the comment
        return data[:-hidden] + bytes(hidden) if hidden > 0 else data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position in the view, like `IO.seek`."""
        at = offset + (0, self._at, self._end)[whence]
        if at < 0:
            raise OSError(errno.EINVAL, "before the file")  # as of a file; `zipfile` expects it
        self._at = at
        return at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seekable(self) -> bool:
        """Return True: the view has positions."""
        return True


def find_end(file: IO[bytes], size: int) -> int:
    """Return the start of the end record whose comment ends with the file.

    Zeros may follow the record: bsdtar pads an archive that it writes into a pipe.
    """
    used = _used_bytes(file, size)
    start = max(0, used - END.size - _MAX_COMMENT_BYTES)
    file.seek(start)
    # An end record may itself end with zeros.
    tail = file.read(used - start + END.size)
    exact: list[int] = []
    padded: list[int] = []
    last_end = 0
    at = tail.find(_END_MARK)
    while at >= 0:
        if at + END.size <= len(tail):
            *_, length, offset, comment = END.unpack_from(tail, at)
            end = at + END.size + comment
            last_end = max(last_end, start + end)
            is_inside = offset == IN_ZIP64 or offset + length <= start + at
            if is_inside and used <= start + end <= size:
                (exact if start + end == size else padded).append(start + at)
        at = tail.find(_END_MARK, at + 1)
    fitting = exact or padded
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidImage("the zip has two ends: its comment holds another end record")
    if last_end and last_end < used:
        raise InvalidImage(f"{used - last_end} bytes follow the end of the zip archive")
    raise InvalidImage(
        "the body is not a readable zip archive: it has no end record; it may have been cut"
    )


def _used_bytes(file: IO[bytes], size: int) -> int:
    """Return the size of a file without the zeros at its end."""
    while size:
        start = max(0, size - _PIECE_BYTES)
        file.seek(start)
        if piece := file.read(size - start).rstrip(b"\0"):
            return start + len(piece)
        size = start
    return 0
