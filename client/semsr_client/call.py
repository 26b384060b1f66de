"""One tile in flight: its requests, and the interpretation of its answer. No I/O."""

import time
import uuid
from typing import Any

import httpx2

from semsr_client.answers import RAW, Asked, Scales, SrTile, Tile, check_head, checked, read_tile
from semsr_client.errors import (
    RETRIED,
    Backoff,
    DeadlineError,
    ServiceError,
    bad_answer,
    check_certificate,
    read_problem,
    retry_after_s,
)
from semsr_client.options import Options, check_request_id

# The rest of a deadline must be worth a request.
_LEAST_S = 0.001


class _Left(dict[str, float]):
    """Timeouts of one attempt: each of its steps gets the time to the deadline at the step's start.

    A fixed timeout of httpx2 would apply in full to connecting, to sending and to reading.
    """

    def __init__(self, call: "Call") -> None:
        super().__init__(dict.fromkeys(("pool", "connect", "write", "read"), call.left_s))
        self._call = call

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 (as dict has it)
        """Return the seconds that are left now."""
        return max(self._call.left_s, _LEAST_S) if key in self else default


class Call:
    """One tile in flight: the next request, and the interpretation of the answer. No I/O."""

    def __init__(
        self, tile: Tile, options: Options, scales: Scales, *, request_id: str | None
    ) -> None:
        """Check the tile.

        Raises:
            TileError: It is not a two-dimensional array of uint8 or uint16 with a pixel or more.
            ValueError: The id cannot be sent.
        """
        sent = checked(tile)
        if request_id is not None:
            check_request_id(request_id)
        self._asked = Asked(
            shape=(sent.shape[0], sent.shape[1]),
            dtype=options.answer_dtype,
            model=options.model,
            request_id=uuid.uuid4().hex if request_id is None else request_id,
        )
        self._body = sent.tobytes()
        self._options = options
        self._scales = scales
        self._headers = {
            "content-type": RAW,
            "accept": RAW,
            "x-tile-shape": f"{sent.shape[0]},{sent.shape[1]}",
            "x-tile-dtype": f"uint{8 * sent.dtype.itemsize}",
            "x-request-id": self._asked.request_id,
            **options.tile_headers,
        }
        self._end_s = time.monotonic() + options.timeout_s
        self._backoff = Backoff()
        self._attempts = 0
        # Joined once: to grow one buffer would copy the answer more than once.
        self._parts: list[bytes] = []
        self._answer_bytes = 0

    @property
    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self._end_s - time.monotonic()

    def request(self) -> dict[str, Any]:
        """Return the arguments of the next attempt."""
        self._attempts += 1
        self._parts, self._answer_bytes = [], 0
        left_ms = 1e3 * max(self.left_s, _LEAST_S)
        return {
            "method": "POST",
            "url": self._options.path("/superresolve"),
            "content": self._body,
            "headers": {**self._headers, "x-request-timeout-ms": f"{left_ms:.3f}"},
            "extensions": {"timeout": _Left(self)},
        }

    def begin(self, response: httpx2.Response) -> None:
        """Check the head of an answer; rejecting it closes the connection.

        Raises:
            ServiceError: It is the answer to another request.
        """
        if response.status_code == 200:
            asked = self._asked
            check_head(
                response.headers, media_type=RAW, request_id=asked.request_id, model=asked.model
            )

    def add(self, part: bytes) -> None:
        """Take the next bytes of an answer.

        Raises:
            ServiceError: They are more than the tile can have.
            httpx2.ReadTimeout: The deadline has passed.
        """
        self._parts.append(part)
        self._answer_bytes += len(part)
        if self._answer_bytes > self._asked.most_bytes:
            raise bad_answer(
                f"the answer has more than {self._asked.most_bytes} bytes for a tile of shape "
                f"{self._asked.shape}",
                request_id=self._asked.request_id,
            )
        if self.left_s < 0:
            raise httpx2.ReadTimeout("the answer was still arriving at the deadline")

    def read(self, response: httpx2.Response) -> SrTile | float:
        """Read an answer: the tile, or the seconds until the next attempt.

        Raises:
            ServiceError: The service rejects the tile, or its answer is invalid.
            DeadlineError: The deadline leaves no time for another attempt.
        """
        headers, content, asked = response.headers, b"".join(self._parts), self._asked
        if response.status_code == 200:
            return read_tile(
                content,
                headers,
                headers,
                attempts=self._attempts,
                asked=asked,
                scales=self._scales,
            )
        error = read_problem(
            response.status_code,
            content,
            request_id=headers.get("x-request-id", ""),
            asked_id=asked.request_id,
            location=headers.get("location"),
        )
        if error.status == 504:
            raise DeadlineError(504, error.code, error.detail, request_id=error.request_id)
        if error.status not in RETRIED:
            raise error
        return self._wait_s(error, retry_after_s(content, headers))

    def failed(self, error: httpx2.RequestError) -> float:
        """Return the seconds to wait after a failed connection; a tile may be sent twice.

        Raises:
            ServiceError: The answer cannot be decoded, or the certificate is not trusted.
            DeadlineError: The deadline leaves no time for another attempt.
        """
        text = str(error) or type(error).__name__
        if isinstance(error, httpx2.DecodingError):
            raise bad_answer(f"the answer cannot be decompressed: {text}") from error
        check_certificate(error)
        return self._wait_s(ServiceError(0, "unreachable", text))

    def _wait_s(self, error: ServiceError, asked_s: float | None = None) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            error: Error of the last attempt.
            asked_s: Seconds that the service asks for, or None.

        Raises:
            DeadlineError: The deadline would pass during the wait.
        """
        wait_s = self._backoff.wait_s(asked_s)
        if wait_s + _LEAST_S >= self.left_s:
            raise DeadlineError(
                error.status,
                "deadline-exceeded",
                f"after {self._attempts} attempts within {self._options.timeout_s:g} s: {error}",
                request_id=error.request_id,
            ) from error
        return wait_s
