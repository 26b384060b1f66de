"""Where a pixel size is read from, and the client's own word for it."""

import struct

import pytest

from service.ground.errors import BadRequest
from service.images.codec import encode
from service.images.metadata import ImageMetadata, PixelSize, format_pixel_size, parse_pixel_size
from tests.service.images.metadata.metadata_files import (
    BMP,
    FEI,
    JPEG,
    PHENOM,
    PNG,
    SR,
    TIFF,
    ZEISS,
    chunk,
    pillow,
    png_with,
    read,
    tiff,
    tiff_with,
)


@pytest.mark.parametrize(
    ("body", "media_type", "source", "expected"),
    [
        (tiff_with(34118, ZEISS), TIFF, "zeiss", (4, 4)),
        (tiff_with(34118, ZEISS.replace(b"AP_I", b"XX_I")), TIFF, "zeiss", (5.582, 5.582)),
        (tiff_with(34682, FEI), TIFF, "fei", (4, 5)),
        (tiff_with(34680, FEI.replace(b"[Scan]", b"[Other]")), TIFF, "fei", (9.9, 5)),
        (tiff_with(34683, PHENOM), TIFF, "fei", (4, 5)),
        (tiff_with(50431, b"\1\0\nPixelSizeX=4e-9\nPixelSizeY=5e-9\n"), TIFF, "tescan", (4, 5)),
        (
            tiff(ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.004, "PhysicalSizeY": 0.005}),
            TIFF, "ome", (4, 5),
        ),
        (
            tiff(ome=True, metadata={
                "axes": "YX", "PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 50, "PhysicalSizeYUnit": "Å",
            }),
            TIFF, "ome", (4, 5),
        ),
        (
            tiff(imagej=True, resolution=(250, 200), metadata={"unit": "micron"}),
            TIFF, "imagej", (4, 5),
        ),
        (
            tiff(imagej=True, resolution=(250, 200), metadata={"unit": "\\u00B5m"}),
            TIFF, "imagej", (4, 5),
        ),
        (tiff(resolution=(2.5e6, 2e6), resolutionunit=3), TIFF, "tiff-resolution", (4, 5)),
        (tiff(resolution=(6.35e6, 5.08e6), resolutionunit=2), TIFF, "tiff-resolution", (4, 5)),
        (
            png_with(chunk(b"pHYs", struct.pack(">IIB", 250_000_000, 200_000_000, 1))),
            PNG, "png-phys", (4, 5),
        ),
        (png_with(chunk(b"sCAL", b"\x014e-9\x000.5E-8")), PNG, "png-scal", (4, 5)),
        (
            png_with(chunk(b"tEXt", b"Description\0<OME><Image><Pixels PhysicalSizeX='0.004' "
                           b"PhysicalSizeY='0.005' SizeX='4'/></Image></OME>")),
            PNG, "ome", (4, 5),
        ),
    ],
)  # fmt: skip
def test_pixel_size_is_read_from_each_statement(
    body: bytes, media_type: str, source: str, expected: tuple[float, float]
) -> None:
    """Vendor texts, OME, ImageJ, resolution tags and PNG chunks all end in nanometres."""
    metadata = read(body, media_type)

    assert PixelSize(*expected) == metadata.pixel_size
    assert source == metadata.pixel_size_source


def test_jpeg_and_bmp_densities_are_read() -> None:
    """JFIF holds at most 65,535 pixels a centimetre, BMP any number a metre."""
    jpeg = bytearray(pillow("JPEG"))
    at = jpeg.index(b"JFIF\0") + 7
    jpeg[at : at + 5] = struct.pack(">BHH", 2, 50_000, 40_000)
    bmp = bytearray(pillow("BMP"))
    bmp[38:46] = struct.pack("<II", 250_000_000, 200_000_000)

    assert PixelSize(200, 250) == read(bytes(jpeg), JPEG).pixel_size
    assert read(bytes(jpeg), JPEG).pixel_size_source == "jfif"
    assert PixelSize(4, 5) == read(bytes(bmp), BMP).pixel_size
    assert read(bytes(bmp), BMP).pixel_size_source == "bmp"


@pytest.mark.parametrize("dpi", [1, 72, 96, 150, 300, 600, 2400])
def test_print_resolutions_are_no_pixel_size(dpi: int) -> None:
    """72 and 96 dpi are the defaults of libraries."""
    for body, media_type in (
        (pillow("PNG", dpi=(dpi, dpi)), PNG),
        (pillow("JPEG", dpi=(dpi, dpi)), JPEG),
        (pillow("BMP", dpi=(dpi, dpi)), BMP),
        (tiff(resolution=(dpi, dpi), resolutionunit=2), TIFF),
    ):
        metadata = read(body, media_type)

        assert metadata.pixel_size is None
        assert metadata.pixel_size_source is None
        assert b"pHYs" not in bytes(encode(SR, PNG, metadata.scaled(4)))


@pytest.mark.parametrize(
    "body",
    [
        tiff(resolution=(2.5e6, 2.5e6), resolutionunit=1),
        tiff(resolution=((0, 1), (0, 1)), resolutionunit=3),
        tiff(resolution=(54321, 54321), resolutionunit=3).replace(
            struct.pack("<II", 54321, 1), struct.pack("<II", 54321, 0)
        ),
        tiff(imagej=True, resolution=(250, 250), metadata={"unit": "pixel"}),
        tiff_with(34118, ZEISS.replace(b"PIXEL_SIZE", b"PIXEL_SIZ")),
        tiff_with(34118, b"AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4 furlong\r\n"),
        tiff_with(34682, b"[Scan]\nPixelWidth=0\n"),
        tiff_with(34682, b"[Scan]\nPixelWidth=nan\n"),
        tiff_with(34682, b"[Scan]\nPixelWidth=1e999\n"),
        tiff_with(34683, b'<pixelWidth unit="parsec">4</pixelWidth>'),
        tiff_with(270, b"<OME><Pixels PhysicalSizeX='4' PhysicalSizeXUnit='pixel'/></OME>"),
        tiff_with(270, b"<OME>no pixels</OME>"),
    ],
)
def test_statements_that_say_nothing_are_unknown(body: bytes) -> None:
    """Zero, NaN, infinity, unknown units and missing values give no pixel size, and no error."""
    assert read(body, TIFF).pixel_size is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x014e-9",
        b"\x02\x34\0\x34",
        b"\x01x\x004",
        b"\x010\x000",
        b"\x01" + b"9" * 500,
    ],
)
def test_odd_scal_chunks_are_unknown(data: bytes) -> None:
    """SCAL in radians, cut short, or without numbers."""
    assert read(png_with(chunk(b"sCAL", data)), PNG).pixel_size is None


@pytest.mark.parametrize("data", [b"", bytes(8), bytes(9), struct.pack(">IIB", 250, 250, 0)])
def test_odd_phys_chunks_are_unknown(data: bytes) -> None:
    """A pHYs chunk of no unit states an aspect ratio only."""
    assert read(png_with(chunk(b"pHYs", data)), PNG).pixel_size is None


@pytest.mark.parametrize(
    "rest", [b"", b"\0\x05\x12abc", b"\0Image Pixel Size = 9 nm\0", b"\0\xff\0"]
)
@pytest.mark.parametrize(
    ("code", "text", "source"),
    [(34118, ZEISS, "zeiss"), (34682, FEI, "fei"), (34683, PHENOM, "fei")],
)
def test_vendor_text_ends_at_its_first_nul(
    code: int, text: bytes, source: str, rest: bytes
) -> None:
    """Tools write C strings in fixed buffers: what stands behind is neither read nor carried."""
    resolution = {"resolution": (100_000, 100_000), "resolutionunit": 3}
    metadata = read(tiff_with(code, text + b"\0" + rest, kind="B", **resolution), TIFF)

    assert metadata.pixel_size is not None
    assert (source, 4) == (metadata.pixel_size_source, metadata.pixel_size.x_nm)
    kept = {item.code: item.value for item in metadata.scaled(4).tiff_texts}[code]
    assert kept.index(b"\0") == len(kept) - 1
    assert metadata.scaled(4).pixel_size == read(tiff_with(code, kept, kind="B"), TIFF).pixel_size


def test_imagej_description_ends_at_its_first_nul() -> None:
    """The unit counts, which gives the resolution tags their meaning."""
    text = b"ImageJ=1.11a\nunit=micron\n\0unit=nm\nrest\0"
    body = tiff_with(270, text, resolution=(250, 200), resolutionunit=1)

    assert PixelSize(4, 5) == read(body, TIFF).pixel_size
    kept = {item.code: item.value for item in read(body, TIFF).scaled(4).tiff_texts}[270]
    assert b"ImageJ=1.11a\nunit=micron\n\0" == kept


@pytest.mark.parametrize("end", [b"", b"\xff", b"\x01\x02", b"\0", b"\r\n", b"\x80\n"])
def test_tescan_value_ends_at_whatever_is_no_text(end: bytes) -> None:
    """A binary record goes on behind its text, with any byte."""
    body = tiff_with(50431, b"\1\2PixelSizeX=4e-9\nPixelSizeY=5e-9" + end, kind="B")

    assert PixelSize(4, 5) == read(body, TIFF).pixel_size


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (34118, b"AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4 furlong\r\n", None),
        (34118, b"1\r\nX\0Y\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4 nm\r\n", None),
        (34118, b"AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4,125 nm\r\n", None),
        (34682, b"[Scan]\nPixelWidth=4e-9 m\n", None),
        (34683, b"<pixelWidth>4</pixelWidth>", None),
        (50431, b"PixelSizeX=4e-9?\n", None),
        # The same digits, a size that no tool has measured, and none at all.
        (34118, b"AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 10,000 nm\r\n", PixelSize(10, 10)),
        (34682, b"[Scan]\nPixelWidth=0.0\n", PixelSize(10, 10)),
        (34682, b"[Scan]\nPixelWidth=\nPixelHeight=\n", PixelSize(10, 10)),
        (34682, b"[Scan]\nDwelltime=4e-9\n", PixelSize(10, 10)),
    ],
)
def test_resolution_is_not_taken_against_a_vendor_text_that_is_not_understood(
    code: int, text: bytes, expected: PixelSize | None
) -> None:
    """Unknown rather than wrong: the instrument states another number than the resolution tags."""
    body = tiff_with(code, text, kind="B", resolution=(1e6, 1e6), resolutionunit=3)

    assert expected == read(body, TIFF).pixel_size


def test_vendor_wins_over_ome_over_resolution() -> None:
    """Tools overwrite resolution tags; the instrument's own text is the truth."""
    ome = b"<OME><Image><Pixels PhysicalSizeX='0.006' PhysicalSizeY='0.006'/></Image></OME>"
    resolution = {"resolution": (1e6, 1e6), "resolutionunit": 3}
    both = [(34118, "s", len(ZEISS), ZEISS, True), (270, "s", len(ome), ome, True)]

    assert read(tiff(extratags=both, **resolution), TIFF).pixel_size == PixelSize(4, 4)
    assert read(tiff(extratags=both[1:], **resolution), TIFF).pixel_size == PixelSize(6, 6)
    assert read(tiff(**resolution), TIFF).pixel_size == PixelSize(10, 10)


def test_header_wins_over_the_file_everywhere() -> None:
    """A pixel size in the request replaces the file's, in vendor texts too."""
    metadata = read(tiff_with(34118, ZEISS), TIFF).with_pixel_size(PixelSize(8, 8)).scaled(4)
    body = bytes(encode(SR, TIFF, metadata))

    assert metadata.pixel_size == PixelSize(2, 2)
    assert metadata.pixel_size_source == "request"
    assert b"Image Pixel Size = 2 nm" in body
    assert b"Width = 8.192" in body
    assert b"4096 * 3072" in body
    assert read(body, TIFF).pixel_size == PixelSize(2, 2)


def test_header_gives_a_size_to_a_file_without_one() -> None:
    """Raw and npy bodies have no other way."""
    metadata = ImageMetadata().with_pixel_size(PixelSize(4, 5)).scaled(4)

    assert metadata.pixel_size == PixelSize(1, 1.25)
    assert format_pixel_size(PixelSize(1, 1.25)) == "1,1.25"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("4", (4, 4)),
        ("4,5", (4, 5)),
        (" 3.70 , 3.7e0 ", (3.7, 3.7)),
        ("1e-1", (0.1, 0.1)),
        ("5.", (5, 5)),
    ],
)
def test_pixel_size_header_is_one_number_or_x_and_y(
    header: str, expected: tuple[float, float]
) -> None:
    """Nanometres a pixel."""
    assert PixelSize(*expected) == parse_pixel_size(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "0",
        "-4",
        "4,0",
        "nan",
        "inf",
        "1e400",
        "4 nm",
        "4,4,4",
        "1_0",
        "\u0664",
        "1e12",
        "4;4",
        "9" * 99,
    ],
)
def test_pixel_size_header_that_cannot_be_read_is_a_bad_request(header: str) -> None:
    """400, with what came and what was expected."""
    with pytest.raises(BadRequest, match="expected one positive number") as caught:
        parse_pixel_size(header)

    assert caught.value.status == 400
