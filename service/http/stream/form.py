"""A stream of tiles that arrives as the one file of a form: for clients that can only send forms.

Clients generated from the OpenAPI description know two kinds of binary body: raw bytes and a form.
The file is passed on as it arrives, like the body of a request.
"""

from collections.abc import Mapping
from typing import Any

from service.ground.errors import UnsupportedMediaType
from service.http.stream.upload import Upload
from service.images.media_types import parse_media_type
from service.images.multipart import FormReader

_PIECE_BYTES = 1 << 16


class FormUpload:
    """The file of a form as an upload."""

    def __init__(self, upload: Upload, content_type: str) -> None:
        """Prepare; nothing is read yet.

        Args:
            upload: Whole form.
            content_type: Content-Type header of the request.

        Raises:
            BadRequest: It has no boundary.
        """
        self._upload = upload
        self._form = FormReader(content_type)
        self._is_complete = False

    async def open(self, readable: tuple[str, ...]) -> str:
        """Read the headers of the file; raises as `Upload.read` and `FormReader` do.

        Args:
            readable: Media types that the file may have.

        Returns:
            Media type of the file.

        Raises:
            UnsupportedMediaType: It is another type.
        """
        while not self._form.has_begun() and not self._is_complete:
            await self._fill()
        media_type = parse_media_type(self._form.media_type())
        if media_type not in readable:
            raise UnsupportedMediaType(
                f"the file in the form is {media_type[:80]!r}; expected {', '.join(readable)}"
            )
        return media_type

    async def receive(self) -> Mapping[str, Any]:
        """Return the next bytes of the file, like ASGI's `receive`."""
        content = self._form.take()
        while not content and not self._is_complete:
            await self._fill()
            content = self._form.take()
        return {"type": "http.request", "body": content, "more_body": not self._is_complete}

    async def _fill(self) -> None:
        part = await self._upload.read_some(_PIECE_BYTES)
        if part:
            self._form.write(part)
        else:
            self._form.finish()
            self._is_complete = True
