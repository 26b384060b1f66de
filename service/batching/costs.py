"""Costs of batches: seconds by batch size, measured at warm-up and updated since."""

from collections.abc import Iterator, Mapping

# Weight of the newest batch in the running mean of a size.
_SMOOTHING = 0.2

# Plans are made again when a size's mean has moved by more than this since the last time.
_REPLAN_SHARE = 0.1

# A way to clear the queue may take this much longer than the soonest, where tiles are done earlier
# on average: two batches of one tile instead of one of two, where an engine gains nothing by them.
_TOLERANCE = 0.05

# Number of batches after which a size that has not run is tried again, where it may be the better
# one: a single measurement at warm-up, perhaps on a busy machine, must not decide indefinitely.
_TRY_AFTER = 32
# It may be the better one if a tile in it took at most this share longer than in the best.
_TRY_WITHIN = 0.5
# A larger batch keeps its first tiles waiting: only the next larger size is tried, and only where
# as many tiles wait after it.
_TRY_BACKLOG = 2
# Weight of such a try in the running mean.
_TRY_SMOOTHING = 0.5

# Number of largest batches that are planned exactly; beyond, the queue is cleared at the best rate.
_PLANNED_BATCHES = 2


class BatchCosts:
    """Seconds of a batch for each bucket, and the plans that follow from them.

    A bucket is a batch size for which the engine is prepared. A smaller batch takes as long as the
    bucket that it fills partly.
    """

    def __init__(self, seconds: Mapping[int, float], *, overhead_s: float = 0.0) -> None:
        """Take the measured buckets.

        Args:
            seconds: Seconds by batch size, at least for size 1.
            overhead_s: Additional seconds of a batch of any size, for its hand-over. They
                decide between small and large batches of a very fast engine.

        Raises:
            ValueError: Size 1 is missing, or a size or time is not positive.
        """
        if 1 not in seconds or min(seconds) < 1 or min(seconds.values()) <= 0:
            raise ValueError(
                f"costs need positive seconds by batch size, 1 among them; got {dict(seconds)}"
            )
        self._seconds = dict(sorted(seconds.items()))
        self.buckets = tuple(self._seconds)
        self._overhead_s = overhead_s
        self._num_observed = 0
        # Batches that had been observed when each size was last.
        self._last_observed = dict.fromkeys(self.buckets, 0)
        self._plan()

    @property
    def largest(self) -> int:
        """The largest bucket."""
        return self.buckets[-1]

    def seconds(self, count: int) -> float:
        """Seconds of a batch of `count` tiles: those of its bucket."""
        return self._seconds[self._bucket(count)]

    def observe(self, count: int, seconds: float) -> None:
        """Record the duration of a batch of `count` tiles."""
        bucket = self._bucket(count)
        mean = self._seconds[bucket]
        # A batch smaller than its bucket may have taken less than a full one.
        weight = (_TRY_SMOOTHING if self._is_stale(bucket) else _SMOOTHING) * count / bucket
        self._num_observed += 1
        self._last_observed[bucket] = self._num_observed
        self._seconds[bucket] = mean + weight * (max(seconds, 1e-9) - mean)
        self._drift = self._seconds[bucket] / self._planned[bucket]
        if abs(self._drift - 1) > _REPLAN_SHARE:
            self._plan()

    def choose(self, waiting: int, *, at_most_s: float | None = None) -> int:
        """Choose the size of the next batch.

        Args:
            waiting: Tiles that wait, at least 1.
            at_most_s: Maximum duration in seconds; the smallest bucket is always allowed.

        Returns:
            A bucket; it may be larger than `waiting`, and the engine then fills it up.
        """
        chosen = self._choice[min(waiting, len(self._choice) - 1)]
        if at_most_s is not None:
            fitting = [size for size in self.buckets if self._seconds[size] <= at_most_s]
            chosen = min(chosen, max(fitting, default=self.buckets[0]))
        return next(self._worth_a_try(chosen, waiting, at_most_s), chosen)

    def clear_s(self, waiting: int) -> float:
        """Seconds that one engine slot needs for `waiting` tiles."""
        last = len(self._clear) - 1
        if waiting <= last:
            return self._drift * self._clear[waiting]
        return self._drift * (self._clear[last] + (waiting - last) * self._best_s)

    def _worth_a_try(self, chosen: int, waiting: int, at_most_s: float | None) -> Iterator[int]:
        """Yield sizes that may be better than the chosen one and were not measured for long."""
        larger = self.buckets.index(chosen) + 1
        for size in self.buckets[: larger + 1]:
            if (
                size != chosen
                and waiting >= (size if size < chosen else _TRY_BACKLOG * size)
                and self._is_stale(size)
                and self._seconds[size] / size <= (1 + _TRY_WITHIN) * self._best_s
                and (at_most_s is None or self._seconds[size] <= at_most_s)
            ):
                yield size

    def _is_stale(self, bucket: int) -> bool:
        return self._num_observed - self._last_observed[bucket] >= _TRY_AFTER

    def _bucket(self, count: int) -> int:
        return next((size for size in self.buckets if size >= count), self.largest)

    def _plan(self) -> None:
        """Find the best first batch for every number of waiting tiles.

        By dynamic programming over the first batch b: clear(n) = seconds(b) + clear(n - b), and of
        the ways that clear soonest the one with the least sum of waiting times, seconds(b) * n +
        waits(n - b).
        """
        self._planned = dict(self._seconds)
        # What the size that ran last takes now, over what it took when plans were made.
        self._drift = 1.0
        costs = {size: seconds + self._overhead_s for size, seconds in self._seconds.items()}
        self._clear = [0.0]
        self._choice = [self.buckets[0]]
        waits = [0.0]
        for waiting in range(1, _PLANNED_BATCHES * self.largest + 1):
            ways = [
                (
                    seconds * waiting + waits[max(0, waiting - size)],
                    seconds + self._clear[max(0, waiting - size)],
                    size,
                )
                for size, seconds in costs.items()
                if size <= self._bucket(waiting)
            ]
            soonest = min(clear for _, clear, _ in ways)
            wait, clear, size = min(way for way in ways if way[1] <= (1 + _TOLERANCE) * soonest)
            waits.append(wait)
            self._clear.append(clear)
            self._choice.append(size)
        self._best_s = min(seconds / size for size, seconds in costs.items())
