"""`/scans`: nightly scans as jobs. What runs them is `service.scan_jobs`."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from service.ground.errors import BadRequest
from service.http.actions import logged_action
from service.http.body import read_small
from service.http.dependencies import Jobs, ServedLifecycle
from service.http.routes.scan_events import after_first, scan_events
from service.http.schemas import BINARY, refusals
from service.scan_jobs.job import Job, State
from service.scan_jobs.jobs import ScanJobs
from service.scan_jobs.scan_info import ScanInfo, ScanList, describe
from service.scan_jobs.schemas import ScanBody, Time, read_body

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_MOST_LISTED = 200
_PIECE_BYTES = 256 * 1024
_MANIFEST_TYPES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
_BODY_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ScanBody"}}},
    },
    "responses": {
        "200": {
            "description": "The scan that this Idempotency-Key created before.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ScanInfo"}}},
        }
    },
}
_OTHERWISE = refusals(
    s404="No such scan, or scans are disabled (SEMSR_SCAN_ROOTS).",
    s503="The list of scans is unavailable now.",
)
_NOT_NOW = refusals(s409="Not possible in the scan's state.")


class ListQuery(BaseModel):
    """What to list; an unknown parameter is refused, because all scans would be listed."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=_MOST_LISTED)
    state: list[State] = Field(default=[], max_length=len(State))
    before: str | None = Field(default=None, max_length=64, description="Value of `next`.")
    ended_after: Time | None = Field(
        default=None,
        description="Time (RFC 3339 with time zone): only scans that ended then or later.",
        json_schema_extra={"pattern": "^2"},
    )


_IDEMPOTENCY = Header(
    description="Key of this request: a second request with it gets the same scan.",
    json_schema_extra={"pattern": r"^[\x21-\x7e]{1,255}$"},
)


router = APIRouter(prefix="/scans", tags=["scans"], responses=_OTHERWISE)


@router.post(
    "", status_code=201, response_model=ScanInfo, summary="Create a scan",
    openapi_extra=_BODY_SCHEMA,
    responses=refusals(
        400, 408, 413, 415,
        s403="Source or sink lies outside the allowed folders.",
        s409="Another scan writes into the sink.",
        s422="The scan cannot be run, or the Idempotency-Key was used with another body.",
    ),
)  # fmt: skip
async def submit_scan(
    request: Request,
    jobs: Jobs,
    lifecycle: ServedLifecycle,
    idempotency_key: Annotated[str | None, _IDEMPOTENCY] = None,
) -> Response:
    """Super-resolves a whole lot from source to sink, in the class `nightly`. 200 and the same
    scan for an `Idempotency-Key` that was used before with the same body.
    """  # noqa: D205 (it is the route's description)
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise BadRequest(
            f"Idempotency-Key is {idempotency_key[:60]!r}; expected 1 to 255 printable letters"
        )
    content = await read_small(request, timeout_s=lifecycle.settings.body_timeout_s)
    facts = request.scope["state"]["facts"]
    has_keys = lifecycle.settings.api_keys is not None
    client = str(facts.get("client") or (request.client.host if request.client else ""))
    scope = client if has_keys else ""
    body = read_body(content)
    named = {"source": body.source, "sink": body.sink}
    with logged_action(request, "scan_action", "submit", **named) as fields:
        job, is_new = await jobs.submit(
            body,
            client=client,
            idempotency_key=None if idempotency_key is None else f"{scope}:{idempotency_key}",
        )
        fields |= {"scan": job.id, "is_new": is_new}
    return JSONResponse(
        _shown(jobs, job).model_dump(mode="json"),
        status_code=201 if is_new else 200,
        headers={"location": f"/scans/{job.id}"},
    )


@router.get("", summary="List scans", responses=refusals(s422="A parameter is invalid."))
async def list_scans(asked: Annotated[ListQuery, Query()], jobs: Jobs) -> ScanList:
    """The newest first; `state` may be repeated."""
    limit, ended_after = asked.limit, asked.ended_after
    found = await jobs.listing(
        limit=limit + 1,
        states=asked.state,
        before=asked.before,
        ended_after_s=None if ended_after is None else ended_after.timestamp(),
    )
    more = found[limit - 1].id if len(found) > limit else None
    return ScanList(scans=[_shown(jobs, job) for job in found[:limit]], next=more)


@router.get("/{scan}", summary="Progress of a scan")
async def get_scan(scan: str, jobs: Jobs) -> ScanInfo:
    """Counts, rate, expected end, and first errors; at its end the missing outputs."""
    return _shown(jobs, await jobs.get(scan))


@router.get(
    "/{scan}/manifest", response_class=StreamingResponse, summary="Manifest of a scan",
    responses={
        200: {
            "description": "The table of all tiles that the last run has written.",
            "content": dict.fromkeys(_MANIFEST_TYPES.values(), BINARY),
        },
        **refusals(s409="The scan has not written a manifest, or it was removed from the sink."),
    },
)  # fmt: skip
async def get_manifest(scan: str, jobs: Jobs) -> Response:
    """The file as it lies in the sink."""
    name, file = await jobs.manifest(scan)
    return StreamingResponse(
        _pieces(file),
        media_type=_MANIFEST_TYPES[name.rpartition(".")[2]],
        headers={"content-disposition": f"attachment; filename*=UTF-8''{quote(name)}"},
    )


@router.post("/{scan}/pause", summary="Pause a scan", responses=_NOT_NOW)
async def pause_scan(scan: str, request: Request, jobs: Jobs) -> ScanInfo:
    """Tiles in flight are finished; the scan stays paused, also after a restart."""
    with logged_action(request, "scan_action", "pause", scan=scan[:64]):
        return _shown(jobs, await jobs.pause(scan))


@router.post("/{scan}/resume", summary="Resume a scan", responses=_NOT_NOW)
async def resume_scan(scan: str, request: Request, jobs: Jobs) -> ScanInfo:
    """Also resumes a scan that ended incomplete: its missing outputs are retried."""
    with logged_action(request, "scan_action", "resume", scan=scan[:64]):
        return _shown(jobs, await jobs.resume(scan))


@router.delete(
    "/{scan}", response_model=ScanInfo, summary="Stop or delete a scan",
    responses={
        **_NOT_NOW,
        202: {"model": ScanInfo, "description": "Tiles in flight are being finished."},
        204: {"description": "The scan had ended, and is deleted."},
    },
)  # fmt: skip
async def delete_scan(scan: str, request: Request, jobs: Jobs) -> Response:
    """An active scan is stopped; finished outputs stay. A scan that has ended is deleted from
    the list (204).
    """  # noqa: D205 (it is the route's description)
    with logged_action(request, "scan_action", "cancel", scan=scan[:64]) as fields:
        if await jobs.forget(scan):
            fields["action"] = "delete"
            return Response(status_code=204)
        job = await jobs.cancel(scan)
    status = 200 if job.state is State.CANCELLED else 202
    return JSONResponse(_shown(jobs, job).model_dump(mode="json"), status_code=status)


@router.get(
    "/{scan}/events", response_class=StreamingResponse, summary="Follow a scan",
    responses={
        200: {
            "description": "Events until the scan ends or the service drains.",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The client has seen the end."},
    },
)  # fmt: skip
async def follow_scan(
    scan: str,
    jobs: Jobs,
    request: Request,
    lifecycle: ServedLifecycle,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Server-sent events: `progress` after each change, `end` when the scan has ended. 204 to
    a client that has seen the end, so that browsers stop reconnecting.
    """  # noqa: D205 (it is the route's description)
    job = await jobs.get(scan)
    if not job.is_active and last_event_id == str(job.version):
        return Response(status_code=204)
    events = scan_events(jobs, scan, last_event_id, lifecycle, request.app.state.watchers)
    # Started here, so that one client too many gets a problem and not an empty stream.
    first = await anext(events)
    return StreamingResponse(
        after_first(first, events),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


def _shown(jobs: ScanJobs, job: Job) -> ScanInfo:
    return describe(job, jobs.windows, jobs.windows.now_s())


async def _pieces(file: BinaryIO) -> AsyncGenerator[bytes]:
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
    finally:
        file.close()


def _schemas() -> dict[str, Any]:
    schema = ScanBody.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "ScanBody": schema}


SCHEMAS = _schemas()
"""Schemas of the bodies that are read here and not by FastAPI, for OpenAPI."""
