"""When a scan will be done, and whether that is in time."""

from service.ground.pause_windows import PauseWindows
from service.scan_jobs.job import Job, State


def eta_s(job: Job, windows: PauseWindows, now_s: float) -> float | None:
    """Return when all tiles will be done, or None where nobody can say.

    Args:
        job: The scan; one that is paused by somebody has no such time.
        windows: Times at which scans pause.
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
    """Return by how many seconds a scan will be, is or was late; 0 for in time.

    Returns:
        None where it is wanted by no time, or where nobody can say yet.
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
