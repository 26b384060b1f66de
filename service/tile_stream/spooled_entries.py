"""Multi-page TIFF and zip: their directories lie anywhere, so they are spooled, then read.

The spool is a file without a name in the file system, readable by nobody else, gone with the
request however that ends.
"""

import asyncio
import functools
import mmap
import struct
import tempfile
import zipfile
import zlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, TypeVar

import structlog

from service import codec
from service.codec.image import DecodeOptions
from service.codec.tiff_decode import decode_page
from service.codec.tiff_pages import iterate_pages
from service.codec.tiff_structure import Directory
from service.errors import ImageTooLarge, InvalidImage, QueueFull, ServiceError, UnsuitableImage
from service.tile_stream.entries import Entry, Loaded, loaded_file, refused, usable_name
from service.tile_stream.upload import Upload

log = structlog.get_logger()

Result = TypeVar("Result")

TIFF, ZIP = "image/tiff", "application/zip"
MAX_PAGES = 100_000
# A zip's directory is read as one piece and becomes a Python object for each entry: this many bytes
# hold some 40,000 entries, and never more than 90,000.
_MAX_ZIP_DIRECTORY_BYTES = 4 << 20
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_READABLE_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_PIECE_BYTES = 1 << 20
# What `zipfile` raises beside its own error when offsets and lengths lead astray.
_DAMAGE = (struct.error, EOFError, OSError, ValueError, RuntimeError)


@asynccontextmanager
async def spooled(
    upload: Upload, *, max_bytes: int, folder: Path | None
) -> AsyncGenerator[IO[bytes]]:
    """Write the whole upload to a nameless temporary file, which ends with the block.

    Raises:
        ImageTooLarge: It is longer than `max_bytes`.
        QueueFull: There is no room in the folder.
        InvalidImage: It is empty.
    """
    with _reported():
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed below)
    with file:
        with _reported():
            await _fill(file, upload, max_bytes)
        yield file


@contextmanager
def _reported() -> Generator[None]:
    """Turn a folder without room, or that cannot be written, into an answer."""
    try:
        yield
    except OSError as error:
        log.error("spool_failed", error=str(error))  # noqa: TRY400 (the reason says all)
        raise QueueFull(
            "the service has no room to spool this upload", retry_after_s=5.0
        ) from error


async def _fill(file: IO[bytes], upload: Upload, max_bytes: int) -> None:
    pieces: list[bytes] = []
    gathered = 0
    while part := await upload.read_some(_PIECE_BYTES):
        if upload.position > max_bytes:
            raise ImageTooLarge(
                f"the body has {upload.position} bytes or more; at most {max_bytes} of this type "
                "are spooled (SEMSR_MAX_SPOOL_BYTES). Raw, npy and tar stream without a limit"
            )
        pieces.append(part)
        gathered += len(part)
        if gathered >= _PIECE_BYTES:
            await _write(file, b"".join(pieces))
            pieces, gathered = [], 0
    await _write(file, b"".join(pieces))
    if not upload.position:
        raise InvalidImage("the body is empty")


async def _in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Run a function in a thread; do not leave before it has, for its file is closed with us."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # nobody is left to be told
        raise


async def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await _in_thread(file.write, view) :]


async def read_tiff(file: IO[bytes]) -> AsyncGenerator[Entry]:
    """Yield the images of a TIFF: its pages, and of each all that it holds.

    Raises:
        InvalidImage: The file or its chain of pages is damaged.
        UnsuitableImage: It holds more than `MAX_PAGES` images.
    """
    body = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if bytes(body[:4]) not in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        raise InvalidImage(
            f"Content-Type is {TIFF} but the body begins with the bytes {body[:8].hex(' ')}"
        )

    def decode(page: Directory, max_pixels: int) -> codec.DecodedImage:
        try:
            return decode_page(page, DecodeOptions(None, None, max_pixels))
        except ServiceError:
            raise
        except Exception as error:
            raise InvalidImage(f"the page does not decode: {type(error).__name__}") from error

    async def load(page: Directory) -> Loaded:
        return Loaded(TIFF, functools.partial(decode, page), 0)

    # A page's bytes stay in the file until they are decoded: it takes no memory before.
    for page in iterate_pages(body, most=MAX_PAGES):
        yield Entry(None, 0, functools.partial(load, page))


async def read_zip(file: IO[bytes], *, max_entry_bytes: int) -> AsyncGenerator[Entry]:
    """Yield the files of a zip archive, stored or deflated; directories are passed over.

    Args:
        file: The archive.
        max_entry_bytes: Entries that are larger, unpacked, are refused, whatever they claim.

    Raises:
        InvalidImage: It is no zip archive, or its entries overlap.
        UnsuitableImage: Its directory is too large.
    """
    archive = await _in_thread(_open_zip, file)
    for info in archive.infolist():
        if info.is_dir():
            continue
        name = usable_name(info.filename)
        refusal = _zip_refusal(info, name, max_entry_bytes)
        if refusal is not None:
            yield refused(name, refusal)
            continue
        load = functools.partial(_load_zip_entry, archive, info)
        yield Entry(name, info.file_size, load)


class _BoundedReads:
    """A file that refuses to give a piece larger than a zip's directory may be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        most = _MAX_ZIP_DIRECTORY_BYTES + 1
        data = self._file.read(most if size < 0 else min(size, most))
        if len(data) == most:
            raise UnsuitableImage(
                f"the zip's directory has more than {_MAX_ZIP_DIRECTORY_BYTES} bytes; send a tar, "
                "which streams"
            )
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(_BoundedReads(file))
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        raise InvalidImage(f"the body is no zip archive that can be read: {error}") from error
    end = archive.start_dir
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size > end:
            raise InvalidImage("the zip's entries overlap")
        end = info.header_offset
    return archive


def _zip_refusal(
    info: zipfile.ZipInfo, name: str | None, max_entry_bytes: int
) -> ServiceError | None:
    if name is None:
        return InvalidImage("the entry's name is empty or too long")
    if info.flag_bits & _ENCRYPTED:
        return UnsuitableImage("the entry is encrypted")
    if info.compress_type not in _READABLE_METHODS:
        return UnsuitableImage(
            f"the entry has zip compression {info.compress_type}; expected 0 (stored) or "
            "8 (deflate)"
        )
    if info.file_size > max_entry_bytes:
        return ImageTooLarge(
            f"the entry unpacks to {info.file_size} bytes; at most {max_entry_bytes} are accepted "
            "(SEMSR_MAX_BODY_BYTES)"
        )
    return None


async def _load_zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Loaded:
    return loaded_file(await _in_thread(_unpack, archive, info))


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack one entry; `zipfile` gives no more bytes than the directory claims."""
    try:
        with archive.open(info) as stream:
            return stream.read(info.file_size + 1)
    except ServiceError:
        raise
    except (zipfile.BadZipFile, zlib.error, *_DAMAGE) as error:
        raise InvalidImage(f"the entry does not unpack: {error}") from error
