"""One image of a stream whose log line holds its hashes, where the service audits."""

from service.http.audit import ImageLines, digest, pixel_bytes
from service.http.stream.entries import Loaded
from service.images.codec import DecodedImage
from service.images.image_steps import Answer


class Hashed:
    """Hashes an image when it is decoded, so that its bytes need not be kept until its answer."""

    def __init__(self, loaded: Loaded, lines: ImageLines, name: str | None, index: int) -> None:
        """Prepare.

        Args:
            loaded: The image.
            lines: Log lines of the request.
            name: Name that the client gave it, or None.
            index: Number of the image in the stream, from 0.
        """
        self._loaded: Loaded | None = loaded
        self._lines = lines
        self._name = name
        self._index = index
        self._input_sha256 = ""

    def decode(self, max_pixels: int) -> DecodedImage:
        """Decode the image as `Loaded.decode`, and hash it.

        Images that share a file, the pages of a TIFF, have no bytes of their own: their decoded
        pixels are hashed, row by row, in little endian.
        """
        loaded, self._loaded = self._loaded, None
        assert loaded is not None  # noqa: S101 (it is decoded once)
        image = loaded.decode(max_pixels)
        content = loaded.content
        self._input_sha256 = digest(pixel_bytes(image.pixels) if content is None else content)
        return image

    async def write(self, answer: Answer) -> None:
        """Hash the answer and write the line."""
        await self._lines.write(
            self._index, answer=answer.body, input_sha256=self._input_sha256, entry=self._name
        )
