"""Multi-page TIFF, and the spool for formats whose directory may lie anywhere.

The spool is an unnamed file, which no other process can read and which ends with the request.
"""

import asyncio
import functools
import mmap
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, TypeVar

import structlog

from service.ground.errors import ImageTooLarge, InvalidImage, QueueFull, ServiceError
from service.http.stream.entries import Entry, Loaded
from service.http.stream.upload import Upload
from service.images import codec
from service.images.codec.dispatch import MAX_PAGES
from service.images.codec.image import DecodeOptions
from service.images.codec.sniffing import SIGNATURES, TIFF
from service.images.codec.tiff_decode import decode_page
from service.images.codec.tiff_pages import iterate_pages
from service.images.codec.tiff_structure import Directory

log = structlog.get_logger()

Result = TypeVar("Result")

_PIECE_BYTES = 1 << 20


@asynccontextmanager
async def spooled(
    upload: Upload, *, max_bytes: int, folder: Path | None
) -> AsyncGenerator[IO[bytes]]:
    """Write the whole upload to an unnamed temporary file, which is closed after the block.

    Raises:
        ImageTooLarge: It is longer than `max_bytes`.
        QueueFull: The folder is full.
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
    """Turn the OSError of a full or read-only folder into QueueFull."""
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


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Run a function in a thread; if cancelled, wait for its end, as it still uses its file."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # mark it as retrieved
        raise


async def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await in_thread(file.write, view) :]


async def read_tiff(file: IO[bytes]) -> AsyncGenerator[Entry]:
    """Yield the images of a TIFF: its pages, and all images of each.

    Raises:
        InvalidImage: The file or its chain of pages is damaged.
        UnsuitableImage: It holds more than `MAX_PAGES` images.
    """
    body = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if not bytes(body[:4]).startswith(SIGNATURES[TIFF]):
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
