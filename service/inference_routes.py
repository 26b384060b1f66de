"""The quiet routes of the Open Inference Protocol v2: health, metadata, the repository's index."""

from typing import Any

from fastapi import APIRouter, Response

from service.errors import NotReady
from service.inference_protocol import model_metadata
from service.lifecycle import Lifecycle, State
from service.openapi import VERSION

EXTENSIONS = ("binary_tensor_data", "model_repository", "parameters")


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
        if lifecycle.state is not State.READY:
            raise NotReady(lifecycle.reason, retry_after_s=1.0)
        return Response()

    @router.get("/models/{name}", summary="A model's tensors")
    @router.get("/models/{name}/versions/{version}", include_in_schema=False)
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        """Inputs and outputs with their shapes; -1 stands for any number."""
        serving = lifecycle.find_model(name, version)
        bundle = serving.model.bundle
        return model_metadata(bundle.manifest, name=name, version=bundle.version)

    @router.get("/models/{name}/ready", summary="Can the model serve now?")
    @router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(name: str, version: str | None = None) -> Response:
        """200 if it is served and the service is ready."""
        lifecycle.find_model(name, version)
        return await ready()

    @router.post("/repository/index", summary="What is served")
    async def index() -> list[dict[str, str]]:
        """The one model, or nothing while it is being loaded."""
        serving = lifecycle.serving
        if serving is None:
            return []
        state = "READY" if lifecycle.state is State.READY else "UNAVAILABLE"
        reason = "" if lifecycle.state is State.READY else lifecycle.reason
        return [
            {
                "name": serving.model.name,
                "version": serving.model.bundle.version,
                "state": state,
                "reason": reason,
            }
        ]

    return router
