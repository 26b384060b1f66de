"""Statements of a pixel size: scaled where they are understood to their end, else gone."""

import re
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.images.codec import encode
from service.images.metadata import ImageMetadata, PixelSize, TiffText
from tests.service.images.metadata.metadata_files import (
    PNG,
    SR,
    TIFF,
    answered,
    chunk,
    png_with,
    read,
    tiff,
    tiff_with,
)

ZEISS, FEI, FEI_XML, DESCRIPTION = 34118, 34682, 34683, 270


def zeiss(statement: str, encoding: str = "latin-1") -> bytes:
    """Write a Zeiss text that states a pixel size."""
    return f"0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = {statement}\r\nAP_WD\r\n".encode(
        encoding
    )


def fei(statement: str, encoding: str = "ascii") -> bytes:
    """Write an FEI text that states a pixel size."""
    return f"[Scan]\r\nPixelWidth={statement}\r\nPixelHeight={statement}\r\n[Beam]\r\n".encode(
        encoding
    )


def ome(statement: str, unit: str = "nm") -> bytes:
    """Write an OME text that states a pixel size."""
    return (
        f"<OME><Image><Pixels SizeX='4' SizeY='3' PhysicalSizeX='{statement}' "
        f"PhysicalSizeXUnit='{unit}' "
        f"PhysicalSizeY='{statement}' PhysicalSizeYUnit='{unit}'/></Image></OME>"
    ).encode()


def xml(statement: str, unit: str = "nm", encoding: str = "utf-8") -> bytes:
    """Write a Phenom text that states a pixel size."""
    return (
        f'<FeiImage><pixelWidth unit="{unit}">{statement}</pixelWidth>'
        f'<pixelHeight unit="{unit}">{statement}</pixelHeight></FeiImage>'
    ).encode(encoding)


@pytest.mark.parametrize(
    ("code", "text", "before_nm", "expected"),
    [
        (FEI, fei("4,5e-9"), 4.5, b"PixelWidth=1,125e-09\r\n"),
        (FEI, fei("1,125e-9"), 1.125, b"PixelWidth=2,8125e-10\r\n"),
        (FEI, fei("4.5e-9", "utf-16-le"), 4.5, "PixelWidth=1.125e-09\r\n".encode("utf-16-le")),
        (FEI, fei("4.5e-9", "utf-16"), 4.5, "PixelWidth=1.125e-09\r\n".encode("utf-16-le")),
        (FEI, fei("4,5e-9", "utf-16-be"), 4.5, "PixelWidth=1,125e-09\r\n".encode("utf-16-be")),
        (FEI_XML, xml("4,5"), 4.5, b">1,125</pixelWidth>"),
        (FEI_XML, xml("0.0045", "\xb5m"), 4.5, b">0.001125</pixelWidth>"),
        (FEI_XML, xml("0.0045", "\xb5m", "latin-1"), 4.5, b">0.001125</pixelWidth>"),
        (FEI_XML, xml("0.0045", "\u03bcm"), 4.5, b">0.001125</pixelWidth>"),
        (ZEISS, zeiss("4,5 nm"), 4.5, b"Size = 1,125 nm\r\n"),
        (ZEISS, zeiss("0,125 nm"), 0.125, b"Size = 0,03125 nm\r\n"),
        (ZEISS, zeiss("1.5 \xb5m"), 1500, b"Size = 0.375 \xb5m\r\n"),
        (ZEISS, zeiss("1.5 \xb5m", "utf-8"), 1500, b"Size = 0.375 \xc2\xb5m\r\n"),
        (ZEISS, zeiss("1.5 \u03bcm", "utf-8"), 1500, b"Size = 0.375 \xce\xbcm\r\n"),
        (ZEISS, zeiss("4.5nm"), 4.5, b"Size = 1.125nm\r\n"),
        # Another statement of the text says that a comma is a decimal one.
        (ZEISS, zeiss("4,125 nm\r\nAP_WD\r\nWD =  5,6 mm"), 4.125, b"Size = 1,03125 nm\r\n"),
        (DESCRIPTION, ome("4,5"), 4.5, b"PhysicalSizeX='1,125'"),
        (DESCRIPTION, ome(" 4.5 "), 4.5, b"PhysicalSizeX=' 1.125 '"),
    ],
)
def test_statement_is_read_whole_and_scaled(
    code: int, text: bytes, before_nm: float, expected: bytes
) -> None:
    """Decimal commas, micro signs of both kinds and three encodings, UTF-16; else as it stood."""
    body = tiff_with(code, text)

    assert PixelSize(before_nm, before_nm) == read(body, TIFF).pixel_size
    answer = answered(body, TIFF)
    assert expected in answer
    assert read(body, TIFF).scaled(4).pixel_size == read(answer, TIFF).pixel_size


UNREADABLE = [
    (ZEISS, zeiss("4,125 nm")),  # four and an eighth, or four thousand
    (ZEISS, zeiss("1.234,5 nm")),
    (ZEISS, zeiss("4.5")),
    (ZEISS, zeiss("4.5 furlong")),
    (ZEISS, zeiss("4.5 nm (old)")),
    (ZEISS, zeiss("about 4.5 nm")),
    (ZEISS, b"AP_PIXEL_SIZE\r\nPixel Size: 4.5 nm\r\n"),
    (ZEISS, b"AP_SCAN_PIXEL_SIZE\r\nScan Pixel Size = 4.5 nm\r\n"),
    (FEI, fei("4,500")),
    (FEI, fei("4.5 nm")),
    (FEI, fei("4.5e-9; 4.6e-9")),
    (FEI, fei("nan")),
    (FEI, fei("4.5e-9").replace(b"PixelHeight=4.5e-9", b"PixelHeight=4.5e")),
    (FEI, b"[Scan]\nPixelSize=4.5e-9\n"),
    (FEI, fei("4.5e-9", "utf-32")),
    (FEI_XML, xml("4,500")),
    (FEI_XML, xml("4.5", "parsec")),
    (FEI_XML, b"<PixelSize><X unit='nm'>4.5</X></PixelSize>"),
    (FEI_XML, b"<pixelWidth>4.5</pixelWidth>"),
    (DESCRIPTION, ome("4.5.6")),
    (DESCRIPTION, ome("4,500")),
    (DESCRIPTION, ome("4.5", "furlong")),
    (DESCRIPTION, b"<OME><Pixels  PhysicalSizeX = '4.5'/></OME>"),
    (DESCRIPTION, b"<OME><Pixels/><StructuredAnnotations><Key>PixelWidth</Key><Value>4.5</Value>"
                  b"</StructuredAnnotations></OME>"),
    (DESCRIPTION, b"<OME><Pixels/><Comment>Pixel size 4.5 nm</Comment></OME>"),
    (DESCRIPTION, b"ImageJ=1.54f\npixel_width=4.5\n"),
    (DESCRIPTION, b"PixelSize=4.5\nMagnification=1000\n"),
    (DESCRIPTION, b"Pixel Size (nm): 4.5"),
    (DESCRIPTION, b"scanned with 4.5 nm/px at 5 kV"),
    (DESCRIPTION, "4.5 \xb5m per pixel".encode()),
    (DESCRIPTION, "4.5 \xb5m per pixel".encode("utf-16")),
    (DESCRIPTION, b'{"pixel_size_nm": 4.5, "tool": "A7"}'),
    (305, b"grabber 2, pixelsize 4.5 nm"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text"), UNREADABLE)
def test_statement_that_is_not_understood_is_dropped(code: int, text: bytes) -> None:
    """Neither carried nor multiplied up to its comma; also where the client states the size."""
    body = (
        tiff_with(code, text, software=False)
        if code != 305
        else tiff(extratags=[(305, "s", len(text), text, True)], software=False)
    )
    scaled = read(body, TIFF).scaled(4)
    asked = read(body, TIFF).with_pixel_size(PixelSize(8, 8)).scaled(4)

    assert scaled.pixel_size is None
    for metadata in (scaled, asked):
        for kept in metadata.tiff_texts:
            assert b"4.5" not in kept.value.replace(b"\0", b"").replace(b",", b".")
            assert b"4.125" not in kept.value.replace(b",", b".")
    answer = bytes(encode(SR, TIFF, asked))
    assert PixelSize(2, 2) == read(answer, TIFF).pixel_size


def test_fourth_number_of_a_zeiss_text_follows_the_width_of_the_field() -> None:
    """Readers divide it by the true width; a pixel size of the client's changes it."""
    body = tiff_with(ZEISS, b"0\r\n0\r\n0\r\n5e-009\r\n" + zeiss("4 nm"))

    assert b"0\r\n5e-009\r\n" in answered(body, TIFF)
    asked = read(body, TIFF).with_pixel_size(PixelSize(8, 8)).scaled(4)
    assert b"0\r\n1e-08\r\n" in bytes(encode(SR, TIFF, asked))


@pytest.mark.parametrize("nm", [4.0, 8.0])
def test_texts_that_contradict_the_pixel_size_lose_their_statement(nm: float) -> None:
    """The vendor's own text wins over OME; two sizes never stand in one answer."""
    texts = [(ZEISS, zeiss("4 nm")), (DESCRIPTION, ome(f"{nm}"))]
    body = tiff(extratags=[(code, "s", len(text), text, True) for code, text in texts])

    answer = answered(body, TIFF)

    assert b"Size = 1 nm" in answer
    assert (nm == 4.0) == (b"PhysicalSizeX=" in answer)
    assert (nm == 4.0) == (b"PhysicalSizeXUnit=" in answer)


def test_unit_of_imagej_that_is_not_understood_is_dropped() -> None:
    """It would give a meaning to resolution tags that are written in centimetres."""
    for unit in ("unit=furlong\n", "unit=nm\nyunit=um\n"):
        text = f"ImageJ=1.54f\n{unit}xorigin=4,5\nyorigin=2.5\nloop=false\n".encode()
        body = tiff_with(DESCRIPTION, text, resolution=(250, 250), resolutionunit=1)
        asked = read(body, TIFF).with_pixel_size(PixelSize(8, 8)).scaled(4)

        assert read(body, TIFF).pixel_size is None
        (kept,) = [text.value for text in asked.tiff_texts if text.code == DESCRIPTION]
        assert kept.rstrip(b"\0") == b"ImageJ=1.54f\nxorigin=18\nyorigin=10\n"
        assert PixelSize(2, 2) == read(bytes(encode(SR, TIFF, asked)), TIFF).pixel_size


def test_counts_that_are_not_understood_are_dropped() -> None:
    """A data bar or a resolution in pixels is no longer that of the image."""
    body = tiff_with(FEI, b"[Image]\nResolutionX=1024,5\nResolutionY=1e3\nDatabarHeight=60\n")

    answer = answered(body, TIFF)

    assert b"[Image]\nDatabarHeight=240\n" in answer


@pytest.mark.parametrize(
    "item",
    [
        (b"tEXt", b"PixelSize\x004.5 nm"),
        (b"tEXt", b"Description\0Pixel size: 4.5 nm"),
        (b"iTXt", b"Description\0\0\0\0\x004.5 nm/px"),
        (b"zTXt", b"Description\0\0" + zlib.compress(b"pixel size 4.5 nm")),
        (b"iTXt", b"Description\0\1\0\0\0" + zlib.compress(b"4.5 nm per pixel")),
        (b"zTXt", b"Description\0\0" + zlib.compress(bytes(10**6))),
        (b"zTXt", b"Description\0\0damaged"),
    ],
)
def test_png_text_that_states_a_size_is_dropped(item: tuple[bytes, bytes]) -> None:
    """Compressed too; one that is too long to look at, or damaged, likewise."""
    kept = (b"tEXt", b"Title\0lot 7")
    body = answered(png_with(chunk(*item), chunk(*kept)), PNG, PNG)

    assert item[0] + item[1] not in body
    assert b"4.5" not in body
    assert chunk(*kept) in body


NUMBERS = st.one_of(
    st.floats(0.01, 9000).map(lambda value: f"{value:.4g}"),
    st.floats(0.01, 9000).map(lambda value: f"{value:.3f}"),
    st.floats(1e-9, 1e-6).map(lambda value: f"{value:e}"),
    st.from_regex(
        r"[-+]?[0-9]{0,4}[.,]?[0-9]{0,4}[.,]?[0-9]{0,4}([eE][-+]?[0-9]{0,2})?", fullmatch=True
    ),
    st.text("0123456789.,eE+- ", max_size=12),
).flatmap(lambda text: st.sampled_from([text, text.replace(".", ",")]))
UNITS = st.sampled_from(["", " nm", "nm", " \xb5m", " \u03bcm", " um", " px", " nm?", " mm²", ","])
ENCODINGS = st.sampled_from(["utf-8", "latin-1", "utf-16-le", "utf-16"])
LINE = re.compile(r"(?:Size = |PixelWidth=|<pixelWidth unit=\"nm\">|PhysicalSizeX=')([^\r\n<']*)")


@settings(deadline=None, max_examples=100)
@given(
    kind=st.sampled_from([ZEISS, FEI, FEI_XML, DESCRIPTION]),
    number=NUMBERS,
    unit=UNITS,
    encoding=ENCODINGS,
    asked=st.booleans(),
)
@example(FEI, "4,5e-9", "", "utf-8", False)
@example(ZEISS, "1,5", " \u03bcm", "utf-8", True)
def test_every_statement_of_an_answer_is_scaled_or_gone(
    kind: int, number: str, unit: str, encoding: str, asked: bool
) -> None:
    """For any number and unit: never the input's, never a part of it multiplied."""
    write = {ZEISS: zeiss, FEI: fei, FEI_XML: xml, DESCRIPTION: ome}[kind]
    text = write("STATEMENT").decode("ascii")
    value = text.replace("STATEMENT", number + unit if kind == ZEISS else number).encode(
        encoding, "replace"
    )
    metadata = read(tiff_with(kind, value), TIFF)
    before = metadata.pixel_size
    after = metadata.with_pixel_size(PixelSize(8, 8)).scaled(4) if asked else metadata.scaled(4)

    for kept in after.tiff_texts:
        if kept.code != kind:
            continue
        shown = kept.value.rstrip(b"\0").decode(encoding, "replace") if kept.value else ""
        for found in LINE.findall(shown):
            if not found.strip() and not number.strip():
                continue  # nothing stated, nothing carried
            assert before is not None
            expected = float(number.replace(",", ".")) * (8 / before.x_nm / 4 if asked else 1 / 4)
            written = float("".join(re.findall(r"^[-+0-9.,eE ]*", found)).replace(",", "."))
            assert written == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("code", [DESCRIPTION, ZEISS, FEI, FEI_XML, 305])
@pytest.mark.parametrize("begin", [b"", b"<OME pixel size", b"ImageJ=1\npixel size\n"])
def test_longest_texts_are_matched_in_linear_time(code: int, begin: bytes) -> None:
    """64 KiB of what begins a statement again and again; by the square it would take minutes."""
    for part in (b"pixel ", b"pix", b"nm ", b"=1,1", b"<OME><Pixels ", b"xorigin=1\n", b"0, ",
                 b"<StructuredAnnotations>pixel size"):  # fmt: skip
        text = (begin + part * 65_536)[:65_536]
        metadata = ImageMetadata(PixelSize(4, 4), tiff_texts=(TiffText(code, 2, text),))

        assert all(len(kept.value) <= 2 * 65_536 for kept in metadata.scaled(4).tiff_texts)
