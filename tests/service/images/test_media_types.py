"""Which decoder reads a body and which encoder writes the answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ground.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from service.images.codec import DECODERS, ENCODERS
from service.images.media_types import (
    ANSWER_TYPES,
    READABLE_TYPES,
    choose_answer,
    parse_media_type,
    readable_type,
)

PNG, TIFF, JPEG, BMP, JXL = "image/png", "image/tiff", "image/jpeg", "image/bmp", "image/jxl"
NPY, RAW, ZSTD = "application/x-npy", "application/octet-stream", "application/zstd"


def test_types_are_those_of_the_contract() -> None:
    """The HTTP contract names six types that are read and six that are answered."""
    assert {PNG, TIFF, JPEG, BMP, NPY, RAW} == set(READABLE_TYPES) == set(DECODERS)
    assert {PNG, TIFF, JXL, NPY, RAW, ZSTD} == set(ANSWER_TYPES) == set(ENCODERS)


@pytest.mark.parametrize("media_type", READABLE_TYPES)
def test_readable_types_are_recognised(media_type: str) -> None:
    """With parameters, spaces and capitals too."""
    assert media_type == readable_type(media_type)
    assert media_type == readable_type(f'  {media_type.upper()} ; charset=utf-8; x="a;b"')


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("image/x-ms-bmp", BMP), ("image/jpg", JPEG), ("image/pjpeg", JPEG), ("image/tif", TIFF),
        ("image/x-png", PNG), ("application/npy", NPY), ("application/x-zstd", ZSTD),
    ],
)  # fmt: skip
def test_other_names_of_a_type_are_known(alias: str, expected: str) -> None:
    """Windows and old libraries have their own names."""
    assert expected == parse_media_type(alias)


@pytest.mark.parametrize(
    "content_type", ["image/gif", "text/plain", "application/json", ZSTD, JXL, "image/*", "*/*"]
)
def test_other_types_are_unsupported(content_type: str) -> None:
    """415 says what came and what is read."""
    with pytest.raises(UnsupportedMediaType, match="image/png, image/tiff") as caught:
        readable_type(content_type)

    assert caught.value.status == 415


@pytest.mark.parametrize("content_type", [None, "", "  "])
def test_missing_type_is_unsupported(content_type: str | None) -> None:
    """A body without a Content-Type is not guessed at."""
    with pytest.raises(UnsupportedMediaType, match="no Content-Type"):
        readable_type(content_type)


@pytest.mark.parametrize(
    "text", ["png", "image/", "/png", "image png", "image/png/x", "im age/png"]
)
def test_malformed_types_are_bad_requests(text: str) -> None:
    """400 for text that is not a media type."""
    with pytest.raises(BadRequest, match="not a media type"):
        parse_media_type(text)
    with pytest.raises(BadRequest, match="no media type"):
        choose_answer(text, PNG)


@pytest.mark.parametrize("accept", [None, "", " , ", "*/*", "*/*;q=0.1", "text/html, */*;q=0.8"])
@pytest.mark.parametrize(
    ("request_type", "expected"),
    [(PNG, PNG), (TIFF, TIFF), (JPEG, PNG), (BMP, PNG), (NPY, NPY), (RAW, RAW)],
)
def test_anything_accepted_means_the_type_of_the_request(
    accept: str | None, request_type: str, expected: str
) -> None:
    """JPEG and BMP are answered in PNG, everything else in kind."""
    assert expected == choose_answer(accept, request_type)


@pytest.mark.parametrize(
    ("accept", "request_type", "expected"),
    [
        (TIFF, PNG, TIFF),
        (ZSTD, RAW, ZSTD),
        ("application/x-zstd", RAW, ZSTD),
        ("IMAGE/TIFF", PNG, TIFF),
        ("image/*", TIFF, TIFF),
        ("image/*", RAW, PNG),
        ("application/*", PNG, NPY),
        ("image/webp, image/jxl", PNG, JXL),
        ("image/png, image/tiff", TIFF, TIFF),
        ("image/png;q=0.5, image/tiff;q=0.9", PNG, TIFF),
        ("image/png;q=0, */*", PNG, TIFF),
        ("image/*;q=0.9, image/png;q=0.2", PNG, TIFF),
        ("image/*;q=0.2, image/tiff;q=0.9, */*;q=0.1", RAW, TIFF),
        ("image/png;q=0.1, image/png;q=0.8, image/tiff;q=0.5", TIFF, PNG),
        ("image/tiff;page=1;q=0.7, image/png;q=0.6", PNG, TIFF),
        ("image/tiff; Q=1.000, image/png;q=0.999", PNG, TIFF),
        # What older Java sends: a lone star, weights without a zero.
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", PNG, PNG),
        ("*", TIFF, TIFF),
        ("image/png;q=.5, image/tiff;q=0.85000", PNG, TIFF),
        ("nonsense, image/tiff", PNG, TIFF),
    ],
)  # fmt: skip
def test_weights_and_wildcards_choose(accept: str, request_type: str, expected: str) -> None:
    """The highest weight wins; the most specific range sets it; the request's type breaks ties."""
    assert expected == choose_answer(accept, request_type)


@pytest.mark.parametrize(
    "accept", ["image/webp", "text/*", "*/*;q=0", "image/jpeg", "image/png;q=0.0, text/html"]
)
def test_nothing_acceptable_is_406_and_lists_what_is_offered(accept: str) -> None:
    """The message names the header and every answer type."""
    with pytest.raises(NotAcceptable) as caught:
        choose_answer(accept, PNG)

    assert caught.value.status == 406
    assert repr(accept) in caught.value.detail
    assert all(name in caught.value.detail for name in ANSWER_TYPES)


@pytest.mark.parametrize("weight", ["2", "-1", "x", "", "1.5", "nan"])
def test_weights_that_are_none_are_bad_requests(weight: str) -> None:
    """A range whose q is not 0 to 1 does not count; with no other it is a 400."""
    with pytest.raises(BadRequest, match="weight of 0 to 1"):
        choose_answer(f"image/png;q={weight}", PNG)


def test_endless_accept_is_a_bad_request() -> None:
    """The number of ranges is bounded."""
    with pytest.raises(BadRequest, match="at most 64"):
        choose_answer("a/b," * 1000, PNG)


@settings(deadline=None)
@given(accept=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=200))
def test_any_header_gives_an_offered_type_or_a_service_error(accept: str) -> None:
    """No header, however odd, raises anything else."""
    try:
        chosen = choose_answer(accept, PNG)
    except (BadRequest, NotAcceptable):
        return

    assert chosen in ANSWER_TYPES
