"""The application: lifespan, middleware, routes and error handlers put together."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.ground.errors import ServiceError
from service.ground.logs import LineBudget
from service.ground.metrics import Metrics
from service.hosting.lifecycle import Lifecycle, ModelHost
from service.hosting.local_models import LocalModels
from service.http import openapi, page
from service.http.access import Access, read_keys
from service.http.audit import Audit
from service.http.batch import BATCH_PATH, SuperResolveBatch
from service.http.decode import DECODE_PATH, Decode
from service.http.direct import DirectTiles
from service.http.key_uses import KeyUses
from service.http.middleware import RequestMiddleware
from service.http.paths import HOT_PATH, route_of
from service.http.problems import problem_from
from service.http.request_reports import RequestReports
from service.http.routes import admin, health, scans, shadow
from service.http.routes.scan_events import Watchers
from service.http.schemas import VERSION
from service.http.superresolve import SuperResolve
from service.http.tracing import Tracing, make_tracing
from service.http.v2 import routes as inference
from service.http.v2.infer import INFER_PATH, Inference
from service.images.media_types import check_encoding
from service.scan_jobs.jobs import ScanJobs
from service.settings import Settings

# Requests of these methods have no body that is read.
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Application:
    """The application: the hot routes and FastAPI, both behind the request middleware.

    FastAPI's stack of middleware and its router cost a fifth of a raw tile's time on the event
    loop, so the hot routes are found before them.

    Attributes:
        api: The FastAPI app with all other routes, the documentation and the lifespan.
        lifecycle: State of the service.
        jobs: Scans as jobs; None where they are disabled.
        direct: Tiles that the HTTP protocol serves itself; None where all go through the app.
    """

    def __init__(
        self,
        api: FastAPI,
        lifecycle: Lifecycle,
        access: Access,
        *,
        jobs: ScanJobs | None,
        tracing: Tracing | None,
        audit: Audit | None,
    ) -> None:
        self.api = api
        self.lifecycle = lifecycle
        self.jobs = jobs
        self._superresolve = SuperResolve(lifecycle, audit)
        self._batch = SuperResolveBatch(lifecycle, audit)
        self._inference = Inference(lifecycle, audit)
        self._decode = Decode(lifecycle)
        reports = RequestReports(
            lifecycle.metrics,
            # An audit misses no request.
            None if audit else LineBudget(lifecycle.settings.log_requests_per_s),
            has_keys=access.has_keys,
        )
        self._served = RequestMiddleware(
            self._dispatch,
            metrics=lifecycle.metrics,
            reports=reports,
            common_headers=lifecycle.common_headers,
            access=access,
            audits=audit is not None,
            tracing=tracing,
        )
        # Spans, and clients behind a proxy, are the app's.
        self.direct = None
        if tracing is None and not lifecycle.settings.trusted_proxies:
            self.direct = DirectTiles(lifecycle, access, reports, audit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or run the lifespan."""
        await self._served(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.api(scope, receive, send)
            return
        hot = self._hot_route(scope["path"])
        if hot is None:
            if scope["method"] not in _BODILESS:
                check_encoding(
                    value.decode("latin-1")
                    for name, value in scope["headers"]
                    if name == b"content-encoding"
                )
            if scope["method"] == "HEAD" and route_of(scope["path"]).is_probe:
                # The server leaves the body out.
                scope = {**scope, "method": "GET"}
            await self.api(scope, receive, send)
        elif scope["method"] == "POST":
            await hot(scope, receive, send)
        else:
            raise HTTPException(405, "send POST; /docs shows how", headers={"Allow": "POST"})

    def _hot_route(self, path: str) -> ASGIApp | None:
        """Return the endpoint of a hot route by its path; None for any other path."""
        if path == HOT_PATH:
            return self._superresolve
        if path == BATCH_PATH:
            return self._batch
        if path == DECODE_PATH:
            return self._decode
        return self._inference if INFER_PATH.fullmatch(path) else None


def create_app(
    settings: Settings,
    *,
    make_host: Callable[[Settings, Metrics], ModelHost] = LocalModels,
    on_failure: Callable[[], None] = lambda: None,
) -> Application:
    """Make an app; loading begins with its lifespan and continues in the background.

    Args:
        settings: The service's settings.
        make_host: Factory of the host of the models; by default they run in this process.
        on_failure: Callback for a failure of the service; it should end the process.

    Raises:
        service.http.access.KeyFileError: The settings name a key file that cannot be used.
        service.http.tracing.TracingError: The settings ask for traces that cannot be made.
        service.scans.errors.MissingExtraError: The database of scans needs a package.
    """
    access = Access(
        keys=None if settings.api_keys is None else read_keys(settings.api_keys),
        rate_per_s=settings.rate_limit_per_s,
        burst=settings.rate_limit_burst,
        on_use=KeyUses().note,
    )
    tracing = make_tracing(settings, version=VERSION)
    metrics = Metrics()
    host = make_host(settings, metrics)
    lifecycle = Lifecycle(settings, metrics, host, on_failure=on_failure)
    audit = Audit() if settings.audit else None

    jobs = ScanJobs(settings, lifecycle) if settings.scan_roots else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await lifecycle.start()
        if jobs is not None:
            await jobs.start()
        try:
            yield
        finally:
            lifecycle.begin_drain()
            if jobs is not None:
                await jobs.stop(lifecycle.remaining_s())
            await lifecycle.stop()
            if audit is not None:
                audit.close()
            if tracing is not None:
                await tracing.close(lifecycle.remaining_s())

    api = FastAPI(
        title="semsr",
        summary="Super-resolution of SEM tiles: fast scans become what the slow scan shows.",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A redirect would lose the body of a POST with many clients.
        redirect_slashes=False,
        # Generated clients name their functions after these ids.
        generate_unique_id_function=lambda route: route.name,
    )
    # What `dependencies` hands to the routes.
    api.state.lifecycle, api.state.jobs, api.state.watchers = lifecycle, jobs, Watchers()
    for routes in (health, inference, admin, shadow, scans):
        api.include_router(routes.router)
    api.include_router(page.make_router())
    openapi.install(api, scans.SCHEMAS, has_keys=settings.api_keys is not None)
    # Errors of the quiet routes and of FastAPI itself (unknown path …) get the same body.
    for kind in (ServiceError, HTTPException, RequestValidationError, Exception):
        api.add_exception_handler(kind, _answer_problem)
    return Application(api, lifecycle, access, jobs=jobs, tracing=tracing, audit=audit)


def _with_every_method(request: Request, error: HTTPException) -> HTTPException:
    """Return a 405 error that names the methods of all routes of a path, not of the first."""
    path = request.scope["path"]
    methods = sorted(
        method
        for route in iter_route_contexts(request.app.routes)
        if route.methods and route.path_regex.match(path)
        for method in route.methods
    )
    allowed = ", ".join(methods)
    detail = f"{path[:200]} has no {request.method}; expected {' or '.join(methods)}"
    return HTTPException(405, detail, headers={**(error.headers or {}), "Allow": allowed})


async def _answer_problem(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        error = _with_every_method(request, error)
    problem = problem_from(
        error, request_id=request.scope["state"]["request_id"], path=request.url.path
    )
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(problem.body, problem.status, headers)
