"""The quiet routes: health, metrics, and the served model."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from service.ground.errors import NotReady
from service.ground.exposition import exposition
from service.hosting.lifecycle import State
from service.http.dependencies import ServedLifecycle
from service.http.operations import MODEL_PARAMETER
from service.http.schemas import Health, ModelInfo, refusals
from service.images.request import asked_model

router = APIRouter()


@router.get(
    "/livez", response_model=Health, tags=["health"], summary="Is the process alive?",
    responses=refusals(s503="It has failed and must be restarted."),
)  # fmt: skip
async def livez(lifecycle: ServedLifecycle) -> JSONResponse:
    """200 while the event loop runs and the engine loop, if started, is alive."""
    if lifecycle.state is State.FAILED:
        raise NotReady(lifecycle.reason)
    return JSONResponse({"status": "alive"})


@router.get(
    "/readyz", response_model=Health, tags=["health"], summary="Can it serve now?",
    responses=refusals(s503="It is starting, draining or has failed."),
)  # fmt: skip
async def readyz(lifecycle: ServedLifecycle) -> JSONResponse:
    """200 when the engine is warm; 503 while starting, draining or failed. Overload is 200."""
    reason = lifecycle.unready()
    if reason is not None:
        raise NotReady(reason, retry_after_s=1.0)
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics", tags=["operations"], summary="Prometheus metrics",
    response_class=PlainTextResponse,
)  # fmt: skip
async def metrics(lifecycle: ServedLifecycle) -> Response:
    """Every metric of `docs/metrics.md` in Prometheus' text format."""
    return Response(exposition(lifecycle.host.collect()), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/model", tags=["model"], summary="The served model",
    responses=refusals(400, 404, 503), openapi_extra={"parameters": [MODEL_PARAMETER]},
)  # fmt: skip
async def model(request: Request, lifecycle: ServedLifecycle) -> ModelInfo:
    """The served bundle: scale, tile, precision, training statement, parity figures."""
    return ModelInfo.of(lifecycle.find_model(asked_model(request.scope["query_string"])))
