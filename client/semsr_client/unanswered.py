"""The tiles of a stream that have no answer yet, and how answers are matched with them. No I/O.

Tiles that were sent and not answered are kept. If the connection breaks, another request sends them
again. A tile's answer does not depend on the number of attempts.
"""

import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from semsr_client.answers import (
    RAW,
    TAR,
    Asked,
    Scales,
    SrTile,
    Tile,
    check_head,
    most_answer_bytes,
    read_json,
    read_tile,
)
from semsr_client.archives import Entry, tar_entry
from semsr_client.errors import (
    RETRIED,
    DeadlineError,
    ServiceError,
    bad_answer,
    read_problem,
    retry_after_s,
)
from semsr_client.options import Options

# These end a request, but not the work: an upload that paused for too long, a service that stops.
_CONTINUED = frozenset({408, 503})
_PROBLEM = ".problem.json"


@dataclass
class _Waiting:
    """One tile that is not answered yet.

    Attributes:
        body: Bytes that are sent.
        shape: (H, W) of the tile.
        end_s: Deadline, by `time.monotonic`.
        attempts: Number of requests that it was sent in.
    """

    body: bytes
    shape: tuple[int, int]
    end_s: float
    attempts: int = 0


class RequestEndedError(Exception):
    """The request ended before every tile was answered; another request sends the rest."""

    def __init__(self, error: ServiceError, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class UnansweredTiles:
    """Tiles in the order of their answers; tiles sent by the current request come first.

    Attributes:
        num_sent: Number of them that the current request has sent.
        request_id: Id of the current request.
        most_bytes: Largest answer that any of the tiles so far can have, in bytes.
    """

    def __init__(self, options: Options, scales: Scales) -> None:
        self._options = options
        self._scales = scales
        self._tiles: deque[_Waiting] = deque()
        # Answers of the current request, which the service counts too.
        self._num_answered = 0
        self.num_sent = 0
        self.request_id = ""
        self.most_bytes = 0

    def __len__(self) -> int:
        return len(self._tiles)

    def add(self, tile: Tile) -> None:
        """Take a tile, as `checked` returns it; its deadline begins now."""
        end_s = time.monotonic() + self._options.timeout_s
        self.most_bytes = max(self.most_bytes, most_answer_bytes(tile.size))
        self._tiles.append(_Waiting(tar_entry(tile), (tile.shape[0], tile.shape[1]), end_s))

    def begin_request(self) -> None:
        """Begin another request, which sends all of them again."""
        self.num_sent = self._num_answered = 0
        self.request_id = uuid.uuid4().hex

    def next_body(self) -> bytes | None:
        """Return the bytes of the next tile that the current request sends; None at the end."""
        if self.num_sent == len(self._tiles):
            return None
        tile = self._tiles[self.num_sent]
        self.num_sent += 1
        tile.attempts += 1
        return tile.body

    def give_up(self, error: ServiceError, *, until_s: float) -> list[DeadlineError]:
        """Drop the tiles whose deadline is before a time; return their errors.

        Args:
            error: Reason of the last failure.
            until_s: Time of the next request, by `time.monotonic`.
        """
        self.num_sent = 0
        errors: list[DeadlineError] = []
        while self._tiles and self._tiles[0].end_s <= until_s:
            tile = self._tiles.popleft()
            errors.append(
                DeadlineError(
                    error.status,
                    "deadline-exceeded",
                    f"after {tile.attempts} attempts within {self._options.timeout_s:g} s: {error}",
                    request_id=error.request_id,
                )
            )
        return errors

    def check_head(self, headers: Mapping[str, str]) -> None:
        """Reject the head of an answer to something else.

        Raises:
            ServiceError: It is not the answer to the current request.
        """
        encoding = headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise self.misfit(f"the answer has the Content-Encoding {encoding!r}, expected none")
        check_head(headers, media_type=TAR, request_id=self.request_id, model=self._options.model)

    def match(self, entry: Entry, headers: Mapping[str, str]) -> SrTile | ServiceError:
        """Match one entry of the answer with the tile that it belongs to; the tile is then done.

        Raises:
            RequestEndedError: The entry ends the request, and unanswered tiles go into another one.
            ServiceError: It is not the next tile's answer, or it ends the whole stream.
        """
        result: SrTile | ServiceError
        if entry.name.endswith(_PROBLEM):
            result = self._read_problem(entry)
        else:
            self._check_index(entry.facts.get("x-tile-index"))
            tile = self._tiles[0]
            asked = Asked(
                shape=tile.shape,
                dtype=self._options.answer_dtype,
                model=self._options.model,
                request_id=self.request_id,
            )
            if entry.facts.get("content-type", RAW) != RAW:
                raise self.misfit(f"a tile has the type {entry.facts['content-type'][:80]!r}")
            result = read_tile(
                entry.body,
                entry.facts,
                headers,
                attempts=tile.attempts,
                asked=asked,
                scales=self._scales,
            )
        self._tiles.popleft()
        self.num_sent -= 1
        self._num_answered += 1
        return result

    def _read_problem(self, entry: Entry) -> ServiceError:
        """Read the problem of one tile; raises the same errors as `match`."""
        try:
            content = read_json(entry.body)
            status = int(content["status"])
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise self.misfit(f"a problem cannot be read: {error!r}") from error
        result = read_problem(status, entry.body, request_id=self.request_id)
        wait_s = retry_after_s(entry.body, {})
        if content.get("scope") == "batch":
            if status in _CONTINUED:
                raise RequestEndedError(result, wait_s)
            raise result
        self._check_index(content.get("index"))
        if status in RETRIED:
            raise RequestEndedError(result, wait_s)
        if status == 504:
            return DeadlineError(status, result.code, result.detail, request_id=result.request_id)
        return result

    def _check_index(self, index: object) -> None:
        """Reject an answer whose index within the request is not the next tile's."""
        if not self.num_sent:
            raise self.misfit("there are more answers than tiles")
        if str(index) != str(self._num_answered):
            raise self.misfit(
                f"an answer has the tile index {index!r}, expected {self._num_answered}"
            )

    def misfit(self, detail: str) -> ServiceError:
        """Return the error of an answer that does not fit the current request."""
        return bad_answer(detail, request_id=self.request_id)
