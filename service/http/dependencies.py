"""What the quiet routes take from their app; FastAPI passes it as an argument."""

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
"""What runs scans; a route that takes it answers `ScansOff` where they are off."""
