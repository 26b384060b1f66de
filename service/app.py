"""The application: lifespan, middleware, routes and error handlers put together."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service import admin_routes, inference_routes, openapi, page, scan_routes
from service.access import Access, read_keys
from service.errors import ServiceError
from service.inference import INFER_PATH, Inference
from service.lifecycle import Lifecycle, ModelHost
from service.local_models import LocalModels
from service.logs import LineBudget
from service.metrics import Metrics
from service.middleware import RequestMiddleware
from service.problems import problem_from
from service.routes import make_router
from service.scan_jobs.jobs import ScanJobs
from service.settings import Settings
from service.superresolve import SuperResolve
from service.superresolve_batch import BATCH_PATH, SuperResolveBatch
from service.tracing import Tracing, make_tracing

HOT_PATH = "/superresolve"
# Load balancers ask some of them by HEAD; the server leaves the body out.
_PROBES = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
_OTHER_METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Application:
    """What the server runs: the hot route beside FastAPI, both behind the request middleware.

    FastAPI's stack of middleware and its router cost a fifth of what a raw tile takes on the event
    loop, so the hot route is found before them.

    Attributes:
        api: The FastAPI app with all other routes, the documentation and the lifespan.
        lifecycle: What state the service is in.
        jobs: Runs scans; None where they are off.
    """

    def __init__(
        self,
        api: FastAPI,
        lifecycle: Lifecycle,
        access: Access,
        *,
        jobs: ScanJobs | None,
        tracing: Tracing | None,
    ) -> None:
        self.api = api
        self.lifecycle = lifecycle
        self.jobs = jobs
        self._superresolve = SuperResolve(lifecycle)
        self._batch = SuperResolveBatch(lifecycle)
        self._inference = Inference(lifecycle)
        self._served = RequestMiddleware(
            self._dispatch,
            metrics=lifecycle.metrics,
            common_headers=lifecycle.common_headers,
            access=access,
            lines=LineBudget(lifecycle.settings.log_requests_per_s),
            tracing=tracing,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or run the lifespan."""
        await self._served(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == HOT_PATH and scope["method"] == "POST":
            await self._superresolve(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == BATCH_PATH and scope["method"] == "POST":
            await self._batch(scope, receive, send)
        elif (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and INFER_PATH.fullmatch(scope["path"])
        ):
            await self._inference(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "HEAD" and scope["path"] in _PROBES:
            await self.api({**scope, "method": "GET"}, receive, send)
        else:
            await self.api(scope, receive, send)


def create_app(
    settings: Settings,
    *,
    make_host: Callable[[Settings, Metrics], ModelHost] = LocalModels,
    on_failure: Callable[[], None] = lambda: None,
) -> Application:
    """Make an app; loading begins with its lifespan and goes on in the background.

    Args:
        settings: The service's settings.
        make_host: Makes what runs the models; by default they run in this process.
        on_failure: Called if the service cannot, or can no longer, serve; the process should end.

    Raises:
        service.access.KeyFileError: The settings name a key file that cannot be used.
        service.tracing.TracingError: Traces are asked for and cannot be made.
        service.scans.errors.MissingExtraError: The database of scans needs a package.
    """
    access = Access(
        keys=None if settings.api_keys is None else read_keys(settings.api_keys),
        rate_per_s=settings.rate_limit_per_s,
        burst=settings.rate_limit_burst,
    )
    tracing = make_tracing(settings, version=openapi.VERSION)
    metrics = Metrics()
    host = make_host(settings, metrics)
    lifecycle = Lifecycle(settings, metrics, host, on_failure=on_failure)

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
            if tracing is not None:
                await tracing.close(lifecycle.remaining_s())

    api = FastAPI(
        title="semsr",
        summary="Super-resolution of SEM tiles: fast scans become what the slow scan shows.",
        version=openapi.VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A redirect would lose the body of a POST with many clients.
        redirect_slashes=False,
    )
    api.include_router(make_router(lifecycle))
    api.include_router(inference_routes.make_router(lifecycle))
    api.include_router(admin_routes.make_router(lifecycle))
    api.include_router(scan_routes.make_router(lifecycle, jobs))
    api.include_router(page.make_router())
    # The hot routes' own addresses with any other method.
    for path in (HOT_PATH, BATCH_PATH):
        api.add_api_route(path, _only_post, methods=_OTHER_METHODS, include_in_schema=False)
    openapi.install(api, scan_routes.SCHEMAS)
    # What the quiet routes and FastAPI itself raise (unknown path …) gets the same body.
    for kind in (ServiceError, HTTPException, RequestValidationError, Exception):
        api.add_exception_handler(kind, _answer_problem)
    return Application(api, lifecycle, access, jobs=jobs, tracing=tracing)


def _only_post() -> None:
    """A browser that opens the hot route is told what it wants."""
    raise HTTPException(405, "send the image with POST; /docs shows how", headers={"Allow": "POST"})


async def _answer_problem(request: Request, error: Exception) -> Response:
    problem = problem_from(
        error, request_id=request.scope["state"]["request_id"], path=request.url.path
    )
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(problem.body, problem.status, headers)
