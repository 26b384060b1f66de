"""The arguments of a client, checked before anything is sent."""

import base64
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlencode

import httpx2

Priority = Literal["online", "nightly"]
AnswerDtype = Literal["uint8", "uint16"]

# As the service has them.
_MAX_TIMEOUT_S = 3600.0
_HIGHEST_GREY = 65_535
_PRIORITIES = ("online", "nightly")
_ANSWER_DTYPES = ("uint8", "uint16")
# What a header may hold, and what the service takes for a request's id.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of a client, checked; `semsr_client.Client` describes them.

    Raises:
        ValueError: One of them cannot be sent; the message names it, its value and what was
            expected.
    """

    url: str
    timeout_s: float
    priority: Priority
    window: tuple[int, int] | None
    answer_dtype: AnswerDtype
    answer_bits: int
    model: str | None
    connections: int
    api_key: str | None
    headers: Mapping[str, str] | None
    verify: ssl.SSLContext | bool

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= _MAX_TIMEOUT_S:
            raise ValueError(
                f"timeout_s must be above 0 and at most {_MAX_TIMEOUT_S:g}, got {self.timeout_s}"
            )
        _check_choice("priority", self.priority, _PRIORITIES)
        _check_choice("answer_dtype", self.answer_dtype, _ANSWER_DTYPES)
        if self.answer_bits not in (8, 16):
            raise ValueError(f"answer_bits is {self.answer_bits!r}; expected 8 or 16")
        if self.answer_bits == 16 and self.answer_dtype != "uint16":
            raise ValueError("answer_bits is 16 and answer_dtype 'uint8'; expected 'uint16'")
        if self.model is not None and not self.model:
            raise ValueError("model is empty; expected a name, or None for the service's default")
        at_least_one("connections", self.connections)
        # They are computed once, here, and raise for invalid arguments.
        _ = self.address, self.own_headers, self.tile_headers

    @cached_property
    def address(self) -> httpx2.URL:
        """Address of the service, without user, query and fragment."""
        return _checked_url(self.url).copy_with(username=None, password=None)

    @cached_property
    def own_headers(self) -> Mapping[str, str]:
        """Headers of the caller, and the key; names in lower case."""
        own = _own_headers(self.headers, self.api_key)
        given = _checked_url(self.url)
        if given.userinfo and "authorization" not in own:
            pair = f"{given.username}:{given.password}".encode()
            own["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return own

    @cached_property
    def tile_headers(self) -> Mapping[str, str]:
        """Headers that describe every tile, without the timeout and the caller's own."""
        headers = {
            "accept-encoding": "identity",
            "x-answer-dtype": self.answer_dtype,
            "x-priority": self.priority,
        }
        if self.answer_bits != 8:  # services before it do not know the header
            headers["x-answer-bits"] = str(self.answer_bits)
        if self.window is not None:
            low, high = _checked_window(self.window)
            headers["x-window"] = f"{low},{high}"
        return headers

    def path(self, route: str) -> str:
        """Return a route with the requested model."""
        return route if self.model is None else f"{route}?{urlencode({'model': self.model})}"

    def http_arguments(self) -> dict[str, Any]:
        """Return the arguments of a connection pool, blocking or asyncio."""
        return {
            "base_url": self.address,
            "headers": self.own_headers,
            "limits": httpx2.Limits(
                max_connections=self.connections, max_keepalive_connections=self.connections
            ),
            # Loading authorities takes tens of milliseconds, and http does not use them: redirects
            # are not followed.
            "verify": self.verify if self.address.scheme == "https" else False,
            "trust_env": False,
        }


def at_least_one(name: str, value: int) -> int:
    """Return a number that must be at least 1.

    Raises:
        ValueError: It is below 1.
    """
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def check_request_id(request_id: str) -> None:
    """Refuse an id that a header cannot carry, or that the service would replace.

    Raises:
        ValueError: It has other characters than printable ASCII without spaces, or too many.
    """
    if not _REQUEST_ID.fullmatch(request_id):
        raise ValueError(
            f"request_id is {request_id[:140]!r}; expected 1 to 128 printable ASCII characters "
            "without spaces"
        )


def check_errors(errors: str) -> None:
    """Refuse a mode of `superresolve_many` that does not exist.

    Raises:
        ValueError: It is neither `raise` nor `yield`.
    """
    _check_choice("errors", errors, ("raise", "yield"))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected {' or '.join(map(repr, choices))}")


def _checked_window(window: tuple[int, int]) -> tuple[int, int]:
    try:
        low, high = (int(level) for level in window)
        is_whole = (low, high) == tuple(window)
    except (TypeError, ValueError, OverflowError):
        low, high, is_whole = 0, 0, False
    if not is_whole or not 0 <= low < high <= _HIGHEST_GREY:
        raise ValueError(
            f"window is {window!r}; expected two grey levels (lo, hi) with "
            f"0 <= lo < hi <= {_HIGHEST_GREY}"
        )
    return low, high


def _own_headers(given: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    if api_key is not None and not _HEADER_VALUE.fullmatch(api_key):
        # Not the key itself: messages end up in logs.
        raise ValueError(
            "api_key is empty or has characters that cannot be sent; a trailing newline?"
        )
    own = {name.lower(): value for name, value in (given or {}).items()}
    for name, value in own.items():
        if value and not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the header {name} has characters that cannot be sent")
    if "x-request-id" in own:
        raise ValueError(
            "headers has x-request-id, which must differ from request to request; "
            "give it as request_id of superresolve"
        )
    if api_key is not None:
        own["authorization"] = f"Bearer {api_key}"
    return own


def _checked_url(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"url is {url!r}: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"url is {url!r}; expected http://HOST:PORT or https://HOST:PORT")
    if parsed.query or parsed.fragment:
        raise ValueError(
            f"url is {url!r}; expected an address without ? and #; a model is chosen by model=NAME"
        )
    return parsed
