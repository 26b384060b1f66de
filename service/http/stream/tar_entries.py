"""The entries of a tar archive, read as it arrives; `service.images.tar_format` says what it holds.

Nothing is ever written under an entry's name.
"""

import functools
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from service.ground.errors import ImageTooLarge, InvalidImage, UnsuitableImage
from service.http.stream.entries import Entry, Loaded, loaded_file, refused, usable_name
from service.http.stream.upload import Upload
from service.images.tar_format import (
    APPLE_DOUBLE,
    GoTo,
    Read,
    Step,
    TarMember,
    is_from_macos,
    read_members,
)
from service.images.tar_headers import TarDamage

_PIECE_BYTES = 1 << 18


@dataclass
class _Position:
    """Progress within the current entry's data."""

    what: str
    unread: int
    head: bytes = b""


async def read_tar(upload: Upload, *, max_entry_bytes: int) -> AsyncGenerator[Entry]:
    """Yield the files of an archive; other entries are yielded as refused.

    Directories are skipped, and so are the files that macOS adds (`._NAME`, `__MACOSX/`).

    Args:
        upload: Archive.
        max_entry_bytes: Maximum size of a file; larger ones are refused and skipped.

    Raises:
        InvalidImage: The archive is damaged, ends without its end mark, or has data after it.
    """
    members = read_members()
    index = 0
    data = b""
    while True:
        try:
            step = members.send(data) if data else next(members)
        except StopIteration:
            return
        except TarDamage as damage:
            if not upload.position:
                raise InvalidImage("the body is empty; expected a tar archive") from damage
            raise InvalidImage(str(damage)) from damage
        data = b""
        if not isinstance(step, TarMember):
            data = await _obey(step, upload)
            continue
        position = _Position(f"entry {index}", step.size)
        if is_from_macos(step.name) and await _is_beside(step, upload, position):
            continue
        yield _make_entry(upload, step, position, max_entry_bytes)
        index += 1


async def _obey(step: Step, upload: Upload) -> bytes:
    """Carry out a step that `read_members` requests; returns the bytes that it read."""
    if isinstance(step, Read):
        if step.may_end and await upload.is_at_end():
            return b""
        return await upload.read(step.size, step.what)
    if isinstance(step, GoTo):
        await upload.skip(step.position - upload.position, step.what)
        return b""
    return await upload.read_some(_PIECE_BYTES)


async def _is_beside(member: TarMember, upload: Upload, position: _Position) -> bool:
    """Whether a member is an extra file of macOS, by its first bytes, which are kept."""
    if member.refusal is not None or member.name.startswith("__MACOSX/"):
        return member.name.startswith("__MACOSX/")
    position.head = await upload.read(min(len(APPLE_DOUBLE), member.size), position.what)
    position.unread -= len(position.head)
    return position.head == APPLE_DOUBLE


def _make_entry(
    upload: Upload, member: TarMember, position: _Position, max_entry_bytes: int
) -> Entry:
    name = usable_name(member.name)
    if member.refusal is not None:
        return refused(
            name, UnsuitableImage(f"the entry is {member.refusal}; only whole files are read")
        )
    if name is None:
        return refused(
            None,
            InvalidImage(
                f"the entry's name is empty, holds a zero byte, or is too long "
                f"({len(member.name)} characters)"
            ),
        )
    if member.size > max_entry_bytes:
        return refused(
            name,
            ImageTooLarge(
                f"the entry has {member.size} bytes; at most {max_entry_bytes} are accepted "
                "(SEMSR_MAX_BODY_BYTES)"
            ),
        )
    return Entry(name, member.size, functools.partial(_load, upload, position))


async def _load(upload: Upload, position: _Position) -> Loaded:
    size, position.unread = position.unread, 0
    return loaded_file(position.head + await upload.read(size, position.what))
