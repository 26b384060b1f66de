"""The bodies of answers of `/scans`: a scan as clients see it."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from service.ground.pause_windows import PauseWindows
from service.scan_jobs.job import Job, State
from service.scan_jobs.progress import eta_s, late_s


class TileCounts(BaseModel):
    """Tiles of a scan."""

    total: int
    done: int
    failed: int
    pending: int


class TileFailure(BaseModel):
    """A tile that failed."""

    source: str
    error: str


class ScanInfo(BaseModel):
    """A scan; times are RFC 3339 in UTC."""

    id: str
    name: str
    state: State
    detail: str = Field(description="Reason for the state, what it waits for, or what to do.")
    source: str
    sink: str
    options: dict[str, Any]
    client: str = Field(description="Name of the client's API key, or its address.")
    created: datetime
    started: datetime | None
    ended: datetime | None
    finish_by: datetime | None
    tiles: TileCounts | None = Field(description="None until the source has been listed.")
    tiles_per_s: float | None = Field(description="Rate of the last five minutes of its last run.")
    eta: datetime | None = Field(description="Time by which all tiles will be done, with pauses.")
    makes_finish_by: bool | None = Field(description="None if unknown.")
    late_by_s: float | None
    failures: list[TileFailure] = Field(description="The first ten tiles that failed.")
    result: dict[str, Any] | None = Field(
        description="Result of its last run: missing, computed, lost, skipped, notes, seconds, "
        "manifest."
    )


class ScanList(BaseModel):
    """Scans, the newest first."""

    scans: list[ScanInfo]
    next: str | None = Field(description="Value of `before` for older ones; None: no more.")


def describe(job: Job, windows: PauseWindows, now_s: float) -> ScanInfo:
    """Describe a scan for clients.

    Args:
        job: The scan.
        windows: Times of day at which scans pause.
        now_s: Seconds since 1970.
    """
    progress, counts = job.progress, job.progress.counts
    late = late_s(job, windows, now_s)
    return ScanInfo(
        id=job.id,
        name=job.name,
        state=job.state,
        detail=_detail(job, windows, now_s),
        source=job.body["source"],
        sink=job.body["sink"],
        options=job.body["options"],
        client=job.client,
        created=_time(job.created_s),
        started=_time_or_none(job.started_s),
        ended=_time_or_none(job.ended_s),
        finish_by=_time_or_none(job.finish_by_s),
        tiles=counts
        and TileCounts(
            total=counts.total, done=counts.done, failed=counts.failed, pending=counts.pending
        ),
        tiles_per_s=None if progress.tiles_per_s is None else round(progress.tiles_per_s, 3),
        eta=_time_or_none(eta_s(job, windows, now_s)),
        makes_finish_by=None if late is None else late == 0.0,
        late_by_s=None if late is None else round(late, 1),
        failures=[TileFailure(source=name, error=error) for name, error in progress.failures],
        result=progress.result,
    )


def _detail(job: Job, windows: PauseWindows, now_s: float) -> str:
    match job.state:
        case State.QUEUED:
            return _wait(job, windows, now_s)
        case State.RUNNING if job.is_left:
            return "its process has died or cannot reach the list of scans; it resumes by itself"
        case State.RUNNING if job.wanted is not None:
            done = "paused" if job.wanted == "pause" else "stopped"
            return f"is being {done}; tiles in progress are finished"
        case State.PAUSED:
            return "paused; POST …/resume goes on"
        case State.CANCELLED:
            return f"stopped; finished outputs stay in {job.body['sink']}"
        case State.INCOMPLETE | State.FAILED:
            return f"{job.detail}; POST …/resume retries the missing tiles"
        case _:
            return job.detail


def _wait(job: Job, windows: PauseWindows, now_s: float) -> str:
    end_s = windows.end_s(now_s)
    if end_s is not None:
        return f"waits until {_time(end_s).isoformat()}: scans pause at this time of day"
    if job.retry_at_s is not None and job.retry_at_s > now_s:
        at = _time(job.retry_at_s).isoformat(timespec="seconds")
        return f"tried again at {at}: {job.detail}"
    return "waits for its turn"


def _time(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _time_or_none(at_s: float | None) -> datetime | None:
    return None if at_s is None else _time(at_s)
