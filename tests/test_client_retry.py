"""When the client tries again: no answer makes it fail, hurry or wait beyond its deadline."""

import json
import pickle
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import httpx2
import pytest

from semsr_client import DeadlineError, ServiceError, SrTile, TileError
from semsr_client import client as module
from semsr_client.errors import Backoff, read_problem, retry_after_s
from tests.client_fakes import BOTH, Script, answer

HUGE = "9" * 400


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have slept; nothing sleeps."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    return slept


def body(value: str) -> bytes:
    """A problem with that in the place of milliseconds."""
    return f'{{"type": "x", "detail": "busy", "retry_after_ms": {value}}}'.encode()


UNUSABLE = ["-5", "0", "NaN", "Infinity", "-Infinity", "1e999", HUGE, '"soon"', '"50"', "true"]
UNUSABLE += ["null", "[]", "{}"]


@pytest.mark.parametrize("value", UNUSABLE)
def test_milliseconds_that_mean_nothing_are_passed_over(value: str) -> None:
    """The header counts then, else nothing does."""
    assert retry_after_s(body(value), {}) is None
    assert 2.0 == retry_after_s(body(value), {"retry-after": "2"})
    assert 0.4 == retry_after_s(body("400"), {"retry-after": value})


@pytest.mark.parametrize(
    "header", ["-5", "0", "nan", "inf", "-inf", "1e999", HUGE, "", "soon", "1 Jan", "Mon, 99 x"]
)
def test_a_header_that_means_nothing_is_passed_over(header: str) -> None:
    """Of any form."""
    assert retry_after_s(b"", {"retry-after": header}) is None


@pytest.mark.parametrize("content", [b"[]", b"3", b"\xff", b"[" * 100_000, b'{"retry_after_ms": '])
def test_a_body_that_is_not_a_problem_is_passed_over(content: bytes) -> None:
    """Even JSON that is nested beyond what Python reads."""
    assert retry_after_s(content, {}) is None
    assert "http-503" == read_problem(503, content, request_id="").code


def test_a_date_is_read() -> None:
    """As RFC 9110 allows it; one that has passed asks for nothing."""
    now = datetime.now(UTC)

    later_s = retry_after_s(b"", {"retry-after": format_datetime(now + timedelta(hours=1))})

    assert later_s is not None
    assert 3500 < later_s <= 3600
    assert retry_after_s(b"", {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "x": "y"}) is None


def refuses(content: bytes, header: str) -> Callable[[httpx2.Request], httpx2.Response]:
    """A saturated service, or a proxy in its place."""
    return lambda _: httpx2.Response(503, content=content, headers={"retry-after": header})


@BOTH
@pytest.mark.parametrize(
    ("content", "header"),
    [(body("-5"), "-5"), (body("NaN"), "nan"), (body("Infinity"), "inf"), (body("0"), "0")],
)
def test_a_wait_that_means_nothing_becomes_the_client_s_own(
    call: Callable[..., SrTile], waits: list[float], content: bytes, header: str
) -> None:
    """Doubling, as after a broken connection: neither an error nor a loop without a pause."""
    step = refuses(content, header)

    assert 4 == call(Script(step, step, step, answer)).attempts

    assert 0.05 <= waits[0] < 0.1 <= waits[1] < 0.2 <= waits[2] <= 0.25


@BOTH
@pytest.mark.parametrize(
    ("content", "header"),
    [(body("1e300"), "1"), (b"", "1e300"), (b"", "Fri, 31 Dec 2100 23:59:59 GMT")],
)
def test_a_wait_beyond_the_deadline_ends_at_once(
    call: Callable[..., SrTile], waits: list[float], content: bytes, header: str
) -> None:
    """However absurd it is."""
    script = Script(refuses(content, header))

    with pytest.raises(DeadlineError, match="1 attempts within 30 s"):
        call(script)

    assert ([], 1) == (waits, len(script.requests))


def test_no_wait_is_shorter_than_the_first_one() -> None:
    """A service that asks for a nanosecond would be asked without a pause."""
    assert 0.05 <= Backoff().wait_s(1e-9) <= 0.0625


def test_a_backoff_stops_doubling() -> None:
    """At two seconds, and begins from the start after a success."""
    backoff = Backoff()

    waits = [backoff.wait_s(None) for _ in range(20)]
    backoff.reset()

    assert all(2.0 <= wait_s <= 2.5 for wait_s in waits[10:])
    assert backoff.wait_s(None) < 0.1


@BOTH
def test_a_certificate_that_is_not_trusted_is_not_tried_again(
    call: Callable[..., SrTile], waits: list[float]
) -> None:
    """It would not be trusted the next time either."""

    def refused(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("verify failed") from ssl.SSLCertVerificationError("self-signed")

    with pytest.raises(ServiceError, match=r"certificate .* not trusted: .*self-signed"):
        call(Script(refused))

    assert [] == waits


@pytest.mark.parametrize("kind", [ServiceError, DeadlineError, TileError])
def test_an_error_travels_between_processes(kind: type[ServiceError]) -> None:
    """A multiprocessing pool whose worker raised what cannot be read back would never end."""
    error = kind(422, "unsuitable-image", "as it is", request_id="r1")
    error.add_note("tile 7")

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)

    assert kind is type(copy)
    assert (str(error), vars(error)) == (str(copy), vars(copy))
    assert json.dumps(vars(copy))
