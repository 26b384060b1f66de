"""Metadata carried from a request's file into the answer's file, and their scaling.

A decoder fills one `ImageMetadata`; `scaled` turns its statements into those of the upscaled image;
an encoder writes it in its own format. Anything that could state a pixel size and is not understood
here is left out rather than carried: a wrong number is worse than none.
"""

from dataclasses import dataclass, replace
from typing import Self

from service.images.metadata.pixel_size import PixelSize
from service.images.metadata.rewriting import Rescaling
from service.images.metadata.texts import rescaled_chunk, rescaled_text

# Longest single item (a text chunk, a tag's value) and longest sum that is carried. Vendor texts
# have 1 to 20 KiB; metrology tools do not read longer ones from an answer.
MAX_ITEM_BYTES = 64 * 1024
MAX_TOTAL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class PngChunk:
    """One ancillary PNG chunk, as it lies in the file.

    Attributes:
        kind: Four letters, such as b"tEXt".
        data: Bytes of the chunk without length, type and CRC; never inflated.
    """

    kind: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class TiffText:
    """One TIFF tag whose value is a byte string.

    Attributes:
        code: Number of the tag.
        kind: TIFF type: 1 (BYTE), 2 (ASCII) or 7 (UNDEFINED).
        value: Bytes, including a final NUL where the file has one.
    """

    code: int
    kind: int
    value: bytes


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """The metadata of one image.

    Attributes:
        pixel_size: Size of a pixel on the sample, or None where unknown.
        pixel_size_source: Statement that it was taken from (`zeiss`, `fei`, `ome`, `imagej`,
            `tiff-resolution`, `png-scal`, `png-phys`, `jfif`, `bmp`, `request`), or None.
        png_chunks: Text and time chunks of a PNG.
        tiff_texts: Descriptive and vendor tags of a TIFF.
        dropped: Items too long to carry, by name and size.
    """

    pixel_size: PixelSize | None = None
    pixel_size_source: str | None = None
    png_chunks: tuple[PngChunk, ...] = ()
    tiff_texts: tuple[TiffText, ...] = ()
    dropped: tuple[str, ...] = ()

    def scaled(self, scale: float) -> Self:
        """Return the metadata of the image upscaled `scale` times.

        Pixel sizes are divided by the scale wherever they are stated, image sizes multiplied; the
        width of the field of view does not change.
        """
        size = self.pixel_size
        if size is None and not self.png_chunks and not self.tiff_texts:
            return self  # no statements, as for raw and npy
        return replace(
            self._rescaled(Rescaling(x=1 / scale, y=1 / scale, count=scale)),
            pixel_size=None if size is None else size.times(1 / scale, 1 / scale),
        )

    def with_pixel_size(self, pixel_size: PixelSize, *, source: str = "request") -> Self:
        """Return the metadata with a pixel size that wins over the file's own.

        Vendor and OME statements are brought into line, or dropped where they are not understood,
        so that the answer states one size only.
        """
        rescaling = Rescaling(x=None, y=None, count=1.0, field_x=None, field_y=None)
        if self.pixel_size is not None:
            x, y = pixel_size.x_nm / self.pixel_size.x_nm, pixel_size.y_nm / self.pixel_size.y_nm
            rescaling = Rescaling(x=x, y=y, count=1.0, field_x=x, field_y=y)
        return replace(self._rescaled(rescaling), pixel_size=pixel_size, pixel_size_source=source)

    def _rescaled(self, rescaling: Rescaling) -> Self:
        texts = (
            replace(text, value=rescaled_text(text.code, text.value, rescaling, self.pixel_size))
            for text in self.tiff_texts
        )
        chunks = (
            replace(chunk, data=rescaled_chunk(chunk.kind, chunk.data, rescaling, self.pixel_size))
            for chunk in self.png_chunks
        )
        return replace(
            self,
            tiff_texts=tuple(text for text in texts if text.value.strip(b"\0 \r\n")),
            png_chunks=tuple(chunk for chunk in chunks if chunk.data),
        )


class Allowance:
    """Counts the bytes carried from one file and records the dropped items."""

    def __init__(self) -> None:
        self._left_bytes = MAX_TOTAL_BYTES
        self.dropped: list[str] = []

    def admits(self, name: str, length_bytes: int) -> bool:
        """Return whether an item still fits; otherwise its name is recorded."""
        if length_bytes > MAX_ITEM_BYTES or length_bytes > self._left_bytes:
            self.dropped.append(f"{name} ({length_bytes} bytes)")
            return False
        self._left_bytes -= length_bytes
        return True
