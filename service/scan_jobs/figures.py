"""What Prometheus is told of scans: of the whole list, and of the scan of this process."""

import asyncio

from service.ground.metrics import Metrics
from service.ground.pause_windows import PauseWindows
from service.scan_jobs import forecast
from service.scan_jobs.job import ACTIVE, State
from service.scan_jobs.job_store import JobStore
from service.scans.rows import Counts

_MOST_MEASURED = 1000
_OUTCOMES = ("done", "failed")
_STATUSES = ("done", "failed", "pending")


class Figures:
    """Keeps the metrics of scans up to date."""

    def __init__(self, metrics: Metrics, store: JobStore, windows: PauseWindows) -> None:
        """Begin with nothing: the first one of a kind is to be an increase."""
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
        """Look at the whole list.

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
        late = [forecast.late_s(job, self._windows, now_s) or 0.0 for job in active]
        ends = [forecast.eta_s(job, self._windows, now_s) or now_s for job in active]
        self._metrics.scan_late.set(max(late, default=0.0))
        self._metrics.scan_remaining.set(max(ends, default=now_s) - now_s)

    def show_running(self, counts: Counts | None) -> None:
        """Show the tiles of the scan that runs here now; None: none does."""
        for status in _STATUSES:
            number = 0 if counts is None else getattr(counts, status)
            self._metrics.scan_running_tiles.labels(status).set(number)

    def count_tiles(self, before: Counts, now: Counts) -> None:
        """Count the tiles that have ended between two looks."""
        for outcome in _OUTCOMES:
            more = getattr(now, outcome) - getattr(before, outcome)
            self._metrics.scan_tiles.labels(outcome).inc(more)

    def count_end(self, state: State) -> None:
        """Count a scan that has ended here."""
        self._metrics.scans_ended.labels(state).inc()
