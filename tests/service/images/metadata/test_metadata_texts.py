"""PNG texts and TIFF descriptions: carried, translated, bounded."""

import io
import zlib

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.images.metadata import PngChunk
from tests.service.images.metadata.metadata_files import (
    PNG,
    TIFF,
    ZEISS,
    answered,
    chunk,
    pillow,
    png_with,
    read,
    tags_of,
    tiff,
    tiff_with,
)


def test_png_texts_are_copied_as_they_are() -> None:
    """Text, compressed text, international text and time keep every byte."""
    chunks = [
        (b"tEXt", b"Software\0scan 2"),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 99)),
        (b"iTXt", b"Title\0\0\0de\0Titel\0\xc3\xa4"),
        (b"tIME", bytes([7, 234, 11, 22, 10, 11, 12])),
    ]
    body = answered(png_with(*(chunk(*item) for item in chunks)), PNG, PNG)
    with Image.open(io.BytesIO(body)) as picture:
        texts = picture.info

    assert all(chunk(*item) in body for item in chunks)
    assert (texts["Software"], texts["Title"]) == ("scan 2", "ä")


def test_png_ome_text_is_scaled() -> None:
    """Also here a pixel size of 4 nm becomes 1 nm."""
    text = (
        b"Description\0<OME><Pixels SizeX='4' PhysicalSizeX='0.004' PhysicalSizeY='0.004'/></OME>"
    )
    body = answered(png_with(chunk(b"tEXt", text)), PNG, PNG)

    assert b"SizeX='16' PhysicalSizeX='0.001' PhysicalSizeY='0.001'" in body


def test_png_texts_become_tiff_tags() -> None:
    """Where a keyword has a tag of the same meaning."""
    info = PngInfo()
    for keyword, text in (
        ("Description", "wafer 17"), ("Software", "scan 2"), ("Author", "Änne"), ("Source", "Supra")
    ):  # fmt: skip
        info.add_text(keyword, text)
    source = pillow("PNG", pnginfo=info)
    time = chunk(b"tIME", bytes([7, 234, 11, 22, 10, 11, 12]))
    tags = tags_of(answered(source[:33] + time + source[33:], PNG, TIFF))

    assert (tags[270], tags[305], tags[272]) == ("wafer 17", "scan 2", "Supra")
    assert (tags[315], tags[306]) == ("Änne", "2026:11:22 10:11:12")


def test_international_png_text_becomes_a_tiff_tag() -> None:
    """Uncompressed iTXt is UTF-8 after four NULs; compressed texts are not opened."""
    plain = chunk(b"iTXt", b"Description\0\0\0\0\0" + "µ-Brücke 線".encode())
    packed = chunk(b"iTXt", b"Software\0\1\0\0\0" + zlib.compress(b"scan 2"))
    tags = tags_of(answered(png_with(plain, packed), PNG, TIFF))

    assert tags[270] == "µ-Brücke 線"
    assert 305 not in tags


def test_tiff_texts_become_png_texts() -> None:
    """Latin-1 as tEXt, the rest as iTXt; machine descriptions and vendor texts stay behind."""
    texts = {270: "µ-bridge", 305: "検査 2", 315: "line A"}
    extra = [(code, "s", 0, text.encode(), True) for code, text in texts.items()]
    source = tiff(extratags=extra, software=False)
    with Image.open(io.BytesIO(answered(source, TIFF, PNG))) as picture:
        found = picture.info

        assert (found["Description"], found["Author"]) == ("µ-bridge", "line A")
        assert found["Software"] == "検査 2"
    for machine in (tiff(ome=True, metadata={"axes": "YX"}), tiff(imagej=True, metadata={})):
        assert b"Description" not in answered(machine, TIFF, PNG)
    assert b"AP_WD" not in answered(tiff_with(34118, ZEISS), TIFF, PNG)


def test_too_long_texts_are_left_out_and_named() -> None:
    """64 KiB an item, 256 KiB in all."""
    long = png_with(chunk(b"tEXt", b"Comment\0" + b"x" * 70_000), chunk(b"tEXt", b"Title\0short"))
    many = png_with(*[chunk(b"tEXt", b"Comment\0" + b"x" * 60_000)] * 5)
    tag = tiff_with(34118, ZEISS + b"x" * 70_000)

    assert read(long, PNG).png_chunks == (PngChunk(b"tEXt", b"Title\0short"),)
    assert read(long, PNG).dropped == ("PNG tEXt (70008 bytes)",)
    assert len(read(many, PNG).png_chunks) == 4
    assert len(read(many, PNG).dropped) == 1
    assert 34118 not in {text.code for text in read(tag, TIFF).tiff_texts}
    assert read(tag, TIFF).dropped[0].startswith("TIFF tag 34118")


def test_thousands_of_small_texts_are_bounded() -> None:
    """The number of carried chunks is bounded too."""
    body = png_with(*[chunk(b"tEXt", b"a\0b")] * 1000)

    assert len(read(body, PNG).png_chunks) == 256
