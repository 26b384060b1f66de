"""Admission of requests: places that bound the memory of all requests in flight.

A place stands for the memory of one SR tile. An upload holds as many places as its bytes fill. An
image holds one for each of its tiles, or two for a 16-bit answer. `SEMSR_MAX_QUEUE` bounds all
places, at every stage of a request and for every model. Nightly requests may hold only a part.
"""

import asyncio
import math

from service.batching.scheduler import NIGHTLY_PLACES
from service.batching.tile_runner import TileRunner
from service.ground.errors import ImageTooLarge, QueueFull
from service.ground.metrics import Metrics
from service.ground.priority import Priority


class Users:
    """Counts the requests that use a model now."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        """Add one request."""
        self._count += 1
        self._idle.clear()

    def leave(self) -> None:
        """Remove one request."""
        self._count -= 1
        if not self._count:
            self._idle.set()

    async def wait_gone(self) -> None:
        """Wait until no request uses the model."""
        await self._idle.wait()


class Places:
    """The places of one process."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        """Begin with all places free.

        Args:
            limit: Maximum number of places taken at once.
            metrics: Gauges of the places.
        """
        self._limit = limit
        self._taken = dict.fromkeys(Priority, 0)
        metrics.admitted_tiles_limit.set(limit)
        metrics.admitted_tiles.set_function(lambda: sum(self._taken.values()))

    def take(self, places: int, priority: Priority, *, total: int, runner: TileRunner) -> None:
        """Take additional places for a request.

        Args:
            places: Number of additional places.
            priority: Class of the request.
            total: Number of places that the request then holds.
            runner: Runner of its tiles, which estimates when a retry makes sense.

        Raises:
            QueueFull: Too few places are free now.
            ImageTooLarge: The service has too few places in all.
        """
        limit, taken = self._limit, sum(self._taken.values())
        if priority is Priority.NIGHTLY:
            limit = math.ceil(NIGHTLY_PLACES * limit)
            taken = max(self._taken[priority], taken - self._limit + limit)
        if total > limit:
            raise ImageTooLarge(
                f"the request needs {total} places and the service has {limit} in all for "
                f"{priority} requests (SEMSR_MAX_QUEUE); send smaller images"
            )
        if taken + places > limit:
            raise QueueFull(
                f"{taken} of {limit} places are taken and {places} more are needed "
                "(SEMSR_MAX_QUEUE)",
                retry_after_s=runner.expected_wait_s(priority),
            )
        self._taken[priority] += places

    def give_back(self, places: int, priority: Priority) -> None:
        """Free places."""
        self._taken[priority] -= places


class Admission:
    """The places that one request holds until its answer has been sent; a context manager."""

    def __init__(
        self,
        places: Places,
        runner: TileRunner,
        priority: Priority,
        *,
        place_bytes: int,
        users: Users,
    ) -> None:
        """Begin without places; entering the context takes the first.

        Args:
            places: Places of the process.
            runner: Runner of the request's tiles.
            priority: The request's class.
            place_bytes: Bytes that one place stands for.
            users: Counter of the requests that hold places.
        """
        self._places = places
        self._runner = runner
        self._priority = priority
        self._place_bytes = place_bytes
        self._users = users
        self.places = 0

    def grow_to(self, places: int) -> None:
        """Hold at least `places` in all.

        Raises:
            QueueFull: Too few places are free now.
            ImageTooLarge: The service has too few places in all.
        """
        if places > self.places:
            more = places - self.places
            self._places.take(more, self._priority, total=places, runner=self._runner)
            self.places = places

    def hold_upload(self, size_bytes: int) -> None:
        """Hold the places that an upload of this size fills; raises as `grow_to`."""
        self.grow_to(max(1, -(-size_bytes // self._place_bytes)))

    def become(self, priority: Priority) -> None:
        """Change the class of the request, once its body has stated it.

        Raises:
            QueueFull: Too few places of the new class are free now.
            ImageTooLarge: The new class has too few places in all.
        """
        if priority is not self._priority:
            self._places.take(self.places, priority, total=self.places, runner=self._runner)
            self._places.give_back(self.places, self._priority)
            self._priority = priority

    def __enter__(self) -> "Admission":
        self.grow_to(1)
        self._users.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._users.leave()
        self._places.give_back(self.places, self._priority)
