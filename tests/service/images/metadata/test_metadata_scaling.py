"""What becomes of every statement of a pixel size when the image grows."""

import io
import json
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.images.codec import encode
from service.images.metadata import ImageMetadata, PixelSize, TiffText
from tests.service.images.metadata.metadata_files import (
    FEI,
    LR,
    PHENOM,
    PNG,
    SR,
    TIFF,
    ZEISS,
    answered,
    chunk,
    nm_from_tiff,
    read,
    tags_of,
    tiff,
    tiff_with,
)


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
    """Every section's pixel size, image size and data bar; free text that states one goes."""
    expected = (
        FEI.replace(b"UserText=PixelWidth=9 is only text here\r\n", b"")
        .replace(b"=9.9e-009", b"=2.475e-09")
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


def test_pixel_size_beyond_a_rational_is_left_out_of_a_tiff() -> None:
    """A hundredth of an atom has no resolution tag; the file is still good."""
    body = bytes(encode(SR, TIFF, ImageMetadata(PixelSize(0.001, 0.001), "request")))

    assert not {282, 283, 296} & tags_of(body).keys()


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


@pytest.mark.parametrize("code", [270, 34118, 34680, 34682, 34683])
@settings(deadline=None, max_examples=30)
@given(text=st.binary(max_size=400))
def test_any_vendor_text_can_be_rescaled(code: int, text: bytes) -> None:
    """For any content of a tag, reading, scaling and writing raise no error."""
    for prefix in (
        b"",
        b"<OME><Pixels PhysicalSizeX='",
        b"ImageJ=1\nunit=",
        b"[Scan]\nPixelWidth=",
    ):
        metadata = ImageMetadata(tiff_texts=(TiffText(code, 2, prefix + text),)).scaled(4)
        body = bytes(encode(SR, TIFF, metadata))

        np.testing.assert_array_equal(SR, tifffile.imread(io.BytesIO(body)))


def test_scaling_twice_is_scaling_once() -> None:
    """Two steps of two are one of four."""
    metadata = read(tiff_with(34118, ZEISS), TIFF)

    assert metadata.scaled(4) == metadata.scaled(2).scaled(2)
