"""Places of streams: a stream waits for places where a single request is rejected.

A stream is admitted as a whole. Its images then wait for places in the order of arrival, and its
upload pauses meanwhile. These rules prevent deadlocks:

- Each stream holds one place all the time, and all streams of a class together a quarter of them.
- While it waits for places for an image it holds no other: the places of others become free.
- One stream has at most a quarter of its class's places for images in flight, or one larger image.
"""

import asyncio
import contextlib
import math
from collections.abc import Generator
from dataclasses import dataclass

from service.batching.admission import Admission
from service.batching.scheduler import NIGHTLY_PLACES
from service.batching.upscaler import Upscaler
from service.ground.errors import ImageTooLarge, QueueFull
from service.ground.priority import Priority

STREAM_SHARE = 0.25
# Single requests give places back without notice.
_POLL_S = 0.02


@dataclass(eq=False)
class Hold:
    """Places held for one image.

    Attributes:
        admission: Admission for the upscaler.
        places: Number of places.
    """

    admission: Admission
    places: int
    stack: contextlib.ExitStack


class StreamLimits:
    """Limits that all streams of one process share."""

    def __init__(self, max_places: int) -> None:
        """Prepare.

        Args:
            max_places: Number of places of the whole service.
        """
        nightly = math.ceil(NIGHTLY_PLACES * max_places)
        places = {Priority.ONLINE: max_places, Priority.NIGHTLY: nightly}
        self._share = {p: max(1, int(STREAM_SHARE * places[p])) for p in Priority}
        self._streams = dict.fromkeys(Priority, 0)
        # Places for one image when every other stream waits.
        self._largest = {
            Priority.ONLINE: max_places - sum(self._share.values()),
            Priority.NIGHTLY: nightly - self._share[Priority.NIGHTLY],
        }
        self._turns = {p: asyncio.Lock() for p in Priority}
        self._freed = asyncio.Event()

    def window(self, priority: Priority) -> int:
        """Number of places that one stream has for images in flight."""
        return self._share[priority]

    @contextlib.contextmanager
    def stream(self, upscaler: Upscaler, priority: Priority) -> Generator[None]:
        """Admit one stream.

        Raises:
            QueueFull: Too many streams are in progress, or no place is free.
            ImageTooLarge: The service has too few places for any stream.
        """
        self.check(1, priority)
        if self._streams[priority] >= self._share[priority]:
            raise QueueFull(
                f"{self._streams[priority]} {priority} batch requests are in progress, the "
                "maximum (a quarter of the places, SEMSR_MAX_QUEUE)",
                retry_after_s=1.0,
            )
        with upscaler.admit(priority=priority):
            self._streams[priority] += 1
            try:
                yield
            finally:
                self._streams[priority] -= 1
                self._freed.set()

    def check(self, places: int, priority: Priority) -> None:
        """Refuse an image that could never get its places.

        Raises:
            ImageTooLarge: It needs too many places.
        """
        largest = self._largest[priority]
        if largest < 1:
            raise ImageTooLarge(
                f"the service has too few places for batch requests of the class {priority} "
                "(SEMSR_MAX_QUEUE, 3 at least); send images one by one"
            )
        if places > largest:
            raise ImageTooLarge(
                f"the image needs {places} places, and one image of a batch request of the class "
                f"{priority} may have {largest} (SEMSR_MAX_QUEUE); send smaller images, or this "
                "one by itself"
            )

    async def acquire(self, upscaler: Upscaler, places: int, priority: Priority) -> Hold:
        """Take places as soon as they are free.

        Raises:
            ImageTooLarge: It needs too many places.
            NotReady: The service is stopping.
        """
        self.check(places, priority)
        async with self._turns[priority]:
            while True:
                self._freed.clear()
                with contextlib.ExitStack() as stack, contextlib.suppress(QueueFull):
                    admission = stack.enter_context(upscaler.admit(priority=priority))
                    admission.grow_to(places)
                    return Hold(admission, places, stack.pop_all())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._freed.wait()

    def release(self, hold: Hold) -> None:
        """Return places."""
        hold.stack.close()
        self._freed.set()


class Window:
    """The places of one stream's images in flight."""

    def __init__(self, limits: StreamLimits, upscaler: Upscaler, priority: Priority) -> None:
        self._limits = limits
        self._upscaler = upscaler
        self._priority = priority
        self._most = limits.window(priority)
        self._held: set[Hold] = set()
        self._changed = asyncio.Event()

    async def take_upload(self, size_bytes: int) -> Hold:
        """Take the places that an upload of that size fills; raises as `StreamLimits.acquire`."""
        return await self._take(max(1, -(-size_bytes // self._upscaler.place_bytes)))

    async def grow(self, hold: Hold, places: int) -> Hold:
        """Exchange places for at least as many as needed; raises as `acquire`.

        The old places are released before the wait for new ones, and stay released after an error.
        """
        if places <= hold.places:
            return hold
        self.release(hold)
        return await self._take(places)

    def release(self, hold: Hold) -> None:
        """Return an image's places; a second call has no effect."""
        if hold in self._held:
            self._held.remove(hold)
            self._limits.release(hold)
            self._changed.set()

    def release_all(self) -> None:
        """Return all places."""
        for hold in tuple(self._held):
            self.release(hold)

    async def _take(self, places: int) -> Hold:
        while self._held and sum(hold.places for hold in self._held) + places > self._most:
            self._changed.clear()
            await self._changed.wait()
        hold = await self._limits.acquire(self._upscaler, places, self._priority)
        self._held.add(hold)
        return hold
