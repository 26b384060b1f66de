"""`/scans`: nightly scans as jobs. What runs them is `service.scan_jobs`."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from service.ground.errors import BadRequest, QueueFull, ScansOff, ServiceError, UnknownScan
from service.hosting.lifecycle import Lifecycle
from service.http.body import read_small
from service.http.schemas import refusals
from service.scan_jobs.job import Job, State
from service.scan_jobs.jobs import ScanJobs
from service.scan_jobs.schemas import ScanBody, ScanInfo, ScanList, describe, read_body

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_MOST_LISTED = 200
# Each asks the list of scans once a second.
_MOST_WATCHERS = 64
_LOOK_EVERY_S = 1.0
_HEARTBEAT_S = 15.0
_RECONNECT_MS = 2000
_BODY_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ScanBody"}}},
    },
    "responses": {
        "200": {
            "description": "The scan that this Idempotency-Key asked for before.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ScanInfo"}}},
        }
    },
}
_OTHERWISE = refusals(
    s404="No such scan, or scans are off (SEMSR_SCAN_ROOTS).",
    s503="The list of scans cannot be reached now.",
)
_NOT_NOW = refusals(s409="Not possible in the scan's state.")


class ListQuery(BaseModel):
    """What to list; a parameter that is not known is refused, since all scans would come."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=_MOST_LISTED)
    state: list[State] = Field(default=[], max_length=len(State))
    before: str | None = Field(default=None, max_length=64, description="As `next` says it.")


_IDEMPOTENCY = Header(
    description="Key of this request: a second one with it gets the same scan.",
    json_schema_extra={"pattern": r"^[\x21-\x7e]{1,255}$"},
)


def make_router(lifecycle: Lifecycle, jobs: ScanJobs | None) -> APIRouter:
    """Make the routes of one app.

    Args:
        lifecycle: Of the app.
        jobs: Runs scans; None where they are off.
    """
    router = APIRouter(prefix="/scans", tags=["scans"], responses=_OTHERWISE)
    watchers = _Watchers()

    def on() -> ScanJobs:
        if jobs is None:
            raise ScansOff("the operator has allowed no folders (SEMSR_SCAN_ROOTS is not set)")
        return jobs

    def shown(job: Job) -> ScanInfo:
        windows = on().windows
        return describe(job, windows, windows.now_s())

    @router.post(
        "", status_code=201, response_model=ScanInfo, summary="Ask for a scan",
        openapi_extra=_BODY_SCHEMA,
        responses=refusals(
            400, 408, 413, 415,
            s403="Source or sink lies outside the allowed folders.",
            s409="Another scan writes into the sink.",
            s422="The scan cannot be run, or the Idempotency-Key was used otherwise.",
        ),
    )  # fmt: skip
    async def submit_scan(
        request: Request, idempotency_key: Annotated[str | None, _IDEMPOTENCY] = None
    ) -> Response:
        """Takes a whole lot from source to sink, in the class `nightly`. 200 and the same scan for
        an `Idempotency-Key` that was used before with the same body.
        """  # noqa: D205 (it is the route's description)
        running = on()
        if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
            raise BadRequest(
                f"Idempotency-Key is {idempotency_key[:60]!r}; expected 1 to 255 printable letters"
            )
        content = await read_small(request, timeout_s=lifecycle.settings.body_timeout_s)
        facts = request.scope["state"]["facts"]
        has_keys = lifecycle.settings.api_keys is not None
        client = str(facts.get("client") or (request.client.host if request.client else ""))
        scope = client if has_keys else ""
        job, is_new = await running.submit(
            read_body(content),
            client=client,
            idempotency_key=None if idempotency_key is None else f"{scope}:{idempotency_key}",
        )
        return JSONResponse(
            shown(job).model_dump(mode="json"),
            status_code=201 if is_new else 200,
            headers={"location": f"/scans/{job.id}"},
        )

    @router.get("", summary="List scans", responses=refusals(s422="A parameter does not suit."))
    async def list_scans(asked: Annotated[ListQuery, Query()]) -> ScanList:
        """The newest first; `state` may come several times."""
        limit = asked.limit
        found = await on().listing(limit=limit + 1, states=asked.state, before=asked.before)
        more = found[limit - 1].id if len(found) > limit else None
        return ScanList(scans=[shown(job) for job in found[:limit]], next=more)

    @router.get("/{scan}", summary="How far a scan is")
    async def get_scan(scan: str) -> ScanInfo:
        """Counts, rate, when it will be done, first errors; at its end what is missing."""
        return shown(await on().get(scan))

    @router.post("/{scan}/pause", summary="Pause a scan", responses=_NOT_NOW)
    async def pause_scan(scan: str) -> ScanInfo:
        """Tiles under way are finished; it stays paused, also after a restart."""
        return shown(await on().pause(scan))

    @router.post("/{scan}/resume", summary="Let a scan go on", responses=_NOT_NOW)
    async def resume_scan(scan: str) -> ScanInfo:
        """Also of one that ended with something missing: that is tried again."""
        return shown(await on().resume(scan))

    @router.delete(
        "/{scan}", response_model=ScanInfo, summary="Stop a scan, or forget it",
        responses={
            **_NOT_NOW,
            202: {"model": ScanInfo, "description": "Tiles under way are being finished."},
            204: {"description": "The scan had ended, and is forgotten."},
        },
    )  # fmt: skip
    async def delete_scan(scan: str) -> Response:
        """One that has not ended is stopped; outputs that are finished stay. One that has ended is
        forgotten (204).
        """  # noqa: D205 (it is the route's description)
        if await on().forget(scan):
            return Response(status_code=204)
        job = await on().cancel(scan)
        status = 200 if job.state is State.CANCELLED else 202
        return JSONResponse(shown(job).model_dump(mode="json"), status_code=status)

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
        scan: str, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        """Server-sent events: `progress` whenever something has changed, `end` when it has ended.
        204 to one that has seen the end, so that browsers stop asking.
        """  # noqa: D205 (it is the route's description)
        running = on()
        job = await running.get(scan)
        if not job.is_active and last_event_id == str(job.version):
            return Response(status_code=204)
        watchers.check()
        return StreamingResponse(
            _events(running, scan, last_event_id, lifecycle, watchers),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return router


class _Watchers:
    """How many follow scans now."""

    def __init__(self) -> None:
        self._count = 0

    def check(self) -> None:
        """Let no more in than there may be.

        Raises:
            QueueFull: There are enough.
        """
        if self._count >= _MOST_WATCHERS:
            raise QueueFull(
                f"{self._count} clients follow scans already; ask GET /scans/ID now and then",
                retry_after_s=30.0,
            )

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1


async def _events(
    jobs: ScanJobs,
    scan: str,
    seen: str | None,
    lifecycle: Lifecycle,
    watchers: _Watchers,
) -> AsyncGenerator[bytes]:
    """Yield what a scan's followers are sent, until it has ended or the service stops."""
    with watchers:
        yield b"retry: %d\n\n" % _RECONNECT_MS
        sent_s = time.monotonic()
        while not lifecycle.draining.is_set():
            try:
                job = await jobs.get(scan)
            except UnknownScan:
                return  # forgotten: who asks again gets 404
            except ServiceError:
                pass  # the list of scans cannot be reached now
            else:
                if str(job.version) != seen or not job.is_active:
                    seen, sent_s = str(job.version), time.monotonic()
                    yield _event(job, describe(job, jobs.windows, jobs.windows.now_s()))
                if not job.is_active:
                    return
            if time.monotonic() - sent_s > _HEARTBEAT_S:
                sent_s = time.monotonic()
                yield b": nothing new\n\n"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await lifecycle.draining.wait()
        yield b": the service is stopping\n\n"


def _event(job: Job, info: ScanInfo) -> bytes:
    name = "progress" if job.is_active else "end"
    return f"id: {job.version}\nevent: {name}\ndata: {info.model_dump_json()}\n\n".encode()


def _schemas() -> dict[str, Any]:
    schema = ScanBody.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "ScanBody": schema}


SCHEMAS = _schemas()
"""Of the bodies that are read here and not by FastAPI, for OpenAPI."""
