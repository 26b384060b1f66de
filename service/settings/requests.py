"""Settings of requests: their limits of size, time, and number."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings


class RequestSettings(BaseSettings):
    """Limits of requests."""

    online_budget_ms: Annotated[float, Field(gt=0, le=3_600_000)] = Field(
        default=10_000.0,
        description=(
            "Maximum expected wait in milliseconds for an online tile without "
            "X-Request-Timeout-Ms; a request that would wait longer is rejected with 503. Nightly "
            "tiles occupy the engine for at most a quarter of it at a time."
        ),
    )
    max_queue: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=128,
        description=(
            "Number of places for requests in flight; when none is free, a request gets 503 "
            "immediately. A place is the memory of one SR tile: an image takes one for each of "
            "its tiles (two for a 16-bit answer), an upload as many as its bytes fill."
        ),
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=32 * 1024 * 1024, description="Maximum size of a request body in bytes."
    )
    max_pixels: Annotated[int, Field(ge=1)] = Field(
        default=2048 * 2048,
        description="Maximum size of an image in pixels, checked before decoding.",
    )
    head_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=10.0,
        description="Time limit in seconds for receiving the head of a request.",
    )
    body_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0, description="Time limit in seconds for receiving a request body."
    )
    send_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0,
        description=(
            "Time in seconds after which the service closes the connection of a client that does "
            "not read its answer."
        ),
    )
    batch_idle_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0,
        description=(
            "Maximum pause in seconds within the upload of a batch request; there is no limit for "
            "the whole upload. Each of its tiles may take SEMSR_BODY_TIMEOUT_S."
        ),
    )
    max_spool_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=1 << 30,
        description=(
            "Maximum size in bytes of a TIFF stack or zip archive in a batch request: it is kept "
            "in an unnamed temporary file while it is read. Raw, npy, and tar need none."
        ),
    )
    spool_dir: Path | None = Field(
        default=None,
        description=(
            "Folder for the temporary files of batch requests. Unset: the system's own (TMPDIR, "
            "/tmp). On a memory file system such as /dev/shm, no image is ever written to disk."
        ),
    )
