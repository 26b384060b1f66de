"""Streams of tiles for callers without an event loop."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from semsr_client.answers import SrTile, Tile
from semsr_client.connections import forks
from semsr_client.errors import ServiceError
from semsr_client.stream import TileStream

Result = TypeVar("Result")


class BlockingTileStream:
    """`TileStream` for callers without an event loop: it runs a loop in a thread of its own."""

    def __init__(self, stream: TileStream) -> None:
        """Start the thread."""
        self._stream = stream
        self._forks = forks()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="semsr-client", daemon=True)
        self._thread.start()

    def put(self, tile: Tile) -> None:
        """See `TileStream.put`."""
        self._call(_later, self._stream.put, tile)

    def get(self) -> SrTile | ServiceError:
        """See `TileStream.get`."""
        return self._call(self._stream.get)

    def finish(self) -> None:
        """See `TileStream.finish`."""
        self._call(_later, self._stream.finish)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._forks != forks() or sys.is_finalizing():
            # The thread is another process's, or has ended with the interpreter: waiting for it
            # would never end.
            return
        try:
            self._call(self._stream.close)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_forever()

    def _call(
        self, function: Callable[..., Coroutine[Any, Any, Result]], *arguments: Any
    ) -> Result:
        if self._forks != forks():
            raise RuntimeError(
                "superresolve_many was begun before this process was forked; begin another one here"
            )
        future = asyncio.run_coroutine_threadsafe(function(*arguments), self._loop)
        try:
            return future.result()
        except BaseException:  # such as KeyboardInterrupt while waiting
            future.cancel()
            raise


async def _later(function: Callable[..., None], *arguments: object) -> None:
    """Call a function on the loop."""
    function(*arguments)
