"""The application: lifespan, middleware, routes and error handlers put together."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from export.bundle import Bundle
from service import openapi
from service.engines import Engine, EngineOptions, load_engine
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.middleware import RequestMiddleware
from service.problems import MEDIA_TYPE, problem_from
from service.routes import make_router
from service.settings import Settings
from service.superresolve import SuperResolve


def create_app(
    settings: Settings,
    *,
    engine_loader: Callable[[str, Bundle, EngineOptions], Engine] = load_engine,
    on_failure: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Make an app; loading begins with its lifespan and goes on in the background.

    Args:
        settings: The service's settings.
        engine_loader: Loads an engine by name; tests give their own.
        on_failure: Called if the service cannot, or can no longer, serve; the process should end.
    """
    metrics = Metrics()
    lifecycle = Lifecycle(settings, metrics, engine_loader=engine_loader, on_failure=on_failure)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        lifecycle.start()
        try:
            yield
        finally:
            await lifecycle.stop()

    app = FastAPI(
        title="semsr",
        summary="Super-resolution of SEM tiles: fast scans become what the slow scan shows.",
        version=openapi.VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.lifecycle = lifecycle
    app.router.routes.insert(
        0, Route("/superresolve", SuperResolve(lifecycle), methods=["POST"], name="superresolve")
    )
    app.include_router(make_router(lifecycle))
    openapi.install(app)
    # What FastAPI itself raises (unknown path, wrong method, bad parameter) gets the same body.
    for kind in (HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer_problem)
    app.add_middleware(RequestMiddleware, metrics=metrics, common_headers=lifecycle.common_headers)
    return app


async def _answer_problem(request: Request, error: Exception) -> Response:
    problem = problem_from(
        error, request_id=request.scope["state"]["request_id"], path=request.url.path
    )
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(problem.body, problem.status, headers, media_type=MEDIA_TYPE)
