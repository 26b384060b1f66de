"""Tar archives of tiles, and of their answers, in batch requests."""

import io
import tarfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from semsr_client.answers import Tile, read_json
from semsr_client.errors import bad_answer

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)

# The service's pax records hold a few hundred bytes; more is not one of them.
_MAX_PAX_BYTES = 1 << 16


def tar_entry(tile: Tile) -> bytes:
    """Return a tile as one entry of a tar archive: an npy file, with shape and type."""
    file = io.BytesIO()
    header: Any = np.lib.format.header_data_from_array_1_0(tile)
    np.lib.format.write_array_header_1_0(file, header)
    info = tarfile.TarInfo("tile.npy")
    info.size = file.tell() + tile.nbytes
    padding = bytes(-info.size % BLOCK)
    return b"".join(
        [info.tobuf(tarfile.USTAR_FORMAT), file.getvalue(), tile.data.cast("B"), padding]
    )


@dataclass(frozen=True)
class Entry:
    """One entry of the answer.

    Attributes:
        name: Name of the entry.
        facts: Values that a single answer has as headers; names in lower case.
        body: Content of the entry.
    """

    name: str
    facts: dict[str, str]
    body: bytes


class AnswerReader:
    """Incremental reader of a tar archive; it knows the header types that the service writes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._facts: dict[str, str] = {}
        self.has_ended = False

    def feed(self, data: bytes, *, most_bytes: int) -> list[Entry]:
        """Add bytes, and return the entries that they complete.

        Args:
            data: Next bytes of the archive.
            most_bytes: Largest valid entry in bytes.

        Raises:
            tarfile.TarError: A header is damaged.
            ServiceError: An entry is too large, or its facts cannot be read.
        """
        self._buffer += data
        entries: list[Entry] = []
        start = 0
        while not self.has_ended and len(self._buffer) >= start + BLOCK:
            block = bytes(self._buffer[start : start + BLOCK])
            if not any(block):
                self.has_ended = True
                break
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            is_pax = header.type == tarfile.XHDTYPE
            if not 0 <= header.size <= (_MAX_PAX_BYTES if is_pax else most_bytes):
                raise bad_answer(
                    f"the answer has an entry of {header.size} bytes, expected 0 to {most_bytes}"
                )
            end = start + BLOCK + header.size
            if len(self._buffer) < end + (-header.size % BLOCK):
                break
            body = bytes(memoryview(self._buffer)[start + BLOCK : end])
            start = end + (-header.size % BLOCK)
            if is_pax:
                self._facts = _facts_of(body)
            else:
                entries.append(Entry(header.name, self._facts, body))
                self._facts = {}
        del self._buffer[:start]
        return entries


def _facts_of(pax: bytes) -> dict[str, str]:
    """Read the record `comment`, which holds the values that a single answer has as headers.

    Raises:
        ServiceError: It is malformed.
    """
    try:
        while pax:
            digits = pax.partition(b" ")[0]
            length = int(digits)
            if not len(digits) + 1 < length <= len(pax):
                raise ValueError(f"a record of {length} bytes, of which {len(pax)} are there")  # noqa: TRY301
            record, pax = pax[:length], pax[length:]
            key, _, value = record[len(digits) + 1 : -1].partition(b"=")
            if key == b"comment":
                return {name.lower(): str(text) for name, text in read_json(value).items()}
    except ValueError as error:
        raise bad_answer(f"the facts of a tile in the answer cannot be read: {error}") from error
    return {}
