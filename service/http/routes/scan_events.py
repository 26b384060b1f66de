"""The events of a scan, for `GET /scans/ID/events`, and the limit of clients that follow them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from service.ground.errors import QueueFull, ServiceError, UnknownScan
from service.hosting.lifecycle import Lifecycle
from service.scan_jobs.job import Job
from service.scan_jobs.jobs import ScanJobs
from service.scan_jobs.scan_info import ScanInfo, describe

# Each reads the list of scans once a second.
_MOST_WATCHERS = 64
_LOOK_EVERY_S = 1.0
_HEARTBEAT_S = 15.0
_RECONNECT_MS = 2000


class Watchers:
    """Limits how many clients follow scans at once; a context manager for each of them."""

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> None:
        if self._count >= _MOST_WATCHERS:
            raise QueueFull(
                f"{self._count} clients follow scans already; ask GET /scans/ID now and then",
                retry_after_s=30.0,
            )
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1


async def scan_events(
    jobs: ScanJobs,
    scan: str,
    seen: str | None,
    lifecycle: Lifecycle,
    watchers: Watchers,
) -> AsyncGenerator[bytes]:
    """Yield the events of a scan, until it has ended or the service stops.

    Args:
        jobs: The scans.
        scan: Id of the scan.
        seen: Id of the last event that the client has seen, or None.
        lifecycle: State of the service.
        watchers: Limit of clients.
    """
    with watchers:
        yield b"retry: %d\n\n" % _RECONNECT_MS
        sent_s = time.monotonic()
        while not lifecycle.draining.is_set():
            try:
                job = await jobs.get(scan)
            except UnknownScan:
                return  # deleted: a new request gets 404
            except ServiceError:
                pass  # the list of scans is unavailable now
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


async def after_first(first: bytes, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield events whose first one has been taken already."""
    async with contextlib.aclosing(events):
        yield first
        async for event in events:
            yield event


def _event(job: Job, info: ScanInfo) -> bytes:
    name = "progress" if job.is_active else "end"
    return f"id: {job.version}\nevent: {name}\ndata: {info.model_dump_json()}\n\n".encode()
