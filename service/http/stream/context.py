"""What a stream of tiles needs of its request and of the service."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from service.ground.metrics import Metrics
from service.http.stream.upload import Receive
from service.settings import Settings

Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class StreamContext:
    """One request on its connection.

    Attributes:
        settings: Settings of the service.
        metrics: Counters of images.
        receive: ASGI's.
        send: ASGI's.
        is_connected: Whether the client is still there; called periodically.
        stopping: Event that is set when the service is asked to end; no further image is read then.
        request_id: Id of the request, for problems.
        path: Path of the request, for problems.
    """

    settings: Settings
    metrics: Metrics
    receive: Receive
    send: Send
    is_connected: Callable[[], bool]
    stopping: asyncio.Event
    request_id: str
    path: str
