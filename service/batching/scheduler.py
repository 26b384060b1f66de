"""Schedules tiles in two classes, earliest deadline first, and admits requests by expected end.

Rules (reasons: `docs/adr/0012-scheduling.md`):

- Work-conserving: a free slot takes waiting tiles at once.
- `online` before `nightly`. Within a class the tile that is due first goes first.
- An online tile without a deadline of its own is due after the online budget; its own request's
  work does not count, so that a large image is no worse than a small one.
- A request is admitted if it would be done by then, as far as is known; else it is refused with the
  time until the tiles that wait now are done.
- Nightly tiles fill the empty places of online batches. Alone, they run in batches of at most a
  quarter of the budget, and where there are several slots one stays free of them.

Source: Liu and Layland 1973 (earliest deadline first).
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batching.costs import BatchCosts
from service.ground.priority import Priority

Payload = TypeVar("Payload")

# Share of the online budget that a batch of nightly tiles alone may keep a slot busy.
NIGHTLY_SHARE = 0.25

# Share of the places that nightly tiles may take.
NIGHTLY_PLACES = 0.5


@dataclass(slots=True, eq=False)
class Entry(Generic[Payload]):
    """One waiting tile.

    Attributes:
        payload: Object of the caller.
        shape: (H, W, bits of the answer); only tiles of one shape share a batch.
        priority: Class of the tile.
        due_s: Due time, by which its class is ordered.
        deadline_s: Time at which it expires; None for never.
        is_discarded: Whether it was discarded, to be skipped later.
    """

    payload: Payload
    shape: tuple[int, ...]
    priority: Priority
    due_s: float
    deadline_s: float | None
    is_discarded: bool = False


@dataclass(slots=True, eq=False)
class Batch(Generic[Payload]):
    """Tiles that run together.

    Attributes:
        entries: Tiles, online ones first.
        started_s: Time of its start.
        expected_s: Expected time of its end.
        is_nightly: Whether all of them are nightly.
    """

    entries: list[Entry[Payload]]
    started_s: float
    expected_s: float
    is_nightly: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not admitted.

    Attributes:
        reason: Message for the client.
        retry_after_s: Seconds until the tiles that wait or run now are done.
    """

    reason: str
    retry_after_s: float


class _Queue(Generic[Payload]):
    """Waiting tiles of one class; the tile that is due first is the last in the list."""

    def __init__(self) -> None:
        self.entries: list[Entry[Payload]] = []
        self.count = 0

    def add(self, entries: Sequence[Entry[Payload]]) -> None:
        for entry in entries:
            # To the left of its equals, which came before it.
            bisect.insort_left(self.entries, entry, key=_minus_due)
        self.count += len(entries)

    def pop(self, now_s: float) -> Entry[Payload] | None:
        """Take the tile that is due first; discarded and expired tiles are dropped."""
        while self.entries:
            entry = self.entries.pop()
            if entry.is_discarded:
                continue
            self.count -= 1
            if entry.deadline_s is None or now_s <= entry.deadline_s:
                return entry
            entry.is_discarded = True
        return None

    def put_back(self, entries: Sequence[Entry[Payload]]) -> None:
        """Put tiles back that were popped just now, in the same order, at their old positions."""
        self.entries.extend(reversed(entries))
        self.count += len(entries)

    def ahead_of(self, due_s: float) -> int:
        """Count the tiles that are due at this time or earlier."""
        return len(self.entries) - bisect.bisect_left(self.entries, -due_s, key=_minus_due)


def _minus_due(entry: Entry[Payload]) -> float:
    return -entry.due_s


class Scheduler(Generic[Payload]):
    """Holds waiting tiles and decides which run; the caller guards it with a lock."""

    def __init__(
        self, costs: BatchCosts, *, slots: int, max_waiting: int, online_budget_s: float
    ) -> None:
        """Begin empty.

        Args:
            costs: Costs of the engine's batches.
            slots: Number of batches that the engine runs at once.
            max_waiting: Maximum number of waiting tiles of both classes.
            online_budget_s: Seconds after which an online tile without a deadline is due.
        """
        self.costs = costs
        self.online_budget_s = online_budget_s
        self._slots = slots
        self._max_waiting = max_waiting
        self._queues: dict[Priority, _Queue[Payload]] = {p: _Queue() for p in Priority}
        self._running: set[Batch[Payload]] = set()

    def waiting(self, priority: Priority) -> int:
        """Number of waiting tiles of a class."""
        return self._queues[priority].count

    @property
    def num_waiting(self) -> int:
        """Number of waiting tiles of both classes."""
        return self._queues[Priority.ONLINE].count + self._queues[Priority.NIGHTLY].count

    def entries(self, priority: Priority) -> list[Entry[Payload]]:
        """Return the waiting tiles of a class, ordered by due time."""
        return [
            entry for entry in reversed(self._queues[priority].entries) if not entry.is_discarded
        ]

    def drain_s(self, priority: Priority, now_s: float) -> float:
        """Seconds until all running tiles, and the waiting tiles ahead of a class, are done.

        Online tiles wait for nightly batches that run, but not for waiting nightly tiles.
        """
        ends = [max(0.0, batch.expected_s - now_s) for batch in self._running]
        ahead = self.waiting(Priority.ONLINE)
        if priority is Priority.NIGHTLY:
            ahead += self.waiting(Priority.NIGHTLY)
        return max([0.0, *ends, (sum(ends) + self.costs.clear_s(ahead)) / self._slots])

    def refusal(
        self, count: int, priority: Priority, *, deadline_s: float | None, now_s: float
    ) -> Refusal | None:
        """Return the reason why `count` tiles of a request cannot be admitted now, or None."""
        places = self._max_waiting
        taken = self.num_waiting
        if priority is Priority.NIGHTLY:
            places = math.ceil(NIGHTLY_PLACES * places)
            taken = self.waiting(priority)
        if taken + count > places:
            return Refusal(
                f"{taken} tiles wait and {count} more do not fit into the queue of {places}",
                self.drain_s(priority, now_s),
            )
        if priority is Priority.NIGHTLY:
            return None
        due_s = self._due_s(count, priority, deadline_s=deadline_s, now_s=now_s)
        ahead = self._queues[Priority.ONLINE].ahead_of(due_s)
        if ahead == 0 and len(self._running) < self._slots:
            return None  # idle: a retry would gain nothing
        left_s = sum(max(0.0, batch.expected_s - now_s) for batch in self._running)
        work_s = left_s + self.costs.clear_s(ahead) + self.costs.clear_s(count)
        done_s = now_s + work_s / self._slots
        if done_s <= due_s:
            return None
        return Refusal(
            f"{count} tiles would be done in {done_s - now_s:.2f} s, which is beyond "
            + (
                f"the online budget of {self.online_budget_s:.2f} s"
                if deadline_s is None
                else f"the {max(0.0, deadline_s - now_s):.2f} s that the request allows"
            ),
            self.drain_s(priority, now_s),
        )

    def add(
        self,
        payloads: Sequence[Payload],
        *,
        shape: tuple[int, ...],
        priority: Priority,
        deadline_s: float | None,
        now_s: float,
    ) -> list[Entry[Payload]]:
        """Queue the tiles of one request; `refusal` is not checked here."""
        due_s = self._due_s(len(payloads), priority, deadline_s=deadline_s, now_s=now_s)
        entries = [Entry(payload, shape, priority, due_s, deadline_s) for payload in payloads]
        self._queues[priority].add(entries)
        return entries

    def discard(self, entry: Entry[Payload]) -> bool:
        """Remove a waiting tile; returns False if it does not wait any more."""
        queue = self._queues[entry.priority]
        if entry.is_discarded or entry not in queue.entries:
            return False
        entry.is_discarded = True
        queue.count -= 1
        return True

    def next_batch(self, now_s: float) -> Batch[Payload] | None:
        """Form the batch that a free slot runs now; None if there is nothing for it."""
        online, nightly = (self._queues[priority] for priority in Priority)
        first = online.pop(now_s)
        is_nightly = first is None
        if first is not None:
            size = self.costs.choose(online.count + 1)
            entries = self._take(online, first, size, now_s)
        else:
            if not self._may_run_nightly():
                return None
            first = nightly.pop(now_s)
            if first is None:
                return None
            at_most_s = NIGHTLY_SHARE * self.online_budget_s
            size = self.costs.choose(nightly.count + 1, at_most_s=at_most_s)
            entries = self._take(nightly, first, size, now_s)
        # Empty places of the bucket cost nothing: nightly tiles take them.
        filler = nightly.pop(now_s) if len(entries) < size and not is_nightly else None
        if filler is not None:
            if filler.shape == first.shape:
                entries += self._take(nightly, filler, size - len(entries), now_s)
            else:
                nightly.put_back([filler])
        seconds = self.costs.seconds(len(entries))
        batch = Batch(entries, now_s, now_s + seconds, is_nightly)
        self._running.add(batch)
        return batch

    def finished(self, batch: Batch[Payload], now_s: float, *, failed: bool = False) -> None:
        """Free the batch's slot, and record its duration."""
        self._running.discard(batch)
        if not failed:
            self.costs.observe(len(batch.entries), now_s - batch.started_s)

    def take_all(self) -> list[Entry[Payload]]:
        """Empty the queues; returns the tiles that waited."""
        entries = [entry for priority in Priority for entry in self.entries(priority)]
        self._queues = {priority: _Queue() for priority in Priority}
        return entries

    def _take(
        self, queue: _Queue[Payload], first: Entry[Payload], size: int, now_s: float
    ) -> list[Entry[Payload]]:
        """Take up to `size` tiles of the first one's shape, `first` among them."""
        taken = [first]
        others: list[Entry[Payload]] = []
        while len(taken) < size and (entry := queue.pop(now_s)) is not None:
            (taken if entry.shape == first.shape else others).append(entry)
        queue.put_back(others)
        return taken

    def _may_run_nightly(self) -> bool:
        """Whether a batch of nightly tiles would leave a slot free for the next online tile."""
        running = sum(batch.is_nightly for batch in self._running)
        return running < max(1, self._slots - 1)

    def _due_s(
        self, count: int, priority: Priority, *, deadline_s: float | None, now_s: float
    ) -> float:
        if deadline_s is not None:
            return deadline_s
        if priority is Priority.NIGHTLY:
            return now_s
        return now_s + self.online_budget_s + self.costs.clear_s(count) / self._slots
