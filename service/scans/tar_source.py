"""A tar archive of image files as a source; its tiles are read by offset, without unpacking.

`service.images.tar_format` reads the format, as for a batch.
"""

import contextlib
import os
from array import array
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from service.images.tar_format import GoTo, Read, Step, TarMember, is_hidden, read_members
from service.images.tar_headers import REFUSALS, TarDamage
from service.scans.errors import ScanError, SourceDamagedError, StoreLostError, TileError
from service.scans.facts import MAX_SIDECAR_BYTES, Facts, sidecar_facts
from service.scans.sources import (
    Listed,
    SourceImage,
    TileRef,
    check_length,
    check_size,
    media_type,
    read_part,
    split_name,
)
from service.scans.stores import Store, printable, safe_name

_PIECE_BYTES = 1 << 20
_HIDDEN = "hidden"


class TarSource:
    """The regular members of an uncompressed tar archive."""

    def __init__(self, url: str, store: Store, name: str) -> None:
        """Take an archive.

        Args:
            url: URL that it was opened by.
            store: Store of the archive.
            name: Name of the archive in the store.
        """
        self.url = url
        self.io_at_once = store.io_at_once
        self.io_per_thread = store.io_per_thread
        self.notes: list[str] = []
        self._store = store
        self._name = name

    def listing(self) -> Iterator[Listed]:
        """See `Source`.

        A link, a sparse file or the like with the name of a tile is listed as a tile, so that
        reading it reports its kind.

        Raises:
            ScanError: It is not a tar archive, or two members have one name.
            SourceDamagedError: It ends early or goes on after its end; the members before have
                been listed.
        """
        entry = self._store.find(self._name)
        if entry is None:
            raise ScanError(f"{self.url} does not exist")
        # Hashes of a million names take less memory than the names.
        hashes = array("Q")
        damaged: TarDamage | None = None
        try:
            for member in self._members():
                listed = self._listed(member, entry.stamp)
                if listed.suffix != _HIDDEN:
                    hashes.append(_hash(listed.name))
                yield listed
        except TarDamage as damage:
            if not damage.at:
                reason = f"{self.url} is not an uncompressed tar archive: {damage}"
                raise ScanError(reason) from damage
            damaged = damage
        except TileError as error:
            raise ScanError(f"{self.url}: {error}") from error
        self._check_names(np.frombuffer(hashes, np.uint64))
        if damaged is not None:
            raise SourceDamagedError(f"{self.url}: {damaged}") from damaged

    def read(self, tile: TileRef) -> SourceImage:
        """See `Source`."""
        check_size(tile)
        if tile.place < 0:
            kind = REFUSALS[-1 - tile.place]
            raise TileError(f"the member is {kind}; only whole files are read")
        facts: Facts = {}
        if tile.sidecar is not None:
            name, place, size_bytes = tile.sidecar
            content = b""
            if size_bytes <= MAX_SIDECAR_BYTES:
                content = read_part(self._store, self._name, start=place, length=size_bytes)
            facts = sidecar_facts(content, name, size_bytes)
        body = read_part(self._store, self._name, start=tile.place, length=tile.size_bytes)
        check_length(body, tile, self._name)
        return SourceImage(body, media_type(tile.name), None, None, facts)

    def close(self) -> None:
        """See `Source`."""

    def _listed(self, member: TarMember, stamp: str) -> Listed:
        name = safe_name(printable(member.name))
        stem, suffix = split_name(name)
        place = member.data_at
        if is_hidden(name):
            suffix = _HIDDEN
        elif member.refusal is not None:
            place = -1 - REFUSALS.index(member.refusal)
        return Listed(name, stem, suffix, place, member.size, f"{stamp}:{member.data_at}")

    def _members(self) -> Iterator[TarMember]:
        """Yield the members; seeks skip their content."""
        with self._store.open(self._name) as file:
            try:
                size_bytes = file.seek(0, os.SEEK_END)
                file.seek(0)
                members = read_members()
                data = b""
                while True:
                    step = members.send(data) if data else next(members, None)
                    if step is None:
                        return
                    data = b""
                    if isinstance(step, TarMember):
                        yield step
                    else:
                        data = _obey(step, file, size_bytes)
            except OSError as error:
                raise StoreLostError(f"{self.url} cannot be read: {error}") from error

    def _check_names(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Reject an archive with two members of one name, as a tile's name must be unique.

        Raises:
            ScanError: Two members have one name.
        """
        values, counts = np.unique(hashes, return_counts=True)
        doubled = {int(value) for value in values[counts > 1]}
        if not doubled:
            return
        names: Counter[str] = Counter()
        with contextlib.suppress(TarDamage):
            for member in self._members():
                name = printable(member.name)
                if not is_hidden(name) and _hash(name) in doubled:
                    names[name] += 1
        for name, count in names.items():
            if count > 1:
                raise ScanError(
                    f"{self.url} holds {count} members with the name {name}, as where a file was "
                    "appended again; unpack it and scan the folder, or write it without them"
                )


def _obey(step: Step, file: BinaryIO, size_bytes: int) -> bytes:
    """Carry out a step that `read_members` requests; returns the bytes that it read.

    Raises:
        TarDamage: The archive ends too early.
    """
    at = file.tell()
    if isinstance(step, GoTo):
        if step.position > size_bytes:
            missing = step.position - size_bytes
            raise TarDamage(
                f"the tar archive ends after {size_bytes} bytes, {missing} bytes before the end of "
                f"{step.what}; it has been cut",
                at,
            )
        file.seek(step.position)
        return b""
    if not isinstance(step, Read):
        return file.read(_PIECE_BYTES)
    data = file.read(step.size)
    if len(data) == step.size or (step.may_end and not data):
        return data
    raise TarDamage(
        f"the tar archive ends after {at + len(data)} bytes, {step.size - len(data)} bytes before "
        f"the end of {step.what}; it has been cut",
        at,
    )


def _hash(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
