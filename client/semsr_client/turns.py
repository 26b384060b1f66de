"""Many tiles over several streams that take turns, and the order of their answers."""

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Generic, Protocol, TypeVar

from semsr_client.answers import Tile, checked
from semsr_client.errors import TileError

Counter = contextlib.AbstractContextManager[Callable[[], object]]


class Sender(Protocol):
    """The part of a stream that sends."""

    def put(self, tile: Tile) -> None:
        """Send one tile."""
        ...

    def finish(self) -> None:
        """Mark the end: no tile follows."""
        ...


Stream = TypeVar("Stream", bound=Sender)


class Turns(Generic[Stream]):
    """Takes tiles as they are needed and keeps the order of their answers. No I/O of its own.

    An invalid tile keeps its place in the order as an error. An error of the tiles' source comes
    last: the tiles that were taken before it are answered first.
    """

    def __init__(self, tiles: Iterator[Tile], streams: Sequence[Stream], *, ahead: int) -> None:
        """Store the arguments; no tile is taken yet.

        Args:
            tiles: Source of the tiles.
            streams: Streams that take turns.
            ahead: Largest number of tiles that are taken and not answered.
        """
        self._tiles = tiles
        self._streams = streams
        self._ahead = ahead
        self._taken = 0
        self._sent = 0
        self._is_exhausted = False
        self._source_error: Exception | None = None
        self._order: deque[Stream | TileError] = deque()

    def next(self) -> Stream | TileError | None:
        """Send as many tiles as `ahead` allows; return the stream that has the next answer.

        Returns:
            The stream; or the error of an invalid tile; or None when all tiles are answered.

        Raises:
            Exception: Error of the tiles' source, after all earlier answers.
        """
        while not self._is_exhausted and len(self._order) < self._ahead:
            self._take()
        if self._order:
            return self._order.popleft()
        if self._source_error is not None:
            raise self._source_error
        return None

    def _take(self) -> None:
        try:
            tile = next(self._tiles)
        except StopIteration:
            self._end()
            return
        except Exception as error:
            self._source_error = error
            self._end()
            return
        index, self._taken = self._taken, self._taken + 1
        try:
            sent = checked(tile, index=index)
        except TileError as error:
            self._order.append(error)
            return
        stream = self._streams[self._sent % len(self._streams)]
        stream.put(sent)
        self._sent += 1
        self._order.append(stream)

    def _end(self) -> None:
        self._is_exhausted = True
        for stream in self._streams:
            stream.finish()


def iterator_of(tiles: Iterable[Tile]) -> Iterator[Tile]:
    """Return an iterator of tiles.

    Raises:
        TypeError: It is not iterable.
    """
    try:
        return iter(tiles)
    except TypeError as error:
        raise TypeError(
            f"tiles is a {type(tiles).__name__}; expected an iterable of two-dimensional arrays"
        ) from error


def counter(tiles: Iterable[Tile], *, shown: bool) -> Counter:
    """Return a context manager that shows a bar and yields the function that counts a tile.

    Without a bar it leaves tqdm out, which takes a lock shared by processes even for a hidden bar.
    After a fork, that lock could block indefinitely.

    Raises:
        ImportError: tqdm is not installed.
    """
    if not shown:
        return contextlib.nullcontext(lambda: None)
    from tqdm import tqdm

    @contextlib.contextmanager
    def bar() -> Iterator[Callable[[], object]]:
        total = len(tiles) if isinstance(tiles, Sized) else None
        with tqdm(total=total, unit="tile", file=sys.stderr) as shown_bar:
            yield shown_bar.update

    return bar()
