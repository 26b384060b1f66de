"""What an answer keeps of its request's metadata, scaled, in every format that states it."""

import io
import json
import struct
import zlib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.codec import decode, encode
from service.errors import BadRequest
from service.metadata import (
    ImageMetadata,
    PixelSize,
    PngChunk,
    TiffText,
    format_pixel_size,
    parse_pixel_size,
)

PNG, TIFF, JPEG, BMP = "image/png", "image/tiff", "image/jpeg", "image/bmp"
LR = np.arange(12, dtype=np.uint8).reshape(3, 4)
SR = LR.repeat(4, 0).repeat(4, 1)

ZEISS = (
    "1\r\n0\r\n0\r\n5.582e-009\r\n0\r\n0\r\n1\r\n"
    "DP_DETECTOR_CHANNEL\r\nSignal A = InLens\r\n"
    "AP_WD\r\nWD =  5.6 mm\r\n"
    "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.000 nm\r\n"
    "AP_PIXEL_SIZE\r\nPixel Size = 5.582 nm\r\n"
    "AP_WIDTH\r\nWidth = 4.096 \xb5m\r\n"
    "AP_MAG\r\nMag =  20.00 K X\r\n"
    "DP_IMAGE_STORE\r\nStore resolution = 1024 * 768\r\n"
).encode("latin-1")

FEI = (
    b"[User]\r\nDate=10/06/2026\r\nUserText=PixelWidth=9 is only text here\r\n\r\n"
    b"[EScan]\r\nPixelWidth=9.9e-009\r\nHorFieldsize=4.096e-006\r\n"
    b"[Scan]\r\nInternalScan=true\r\nDwelltime=1e-006\r\n"
    b"PixelWidth=4e-009\r\nPixelHeight=5e-009\r\nHorFieldsize=4.096e-006\r\n"
    b"[Image]\r\nResolutionX=1024\r\nResolutionY=884\r\nDigitalContrast=1\r\n"
    b"[PrivateFei]\r\nDatabarHeight=60\r\n"
)

PHENOM = (
    b'<?xml version="1.0"?><FeiImage><databarHeight>60</databarHeight>'
    b'<pixelWidth unit="um">0.004</pixelWidth><pixelHeight unit="um">0.005</pixelHeight></FeiImage>'
)


def tiff(**options: Any) -> bytes:
    """Write the small image as TIFF with tifffile."""
    buffer = io.BytesIO()
    options.setdefault("metadata", None)
    tifffile.imwrite(buffer, LR, **options)
    return buffer.getvalue()


def tiff_with(code: int, text: bytes, *, kind: str = "s", **options: Any) -> bytes:
    """Write the small image with one private tag."""
    return tiff(extratags=[(code, kind, len(text), text, True)], **options)


def pillow(kind: str, **options: Any) -> bytes:
    """Write the small image with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(LR).save(buffer, kind, **options)
    return buffer.getvalue()


def read(body: bytes | memoryview, media_type: str) -> ImageMetadata:
    """Return the metadata of a file."""
    return decode(body, media_type, shape=None, dtype=None, max_pixels=10**6).metadata


def answered(
    body: bytes, media_type: str, answer: str = TIFF, sr: np.ndarray[Any, Any] = SR
) -> bytes:
    """Return the answer to a file, upscaled four times."""
    return bytes(encode(sr, answer, read(body, media_type).scaled(4)))


def tags_of(body: bytes) -> dict[int, Any]:
    """Return the tags of a TIFF as tifffile reads them."""
    with tifffile.TiffFile(io.BytesIO(body)) as file:
        return {tag.code: tag.value for tag in file.pages.first.tags}


def chunk(kind: bytes, data: bytes) -> bytes:
    """Frame a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    """Return the small image as PNG with chunks after its header."""
    body = pillow("PNG")
    return body[:33] + b"".join(chunks) + body[33:]


def nm_from_tiff(body: bytes) -> tuple[float, float]:
    """Return a TIFF's pixel size from its resolution tags, in nanometres."""
    tags = tags_of(body)
    per_m = {2: 1 / 0.0254, 3: 100}[int(tags[296])]
    x, y = (float(Fraction(*tags[code])) * per_m for code in (282, 283))
    return round(1e9 / x, 6), round(1e9 / y, 6)


# ------------------------------------------------------------------------------ where it is read


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
    """72 and 96 dpi are what libraries write when nobody told them anything."""
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


def test_vendor_wins_over_ome_over_resolution() -> None:
    """Tools overwrite resolution tags; the instrument's own text is the truth."""
    ome = b"<OME><Image><Pixels PhysicalSizeX='0.006' PhysicalSizeY='0.006'/></Image></OME>"
    resolution = {"resolution": (1e6, 1e6), "resolutionunit": 3}
    both = [(34118, "s", len(ZEISS), ZEISS, True), (270, "s", len(ome), ome, True)]

    assert read(tiff(extratags=both, **resolution), TIFF).pixel_size == PixelSize(4, 4)
    assert read(tiff(extratags=both[1:], **resolution), TIFF).pixel_size == PixelSize(6, 6)
    assert read(tiff(**resolution), TIFF).pixel_size == PixelSize(10, 10)


# ----------------------------------------------------------------------------- what is scaled


def test_zeiss_text_is_scaled_and_otherwise_untouched() -> None:
    """4 nm becomes 1 nm, 1024 × 768 becomes 4096 × 3072; field width and header stay."""
    expected = (
        ZEISS.replace(b"4.000 nm", b"1 nm")
        .replace(b"5.582 nm", b"1.3955 nm")
        .replace(b"1024 * 768", b"4096 * 3072")
    )
    with tifffile.TiffFile(io.BytesIO(answered(tiff_with(34118, ZEISS), TIFF))) as file:
        sem = file.sem_metadata or {}

        assert ("Image Pixel Size", 1.0, "nm") == sem["ap_image_pixel_size"]
        assert ("Store resolution", "4096 * 3072") == sem["dp_image_store"]
        assert ("Width", 4.096, "\xb5m") == sem["ap_width"]
        assert sem[""][3] == 5.582e-9
    assert expected in answered(tiff_with(34118, ZEISS), TIFF)


def test_fei_text_is_scaled_and_otherwise_untouched() -> None:
    """Every section's pixel size, the image size and the data bar; never free text."""
    expected = (
        FEI.replace(b"=9.9e-009", b"=2.475e-09")
        .replace(b"=4e-009", b"=1e-09")
        .replace(b"=5e-009", b"=1.25e-09")
        .replace(b"X=1024", b"X=4096")
        .replace(b"Y=884", b"Y=3536")
        .replace(b"DatabarHeight=60", b"DatabarHeight=240")
    )
    for code in (34680, 34682):
        body = answered(tiff_with(code, FEI), TIFF)

        assert expected in body
        assert nm_from_tiff(body) == (1, 1.25)
    with tifffile.TiffFile(io.BytesIO(body)) as file:
        found = file.fei_metadata or {}

        assert found["Scan"]["PixelWidth"] == 1e-9
        assert found["Image"]["ResolutionX"] == 4096


def test_phenom_xml_is_scaled() -> None:
    """Value and unit stay apart; the data bar grows with the image."""
    body = answered(tiff_with(34683, PHENOM), TIFF)

    assert b'<pixelWidth unit="um">0.001</pixelWidth>' in body
    assert b'<pixelHeight unit="um">0.00125</pixelHeight>' in body
    assert b"<databarHeight>240</databarHeight>" in body


def test_tescan_record_is_read_but_not_carried() -> None:
    """Its lengths are unknown, so its pixel size could not be changed."""
    body = answered(tiff_with(50431, b"PixelSizeX=4e-9\nPixelSizeY=4e-9\n"), TIFF)

    assert 50431 not in tags_of(body)
    assert nm_from_tiff(body) == (1, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ome_answer_is_valid_for_tifffile(dtype: type) -> None:
    """Sizes, physical sizes and type follow the answer, so that OME readers open it."""
    source = io.BytesIO()
    sizes = {"PhysicalSizeX": 4.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 5.0,
             "PhysicalSizeYUnit": "nm", "SignificantBits": 12}  # fmt: skip
    tifffile.imwrite(source, LR.astype(np.uint16), ome=True, metadata={"axes": "YX"} | sizes)
    body = answered(source.getvalue(), TIFF, sr=SR.astype(dtype))

    with tifffile.TiffFile(io.BytesIO(body)) as file:
        pixels = tifffile.xml2dict(str(file.ome_metadata))["OME"]["Image"]["Pixels"]
        np.testing.assert_array_equal(SR, file.series[0].asarray())

        assert file.is_ome
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (1.0, 1.25)
        assert (pixels["SizeX"], pixels["SizeY"], pixels["SizeC"]) == (16, 12, 1)
        assert (pixels["Type"], pixels["SignificantBits"]) == (
            np.dtype(dtype).name, np.dtype(dtype).itemsize * 8
        )  # fmt: skip


def test_ome_of_an_rgb_image_becomes_one_channel() -> None:
    """Grey stored as RGB is answered as one channel, and the XML says so."""
    source = io.BytesIO()
    rgb = np.repeat(LR[..., np.newaxis], 3, -1)
    tifffile.imwrite(source, rgb, ome=True, photometric="rgb", metadata={"axes": "YXS"})

    with tifffile.TiffFile(io.BytesIO(answered(source.getvalue(), TIFF))) as file:
        np.testing.assert_array_equal(SR, file.series[0].asarray())


def test_ome_entities_are_never_expanded() -> None:
    """The text is matched, not parsed: an entity bomb is carried as the text it is."""
    bomb = (
        b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 99 + b'"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        b"<OME><Pixels SizeX='4' PhysicalSizeX='0.004' PhysicalSizeY='0.004'/>&b;</OME>"
    )
    body = answered(tiff_with(270, bomb), TIFF)

    assert len(body) < len(bomb) + SR.nbytes + 500
    assert b"PhysicalSizeX='0.001'" in body


def test_imagej_answer_has_its_pixel_size_in_its_own_unit() -> None:
    """The unit stays in the description, the resolution follows it, the display range goes."""
    body = answered(
        tiff(
            imagej=True, resolution=(250, 200),
            metadata={"unit": "um", "min": 100.0, "max": 60000.0, "xorigin": 10},
        ),
        TIFF,
    )  # fmt: skip
    with tifffile.TiffFile(io.BytesIO(body)) as file:
        found = file.imagej_metadata
        tags = file.pages.first.tags

        assert found is not None
        assert (found["unit"], found["xorigin"]) == ("um", 40)
        assert "max" not in found
        assert (tags[296].value, tags[282].value, tags[283].value) == (1, (1000, 1), (800, 1))


def test_array_shape_of_tifffile_is_not_carried() -> None:
    """Its description would contradict the answer's size; what else it says is kept."""
    plain, spoken = tiff(metadata={}), tiff(metadata={"tool": "A7"})
    with tifffile.TiffFile(io.BytesIO(answered(plain, TIFF))) as file:
        assert 270 not in file.pages.first.tags
        assert file.series[0].shape == (12, 16)
    with tifffile.TiffFile(io.BytesIO(answered(spoken, TIFF))) as file:
        description = json.loads(file.pages.first.description)

        assert description == {"tool": "A7"}
        assert file.series[0].shape == (12, 16)


def test_descriptive_tags_are_carried_and_others_are_not() -> None:
    """Make, model, software, date, artist and description; no orientation, no ICC profile."""
    texts = {270: "wafer 17", 271: "Zeiss", 272: "Supra", 305: "scan 2", 306: "2026:11:22 10:11:12",
             315: "line A", 33432: "fab"}  # fmt: skip
    extra = [(code, "s", 0, text, True) for code, text in texts.items()]
    extra += [(34675, "B", 4, b"icc!", True), (50839, "B", 4, b"ijmd", True)]
    tags = tags_of(answered(tiff(extratags=extra, software=False), TIFF))

    assert texts == {code: tags[code] for code in texts}
    assert not {34675, 50839, 274} & tags.keys()


@pytest.mark.parametrize("nm", [1.0, 4.0, 3.7, 0.275, 13.1, 1234.5, 0.01])
@pytest.mark.parametrize("answer", [PNG, TIFF])
def test_pixel_size_survives_every_answer_that_can_hold_it(nm: float, answer: str) -> None:
    """Written and read again, to nine digits, in x and y."""
    body = encode(SR, answer, ImageMetadata(PixelSize(nm, 2 * nm), "request"))

    assert PixelSize(nm, 2 * nm) == read(body, answer).pixel_size


@settings(deadline=None)
@given(
    x_nm=st.floats(0.01, 9000), y_nm=st.floats(0.01, 9000), scale=st.sampled_from([2, 4])
)  # fmt: skip
def test_any_pixel_size_is_divided_by_the_scale_in_png_and_tiff(
    x_nm: float, y_nm: float, scale: int
) -> None:
    """From a TIFF to a PNG and back: the size is the same to one part in a hundred million."""
    size = PixelSize(x_nm, y_nm)
    body = bytes(encode(LR, TIFF, ImageMetadata(size, "request").scaled(scale)))
    through_png = bytes(encode(LR, PNG, read(body, TIFF)))
    found = read(encode(LR, TIFF, read(through_png, PNG)), TIFF).pixel_size

    assert found is not None
    assert found.x_nm == pytest.approx(x_nm / scale, rel=1e-8)
    assert found.y_nm == pytest.approx(y_nm / scale, rel=1e-8)


def test_png_states_its_pixel_size_twice() -> None:
    """PHYs for every reader, as far as its whole numbers go; sCAL exactly, and below 0.47 nm."""
    body = bytes(encode(SR, PNG, ImageMetadata(PixelSize(1, 1), "request")))
    fine = bytes(encode(SR, PNG, ImageMetadata(PixelSize(0.2, 0.2), "request")))
    with Image.open(io.BytesIO(body)) as picture:
        assert picture.info["dpi"] == pytest.approx((25_400_000, 25_400_000))
    assert chunk(b"pHYs", struct.pack(">IIB", 10**9, 10**9, 1)) in body
    assert chunk(b"sCAL", b"\x011e-09\x001e-09") in body
    assert b"pHYs" not in fine
    assert read(fine, PNG).pixel_size == PixelSize(0.2, 0.2)


# ---------------------------------------------------------------------------- PNG texts, limits


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


@pytest.mark.parametrize("code", [270, 34118, 34680, 34682, 34683])
@settings(deadline=None)
@given(text=st.binary(max_size=400))
def test_any_vendor_text_can_be_rescaled(code: int, text: bytes) -> None:
    """Whatever a tag holds, reading, scaling and writing raise nothing."""
    for prefix in (
        b"",
        b"<OME><Pixels PhysicalSizeX='",
        b"ImageJ=1\nunit=",
        b"[Scan]\nPixelWidth=",
    ):
        metadata = ImageMetadata(tiff_texts=(TiffText(code, 2, prefix + text),)).scaled(4)
        body = bytes(encode(SR, TIFF, metadata))

        np.testing.assert_array_equal(SR, tifffile.imread(io.BytesIO(body)))


# ------------------------------------------------------------------------- the client's own word


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


def test_scaling_twice_is_scaling_once() -> None:
    """Two steps of two are one of four."""
    metadata = read(tiff_with(34118, ZEISS), TIFF)

    assert metadata.scaled(4) == metadata.scaled(2).scaled(2)
