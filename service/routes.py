"""The quiet routes: health, metrics, and what is served. The hot one is `service.superresolve`."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.errors import NotReady
from service.lifecycle import Lifecycle, State
from service.schemas import Health, ModelInfo


def make_router(lifecycle: Lifecycle) -> APIRouter:
    """Make the routes of one app."""
    router = APIRouter()

    @router.get("/livez", response_model=Health, tags=["health"], summary="Is the process alive?")
    async def livez() -> JSONResponse:
        """200 while the event loop turns and the engine loop, if started, is alive."""
        if lifecycle.state is State.FAILED:
            raise NotReady(lifecycle.reason)
        return JSONResponse({"status": "alive"})

    @router.get("/readyz", response_model=Health, tags=["health"], summary="Can it serve now?")
    async def readyz() -> JSONResponse:
        """200 when the engine is warm; 503 while starting, draining or failed. Overload is 200."""
        if lifecycle.state is not State.READY:
            raise NotReady(lifecycle.reason, retry_after_s=1.0)
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", tags=["operations"], summary="Prometheus metrics")
    async def metrics() -> Response:
        """Every metric of `docs/metrics.md` in Prometheus' text format."""
        return Response(generate_latest(lifecycle.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @router.get("/model", response_model=ModelInfo, tags=["model"], summary="What is served")
    async def model() -> ModelInfo:
        """The served bundle: scale, tile, precision, training statement, parity figures."""
        if lifecycle.serving is None:
            raise NotReady(lifecycle.reason, retry_after_s=1.0)
        model = lifecycle.serving.model
        return ModelInfo.of(model.bundle, model.engine)

    return router
