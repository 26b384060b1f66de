"""The errors of a tile, and the waits between attempts."""

import email.utils
import json
import math
import random
import ssl
import time
from collections.abc import Mapping
from typing import Any

# Saturated, or over this client's quota.
RETRIED = frozenset({429, 503})
# Wait after a broken connection without Retry-After, doubled each time. No answer shortens it:
# a Retry-After of 0 would make a loop without a pause.
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 2.0
# Clients that were refused together should not return together.
_JITTER = 0.25


class ServiceError(Exception):
    """The service rejected a request, gave an invalid answer, or could not be reached.

    Attributes:
        status: HTTP status; 0 where there was no answer.
        code: Stable name such as `queue-full`; `unreachable`, `bad-answer` and `bad-tile` come from
            the client itself.
        detail: Description of the fault.
        request_id: Id of the request in the service's log; empty without an answer.
    """

    def __init__(self, status: int, code: str, detail: str, *, request_id: str = "") -> None:
        super().__init__(f"{code} ({status}): {detail}" if status else f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        # `Exception` would give the message alone, and a multiprocessing pool whose worker raises
        # what cannot be read back waits forever.
        arguments = (self.status, self.code, self.detail, self.request_id)
        return _restored, (type(self), *arguments), self.__dict__


class DeadlineError(ServiceError):
    """The answer did not come within the deadline; the last reason is in the detail."""


class TileError(ServiceError, ValueError):
    """The tile is invalid and was not sent; the detail has its index and value."""


def _restored(
    kind: type[ServiceError], status: int, code: str, detail: str, request_id: str
) -> ServiceError:
    """Rebuild a pickled error."""
    return kind(status, code, detail, request_id=request_id)


def bad_answer(detail: str, *, request_id: str = "") -> ServiceError:
    """Return the error of an answer with status 200 that does not fit its request."""
    return ServiceError(200, "bad-answer", detail, request_id=request_id)


def read_problem(
    status: int,
    content: bytes,
    *,
    request_id: str,
    asked_id: str | None = None,
    location: str | None = None,
) -> ServiceError:
    """Read the problem of an answer; an answer of another form is taken as a proxy's.

    Args:
        status: HTTP status.
        content: Body of the answer.
        request_id: Id of the answer; empty if it has none.
        asked_id: Id of the request; if the answer has another one, the detail says so.
        location: Address of a redirect; redirects are not followed.
    """
    try:
        problem: Any = json.loads(content)
        code, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        code = f"http-{status}"
        detail = content[:200].decode("utf-8", "replace").strip() or "no text"
    if location is not None and 300 <= status < 400:
        detail = f"redirected to {location[:200]!r}, which is not followed; give that address"
    if asked_id is not None and request_id not in {"", asked_id}:
        detail += f" (this answers request {request_id!r}; the tile was sent as {asked_id!r})"
    return ServiceError(status, code, detail, request_id=request_id)


def retry_after_s(content: bytes, headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the next attempt, as the service asks; None if it names no time.

    `retry_after_ms` in the body comes before the header, which may hold seconds or a date. Values
    that are not finite or not above 0 are ignored.
    """
    try:
        asked_ms: Any = json.loads(content)["retry_after_ms"]
    except (ValueError, KeyError, TypeError, RecursionError):
        asked_ms = None
    if isinstance(asked_ms, (int, float)) and not isinstance(asked_ms, bool):
        asked_s = _usable_s(asked_ms)
        if asked_s is not None:
            return asked_s / 1e3
    header = headers.get("retry-after", "")
    try:
        return _usable_s(float(header))
    except ValueError:
        return _until_date_s(header)


def _usable_s(value: float) -> float | None:
    try:
        value = float(value)
    except OverflowError:  # a whole number beyond what a float holds
        return None
    return value if math.isfinite(value) and value > 0 else None


def _until_date_s(header: str) -> float | None:
    try:
        date = email.utils.parsedate_to_datetime(header)
        return _usable_s(date.timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Backoff:
    """Waits between attempts: the time that the service names, or else twice the last wait."""

    def __init__(self) -> None:
        self._next_s = FIRST_BACKOFF_S

    def wait_s(self, asked_s: float | None) -> float:
        """Return the seconds to wait, up to a quarter longer than asked.

        Args:
            asked_s: See `retry_after_s`; None doubles the last wait, up to `MAX_BACKOFF_S`.
        """
        if asked_s is None:
            asked_s = self._next_s
            self._next_s = min(2 * self._next_s, MAX_BACKOFF_S)
        return max(asked_s, FIRST_BACKOFF_S) * (1 + _JITTER * random.random())  # noqa: S311

    def reset(self) -> None:
        """Begin with the shortest wait again: an attempt succeeded."""
        self._next_s = FIRST_BACKOFF_S


def check_certificate(error: BaseException) -> None:
    """Raise an error if the service's certificate is not trusted, since a retry would not help.

    Raises:
        ServiceError: The certificate is the cause of `error`.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise ServiceError(
                0,
                "unreachable",
                f"the certificate of the service is not trusted: {cause}; "
                "expected one that verify= can check",
            ) from error
        cause = cause.__cause__ or cause.__context__
