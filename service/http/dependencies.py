"""Parts of the app that FastAPI passes to the quiet routes as arguments."""

from typing import Annotated

from fastapi import Depends, Request

from service.ground.errors import ScansOff
from service.hosting.lifecycle import Lifecycle
from service.scan_jobs.jobs import ScanJobs


async def _lifecycle(request: Request) -> Lifecycle:
    return request.app.state.lifecycle


async def _jobs(request: Request) -> ScanJobs:
    jobs: ScanJobs | None = request.app.state.jobs
    if jobs is None:
        raise ScansOff("the operator has allowed no folders (SEMSR_SCAN_ROOTS is not set)")
    return jobs


ServedLifecycle = Annotated[Lifecycle, Depends(_lifecycle)]
"""The app's lifecycle."""

Jobs = Annotated[ScanJobs, Depends(_jobs)]
"""Scans as jobs; a route with this argument answers `ScansOff` where they are disabled."""
