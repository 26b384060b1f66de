"""The quiet routes of the Open Inference Protocol v2: health, metadata, the repository's index."""

from typing import Any

from fastapi import APIRouter, Response

from service.errors import NotReady
from service.inference_protocol import model_metadata
from service.lifecycle import Lifecycle, State
from service.openapi import VERSION
from service.statistics import model_statistics

EXTENSIONS = ("binary_tensor_data", "model_repository", "parameters", "statistics")


def make_router(lifecycle: Lifecycle) -> APIRouter:
    """Make the routes of one app."""
    router = APIRouter(prefix="/v2", tags=["open inference protocol"])

    @router.get("", summary="The server")
    async def server() -> dict[str, Any]:
        """Name, version and extensions."""
        return {"name": "semsr", "version": VERSION, "extensions": EXTENSIONS}

    @router.get("/health/live", summary="Is the process alive?")
    async def live() -> Response:
        """As `/livez`."""
        if lifecycle.state is State.FAILED:
            raise NotReady(lifecycle.reason)
        return Response()

    @router.get("/health/ready", summary="Can it serve now?")
    async def ready() -> Response:
        """As `/readyz`."""
        reason = lifecycle.unready()
        if reason is not None:
            raise NotReady(reason, retry_after_s=1.0)
        return Response()

    @router.get("/models/{name}", summary="A model's tensors")
    @router.get("/models/{name}/versions/{version}", include_in_schema=False)
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        """Inputs and outputs with their shapes; -1 stands for any number."""
        serving = lifecycle.find_model(name, version)
        bundle = serving.bundle
        return model_metadata(bundle.manifest, name=name, version=bundle.version)

    @router.get("/models/{name}/ready", summary="Can the model serve now?")
    @router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(name: str, version: str | None = None) -> Response:
        """200 if it is served and its engine is there."""
        lifecycle.find_model(name, version)
        if lifecycle.state is State.DRAINING:
            raise NotReady(lifecycle.reason, retry_after_s=1.0)
        return Response()

    @router.get("/models/{name}/stats", summary="A model's statistics")
    @router.get("/models/{name}/versions/{version}/stats", include_in_schema=False)
    async def statistics(name: str, version: str | None = None) -> dict[str, Any]:
        """Requests, tiles and batches since the start, and the time that they took."""
        serving = lifecycle.find_model(name, version)
        return model_statistics(
            lifecycle.host.collect(), name=serving.name, version=serving.bundle.version
        )

    @router.post("/repository/index", summary="What is served")
    async def index() -> list[dict[str, str]]:
        """Every served model; nothing while they are being loaded."""
        return [
            {
                "name": serving.name,
                "version": serving.bundle.version,
                "state": "UNAVAILABLE" if reason else "READY",
                "reason": reason or "",
            }
            for serving in lifecycle.models.values()
            for reason in [serving.runner.unavailable or _stage(lifecycle)]
        ]

    @router.post("/repository/models/{name}/load", summary="Load a model anew (admin key)")
    async def load(name: str) -> Response:
        """Read the model's bundle again and put it in place; if it cannot, the old one stays."""
        await lifecycle.host.load(name)
        return Response()

    @router.post("/repository/models/{name}/unload", summary="Serve a model no longer (admin key)")
    async def unload(name: str) -> Response:
        """No new request reaches it; what is under way is finished."""
        await lifecycle.host.unload(name)
        return Response()

    return router


def _stage(lifecycle: Lifecycle) -> str | None:
    """Why nothing is ready, whatever the model."""
    return None if lifecycle.state is State.READY else lifecycle.reason
