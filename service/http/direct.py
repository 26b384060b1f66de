"""The short way of a tile: raw pixels of the model's own size, served by the protocol itself.

    head ──> body ──> runner ──> head and pixels in one write

A task, the middleware and the codecs cost several times as much on the event loop as the rest of
such a request (`docs/adr/0027-tiles-served-by-the-protocol.md`). This way knows good answers only:
a request that gets none is handed over to the app together with its error, so that every error is
described, counted and logged in one place.
"""

import asyncio
import time
from asyncio import Future
from functools import partial
from typing import Any, Protocol

import numpy as np

from service.batching.admission import Admission
from service.batching.tile_runner import TileResult
from service.ground.errors import RequestTimeout
from service.ground.request_id import REQUEST_ID
from service.hosting.lifecycle import Lifecycle, State
from service.hosting.serving import Serving
from service.http.access import Access
from service.http.audit import Audit
from service.http.direct_plan import DirectPlan, read_head, tile_timing
from service.http.identity import address_of, identify
from service.http.paths import HOT_PATH, route_of
from service.http.request_reports import RequestReports, request_id_of
from service.images.quality import Quality

_ROUTE = route_of(HOT_PATH)


class Host(Protocol):
    """The connection of a request, as `service.http.protocol` implements it."""

    loop: asyncio.AbstractEventLoop
    client: tuple[str, int] | None

    def send_answer(self, tile: "DirectTile", head: str, body: memoryview) -> None:
        """Send an answer; calls `tile.sent` when it has left the buffer of the connection."""
        ...

    def hand_over(self, tile: "DirectTile", error: Exception | None) -> None:
        """Let the app serve a request; an error is what it answers."""
        ...


class DirectTiles:
    """Recognises the requests that are served directly, and serves them."""

    def __init__(
        self, lifecycle: Lifecycle, access: Access, reports: RequestReports, audit: Audit | None
    ) -> None:
        """Prepare.

        Args:
            lifecycle: State of the service, and its models.
            access: Check of keys and quotas.
            reports: Reports of finished requests.
            audit: Hashes for the log, where the service audits.
        """
        self.audit = audit
        settings = lifecycle.settings
        self.lifecycle = lifecycle
        self.access = access
        self.reports = reports
        self.body_timeout_s = settings.body_timeout_s
        # Larger bodies go to the app, which names the limit.
        self._max_bytes = min(settings.max_body_bytes, settings.max_pixels)
        self.observe_recv = lifecycle.metrics.stage_duration.labels("recv").observe

    def begin(self, host: Host, url: bytes, scope: dict[str, Any]) -> "DirectTile | None":
        """Begin a POST over HTTP/1.1 whose head is complete; None if it goes to the app.

        Args:
            host: Connection of the request.
            url: Target of the request, as it was sent.
            scope: ASGI scope, with its headers.
        """
        plan = read_head(url, scope["headers"])
        if plan is None or plan.size > self._max_bytes:
            return None
        return DirectTile(self, host, plan, scope, url=url)


class DirectTile:
    """One request; stands where uvicorn expects its own `RequestResponseCycle`.

    Attributes:
        scope: ASGI scope, for the app.
        url: Target of the request, as it was sent.
        keep_alive: Whether the connection stays open after the answer.
        response_started: Whether the answer has been handed to the connection.
        response_complete: Whether the request is finished, or another cycle has taken it over.
        disconnected: Whether the client has left.
    """

    # uvicorn sets it when the client leaves; nothing waits for it here.
    message_event = asyncio.Event()

    def __init__(
        self, route: DirectTiles, host: Host, plan: DirectPlan, scope: dict[str, Any], *, url: bytes
    ) -> None:
        self.scope = scope
        self.url = url
        self.keep_alive = True
        self.response_started = False
        self.response_complete = False
        self.disconnected = False
        self._route = route
        self._host = host
        self._plan = plan
        self._body: list[bytes] = []
        self._missing = plan.size
        self._facts: dict[str, Any] = scope["state"].setdefault("facts", {})
        self._started_s = scope["state"]["started_s"] = time.perf_counter()
        self._deadline_s: float | None = None
        if plan.timeout_s is not None:
            self._deadline_s = time.monotonic() + plan.timeout_s
        self._recv_s = 0.0
        self._request_id = ""
        self._timer: asyncio.TimerHandle | None = None
        self._serving: Serving | None = None
        self._admission: Admission | None = None
        self._future: Future[TileResult] | None = None

    @property
    def body(self) -> bytes:
        """The body as far as it has arrived."""
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    @property
    def is_body_complete(self) -> bool:
        """Whether the whole body has arrived."""
        return not self._missing

    def take(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body.append(body)
        self._missing -= len(body)

    def wait_for_body(self) -> None:
        """Wait for the rest of a body that did not arrive with its head.

        The tile holds its place from now on, and the wait is limited.
        """
        if self._timer is None and self._missing and self._admit():
            seconds = self._route.body_timeout_s
            self._timer = self._host.loop.call_later(seconds, self._give_up_body, seconds)

    def run(self) -> None:
        """Run the tile, now that its body is complete."""
        self._end_timer()
        self._recv_s = time.perf_counter() - self._started_s
        serving = self._serving if self._admit() else None
        if serving is None:
            return
        self._route.observe_recv(self._recv_s)
        self._request_id = request_id_of(self.scope["headers"])
        REQUEST_ID.set(self._request_id)
        try:
            [future] = serving.runner.submit(
                [np.frombuffer(self.body, np.uint8).reshape(serving.bundle.manifest.tile)],
                deadline_s=self._deadline_s,
                priority=self._plan.request.priority,
            )
        except Exception as error:
            self._hand_over(error)
        else:
            self._future = future
            future.add_done_callback(self._answer)

    def lost(self) -> None:
        """Give up: the client has left."""
        self.disconnected = True
        if self._future is not None:
            self._future.cancel()
        # Status 499 where there was no answer, as in the middleware.
        self._finish(200 if self.response_started else 499)

    def sent(self) -> None:
        """Finish: the answer has left the buffer of the connection."""
        self._finish(200)

    def _admit(self) -> bool:
        """Find the model and take a place, once; False if the app serves the request now."""
        if self._admission is not None:
            return True
        route, plan = self._route, self._plan
        serving = plan.find_model(route.lifecycle)
        if serving is None:
            # The app checks the key first: what is served here is not everyone's to know.
            self._hand_over(None)
            return False
        try:
            if not route.access.is_open:
                who = identify(self.scope["headers"], self._host.client)
                self._facts["client"] = client = route.access.client_of(*who)
                route.access.spend(client)
            # An error of this model counts as its own, and its answer names it.
            self._facts |= plan.facts(serving)
            if route.audit is not None:
                self._facts["address"] = address_of(self._host.client)
            self.scope["state"]["model_headers"] = serving.headers
            self._admission = serving.upscaler.hold(plan.request.priority).__enter__()
        except Exception as error:
            self._hand_over(error)
            return False
        self._serving = serving
        return True

    def _answer(self, future: Future[TileResult]) -> None:
        serving, audit = self._serving, self._route.audit
        if self.response_complete or serving is None:
            return  # the client has left
        try:
            result = future.result()
            waited_s = time.perf_counter() - self._started_s - self._recv_s
            infer_s = max(0.0, waited_s - result.queue_s)
            tool = self._plan.request.tool
            quality = serving.upscaler.record_tile(result, infer_s=infer_s, tool=tool)
            timing = tile_timing(self._started_s, self._recv_s, result, infer_s=infer_s)
            self._facts["server_timing"], self._facts["tiles"] = timing, 1
            sr = result.sr.reshape(-1).data
            send = partial(self._send, sr, quality, timing)
            if audit is not None:
                audit.begin(self.body, sr).add_done_callback(send)
        except Exception as error:
            self._hand_over(error)
        else:
            if audit is None:
                send(None)

    def _send(
        self, sr: memoryview, quality: Quality, timing: str, hashed: Future[Any] | None
    ) -> None:
        """Send the answer, after its hashes were computed where the service audits."""
        if self.response_complete or self._serving is None:
            return  # the client has left
        try:
            self._facts |= {} if hashed is None else hashed.result()
        except Exception as error:
            self._hand_over(error)
            return
        head = (
            f"{self._plan.fixed_headers(self._serving)}x-quality: {quality.header()}\r\n"
            f"x-request-id: {self._request_id}\r\nserver-timing: {timing}, "
            f"total;dur={(time.perf_counter() - self._started_s) * 1e3:.2f}\r\n"
        )
        if self._route.lifecycle.state is State.DRAINING:
            self.keep_alive = False
        self.response_started = True
        self._host.send_answer(self, head, sr)

    def _finish(self, status: int) -> None:
        if self.response_complete:
            return
        self._release()
        self._body = []
        self._route.reports.finish(
            _ROUTE,
            method="POST",
            path=HOT_PATH,
            status=status,
            duration_s=time.perf_counter() - self._started_s,
            request_id=self._request_id or request_id_of(self.scope["headers"]),
            facts=self._facts,
        )

    def _give_up_body(self, seconds: float) -> None:
        arrived = self._plan.size - self._missing
        self._hand_over(
            RequestTimeout(
                f"{arrived} bytes of the body arrived within {seconds:g} s; "
                "the rest did not (SEMSR_BODY_TIMEOUT_S)"
            )
        )

    def _hand_over(self, error: Exception | None) -> None:
        self._release()
        self._host.hand_over(self, error)

    def _release(self) -> None:
        """End this request here, and free what it holds."""
        self.response_complete = True
        # The connection keeps this object until its next request; pixels, and a model that is
        # replaced, must not wait for that.
        self._future = self._serving = None
        self._end_timer()
        if self._admission is not None:
            self._admission.__exit__()
            self._admission = None

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
