"""Progress of scans: rate, forecast, and their metrics."""

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import replace
from typing import Any

from service.ground.metrics import Metrics
from service.ground.pause_windows import PauseWindows
from service.scan_jobs.job import ACTIVE, Job, Progress, State
from service.scan_jobs.store import JobStore
from service.scans.errors import ScanError
from service.scans.journal import Journal
from service.scans.rows import Counts

_OVER_S = 300.0
_EVERY_S = 1.0
# Shortest time for a rate: a few tiles that were nearly done would promise too much.
_AT_LEAST_S = 3.0
_SHOWN_FAILURES = 10
_MOST_MEASURED = 1000
_OUTCOMES = ("done", "failed")
_STATUSES = ("done", "failed", "pending")


class RateMeter:
    """Tiles per second over the last minutes of one run."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, at_s: float, ended: int) -> None:
        """Add a sample: the number of tiles that are done or failed at a time.

        Args:
            at_s: `time.monotonic()`.
            ended: Number of tiles.
        """
        if self._samples and at_s - self._samples[-1][0] < _EVERY_S:
            return
        self._samples.append((at_s, ended))
        while self._samples[0][0] < at_s - _OVER_S:
            self._samples.popleft()

    def tiles_per_s(self) -> float | None:
        """Return the tiles per second; None until there are enough samples."""
        if not self._samples:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        if last_s - first_s < _AT_LEAST_S or last == first:
            return None
        return (last - first) / (last_s - first_s)


class RunProgress:
    """Progress of one run of a scan in this process.

    Attributes:
        counts: Tiles of the scan; None before they are listed.
        counts_before: Tiles of the scan when this run began.
        result: Facts for the result of the run, in addition to counts and seconds.
    """

    def __init__(self, earlier: Progress) -> None:
        """Begin with the progress of earlier runs."""
        self._earlier = earlier
        self.counts: Counts | None = None
        self.counts_before: Counts | None = None
        self.result: dict[str, Any] = {}
        self._journal: Journal | None = None
        # The journal is not closed while it is read.
        self._reading = asyncio.Lock()
        self._rate = RateMeter()
        self._failures: list[tuple[str, str]] = []
        self._started_s = time.monotonic()

    @property
    def setbacks(self) -> int:
        """Number of consecutive setbacks before this run; 0 once this run has made progress."""
        has_advanced = self.counts is not None and self.counts != self.counts_before
        return 0 if has_advanced else self._earlier.setbacks

    async def begin(self, journal: Journal) -> Counts:
        """Count the tiles of a journal, and read from it until `leave_journal`."""
        self._journal = journal
        self.counts = self.counts_before = await asyncio.to_thread(journal.counts)
        return self.counts

    def note(self, counts: Counts) -> None:
        """Store the counts after a commit."""
        self.counts = counts

    async def now(self) -> Progress:
        """Return the present progress."""
        counts = self.counts
        if counts is None:
            return self._earlier
        self._rate.note(time.monotonic(), counts.ended)
        shown = min(counts.failed, _SHOWN_FAILURES)
        async with self._reading:
            if self._journal is not None and len(self._failures) != shown:
                # A journal that cannot be read ends the run with its own error.
                with contextlib.suppress(ScanError):
                    self._failures = await asyncio.to_thread(
                        self._journal.failures, _SHOWN_FAILURES
                    )
        return Progress(
            counts=counts,
            # Until this run has a rate, the rate of the last run is the best estimate.
            tiles_per_s=self._rate.tiles_per_s() or self._earlier.tiles_per_s,
            failures=self._failures,
            setbacks=self.setbacks,
            result=self._earlier.result,
        )

    async def leave_journal(self) -> None:
        """Read the journal for the last time, before it is closed."""
        await self.now()
        async with self._reading:
            self._journal = None

    async def final(self, *, keeps_result: bool = False) -> Progress:
        """Return the progress at the end of this run.

        Args:
            keeps_result: Whether the result of an earlier run stays.
        """
        progress = replace(await self.now(), setbacks=0)
        counts, before = self.counts, self.counts_before
        if keeps_result or counts is None or before is None:
            return progress
        result = {
            "missing": counts.total - counts.done,
            "computed": counts.ended - before.ended,
            "seconds": round(time.monotonic() - self._started_s, 3),
            **self.result,
        }
        return replace(progress, result=result)


def eta_s(job: Job, windows: PauseWindows, now_s: float) -> float | None:
    """Return the time at which all tiles will be done, or None if it is unknown.

    Args:
        job: The scan; a paused one has no such time.
        windows: Times of day at which scans pause.
        now_s: Seconds since 1970.
    """
    progress = job.progress
    if job.state not in {State.QUEUED, State.RUNNING} or progress.counts is None:
        return None
    if not progress.counts.pending:
        return now_s
    if not progress.tiles_per_s:
        return None
    return windows.finish_s(now_s, progress.counts.pending / progress.tiles_per_s)


def late_s(job: Job, windows: PauseWindows, now_s: float) -> float | None:
    """Return the seconds by which a scan is late, or will be by its forecast; 0 if in time.

    Returns:
        The seconds; None if the scan has no `finish_by_s`, or if they are unknown.
    """
    if job.finish_by_s is None:
        return None
    if job.is_active:
        end_s = eta_s(job, windows, now_s)
        overdue_s = now_s - job.finish_by_s
        if end_s is None:
            return overdue_s if overdue_s > 0 else None
        return max(0.0, end_s - job.finish_by_s)
    if job.state is State.DONE and job.ended_s is not None:
        return max(0.0, job.ended_s - job.finish_by_s)
    return None


class Figures:
    """Keeps the metrics of scans up to date."""

    def __init__(self, metrics: Metrics, store: JobStore, windows: PauseWindows) -> None:
        """Make every label now at 0, so that the first event shows as an increase."""
        self._metrics = metrics
        self._store = store
        self._windows = windows
        for state in State:
            metrics.scans.labels(state)
            if state not in ACTIVE:
                metrics.scans_ended.labels(state)
        for outcome in _OUTCOMES:
            metrics.scan_tiles.labels(outcome)
        self.show_running(None)

    async def measure(self) -> None:
        """Update the metrics of the whole list of scans.

        Raises:
            DatabaseError: It cannot be reached.
        """
        counts = await asyncio.to_thread(self._store.counts)
        for state in State:
            self._metrics.scans.labels(state).set(counts.get(state, 0))
        active = await asyncio.to_thread(
            self._store.listing, limit=_MOST_MEASURED, states=sorted(ACTIVE)
        )
        now_s = self._windows.now_s()
        late = [late_s(job, self._windows, now_s) or 0.0 for job in active]
        ends = [eta_s(job, self._windows, now_s) or now_s for job in active]
        self._metrics.scan_late.set(max(late, default=0.0))
        self._metrics.scan_remaining.set(max(ends, default=now_s) - now_s)

    def show_running(self, counts: Counts | None) -> None:
        """Set the metric of tiles of the scan in this process; None stands for no scan."""
        for status in _STATUSES:
            number = 0 if counts is None else getattr(counts, status)
            self._metrics.scan_running_tiles.labels(status).set(number)

    def count_tiles(self, before: Counts, now: Counts) -> None:
        """Add the tiles that were done or failed between two counts to the metrics."""
        for outcome in _OUTCOMES:
            more = getattr(now, outcome) - getattr(before, outcome)
            self._metrics.scan_tiles.labels(outcome).inc(more)

    def count_end(self, state: State) -> None:
        """Add a scan that has ended to the metrics."""
        self._metrics.scans_ended.labels(state).inc()
