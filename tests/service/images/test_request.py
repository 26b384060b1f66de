"""Headers of a tile: what is remembered between requests, and what is not."""

from types import SimpleNamespace

import pytest

from service.ground.priority import Priority
from service.images import request
from service.images.media_types import choose_answer
from service.images.request import parse_request

RAW = (b"content-type", b"application/octet-stream")
TIMEOUT = (b"x-request-timeout-ms", b"500")


def test_same_headers_are_read_once() -> None:
    """Headers that are not read here make no difference."""
    first = parse_request([RAW, (b"x-request-id", b"1")])
    assert parse_request([RAW, (b"x-request-id", b"2"), (b"host", b"fab")]) is first


def test_default_class_is_part_of_what_is_remembered() -> None:
    """One tile and a stream with the same headers are of different classes."""
    assert parse_request([RAW]).priority is Priority.ONLINE
    stream = parse_request([RAW], default_priority=Priority.NIGHTLY)
    assert stream.priority is Priority.NIGHTLY


def test_deadline_counts_from_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second request of a client does not inherit the first one's deadline."""
    monkeypatch.setattr(request, "time", SimpleNamespace(monotonic=lambda: 10.0))
    assert parse_request([RAW, TIMEOUT]).deadline_s == 10.5
    monkeypatch.setattr(request, "time", SimpleNamespace(monotonic=lambda: 20.0))
    assert parse_request([RAW, TIMEOUT]).deadline_s == 20.5


@pytest.mark.parametrize(
    "headers",
    [
        [RAW, (b"accept", b"image/png," + b" " * 600)],
        [RAW, *[(b"accept", b"image/png")] * 20],
    ],
)
def test_long_headers_are_read_anew(headers: list[tuple[bytes, bytes]]) -> None:
    """Clients cannot fill the memory with them."""
    first, second = parse_request(headers), parse_request(headers)
    assert first is not second
    assert first == second
    assert choose_answer(first.accept, "image/png") == "image/png"
