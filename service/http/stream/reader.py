"""Reads the images of a stream of tiles: one function for the readers of all types."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from service.http.stream.archives import TAR
from service.http.stream.entries import Entry
from service.http.stream.form import FormUpload
from service.http.stream.request import STREAM_TYPES, StreamContext, StreamRequest
from service.http.stream.spooled_entries import read_tiff, spooled
from service.http.stream.stacks import read_npy, read_raw
from service.http.stream.tar_entries import read_tar
from service.http.stream.upload import Receive, Upload
from service.http.stream.zip_entries import read_zip
from service.images.codec.sniffing import NPY, RAW, TIFF
from service.images.request import MULTIPART
from service.settings import Settings


async def read_entries(request: StreamRequest, context: StreamContext) -> AsyncGenerator[Entry]:
    """Yield the images of a request's body, as they arrive or from the spool.

    Args:
        request: Headers of the request.
        context: Connection of the request.

    Raises:
        ServiceError: The rest of the upload is unreadable.
    """
    settings = context.settings
    upload, kind = _make_upload(context.receive, settings), request.media_type
    if kind == MULTIPART:
        form = FormUpload(upload, request.tile.content_type)
        kind = await form.open(STREAM_TYPES)
        upload = _make_upload(form.receive, settings)
    async with aclosing(_read(upload, kind, request, settings)) as entries:
        async for entry in entries:
            yield entry


async def _read(
    upload: Upload, kind: str, request: StreamRequest, settings: Settings
) -> AsyncGenerator[Entry]:
    if kind == RAW:
        entries = read_raw(
            upload,
            shape=request.tile.shape,
            dtype=request.tile.dtype,
            max_pixels=settings.max_pixels,
        )
    elif kind == NPY:
        entries = read_npy(upload, max_pixels=settings.max_pixels)
    elif kind == TAR:
        entries = read_tar(upload, max_entry_bytes=settings.max_body_bytes)
    else:
        limit, folder = settings.max_spool_bytes, settings.spool_dir
        async with spooled(upload, max_bytes=limit, folder=folder) as file:
            entries = (
                read_tiff(file)
                if kind == TIFF
                else read_zip(file, max_entry_bytes=settings.max_body_bytes)
            )
            async for entry in entries:
                yield entry
        return
    async for entry in entries:
        yield entry


def _make_upload(receive: Receive, settings: Settings) -> Upload:
    return Upload(
        receive,
        idle_timeout_s=settings.batch_idle_timeout_s,
        piece_timeout_s=settings.body_timeout_s,
    )
