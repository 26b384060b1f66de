"""What clients are told of a scan."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from service.ground.pause_windows import PauseWindows
from service.scan_jobs import forecast
from service.scan_jobs.job import Job, State


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
    detail: str = Field(description="Why it is in that state, what it waits for, or what to do.")
    source: str
    sink: str
    options: dict[str, Any]
    client: str = Field(description="Name of the API key, or address, of who asked for it.")
    created: datetime
    started: datetime | None
    ended: datetime | None
    finish_by: datetime | None
    tiles: TileCounts | None = Field(description="None until the source has been listed.")
    tiles_per_s: float | None = Field(description="Over the last five minutes of its last run.")
    eta: datetime | None = Field(description="When all tiles will be done, pauses included.")
    makes_finish_by: bool | None = Field(description="None where nobody can say.")
    late_by_s: float | None
    failures: list[TileFailure] = Field(description="The first ten tiles that failed.")
    result: dict[str, Any] | None = Field(
        description="How its last run ended: missing, computed, lost, skipped, notes, seconds, "
        "manifest."
    )


class ScanList(BaseModel):
    """Scans, the newest first."""

    scans: list[ScanInfo]
    next: str | None = Field(description="Give it as `before` to get older ones; None: no more.")


def describe(job: Job, windows: PauseWindows, now_s: float) -> ScanInfo:
    """Tell of a scan as it is now.

    Args:
        job: The scan.
        windows: Times at which scans pause.
        now_s: Seconds since 1970.
    """
    progress, counts = job.progress, job.progress.counts
    late_s = forecast.late_s(job, windows, now_s)
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
        eta=_time_or_none(forecast.eta_s(job, windows, now_s)),
        makes_finish_by=None if late_s is None else late_s == 0.0,
        late_by_s=None if late_s is None else round(late_s, 1),
        failures=[TileFailure(source=name, error=error) for name, error in progress.failures],
        result=progress.result,
    )


def _detail(job: Job, windows: PauseWindows, now_s: float) -> str:
    match job.state:
        case State.QUEUED:
            return _wait(job, windows, now_s)
        case State.RUNNING if job.is_left:
            return "its process has died or cannot reach the list of scans; it goes on by itself"
        case State.RUNNING if job.wanted is not None:
            done = "paused" if job.wanted == "pause" else "stopped"
            return f"is being {done}; tiles under way are finished"
        case State.PAUSED:
            return "paused; POST …/resume goes on"
        case State.CANCELLED:
            return f"stopped; outputs that were finished stay in {job.body['sink']}"
        case State.INCOMPLETE | State.FAILED:
            return f"{job.detail}; POST …/resume tries again what is missing"
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
