"""The quiet routes of the Open Inference Protocol v2: health, metadata, the repository's index.

Every route of a model exists with its version in the path and without.
"""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from engines.registry import device_kind
from service.ground.errors import NotReady, UnsuitableOrder
from service.hosting.lifecycle import Lifecycle, State
from service.hosting.loading import batch_limit
from service.http.actions import logged_change
from service.http.body import read_order
from service.http.dependencies import ServedLifecycle
from service.http.schemas import VERSION, json_body, refusals
from service.http.v2.model_description import model_config, model_metadata
from service.http.v2.statistics import model_statistics

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)

_OF_A_MODEL = refusals(404, 503)
_CHANGES = refusals(400, 404, 408, 413, 415, 422)


class IndexOrder(BaseModel):
    """What to list."""

    ready: bool = Field(default=False, description="Whether to list ready models only.")


class RepositoryOrder(BaseModel):
    """Parameters of a load or an unload."""

    parameters: dict[str, Any] = Field(
        default={},
        description="Triton's; unload_dependents has no effect, others are refused.",
        json_schema_extra={
            "properties": {"unload_dependents": {"type": "boolean"}},
            "additionalProperties": False,
        },
    )

    def check(self) -> None:
        """Refuse parameters that would be ignored, because their client relies on them.

        Raises:
            UnsuitableOrder: A parameter is unknown or has the wrong type.
        """
        dependents = self.parameters.get("unload_dependents", False)
        if not isinstance(dependents, bool):
            raise UnsuitableOrder(
                f"unload_dependents is {dependents!r:.80}; expected true or false"
            )
        unknown = [name for name in self.parameters if name != "unload_dependents"]
        if unknown:
            raise UnsuitableOrder(
                f"the parameter {unknown[0][:80]!r} is not offered: a model is loaded as its "
                "bundle is; expected none"
            )


router = APIRouter(prefix="/v2", tags=["open inference protocol"])


@router.get("", summary="The server")
async def server_metadata() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "semsr", "version": VERSION, "extensions": EXTENSIONS}


@router.get(
    "/health/live", summary="Is the process alive?", response_class=Response,
    responses=refusals(s503="It has failed and must be restarted."),
)  # fmt: skip
async def server_live(lifecycle: ServedLifecycle) -> Response:
    """As `/livez`."""
    if lifecycle.state is State.FAILED:
        raise NotReady(lifecycle.reason)
    return Response()


@router.get(
    "/health/ready", summary="Can it serve now?", response_class=Response,
    responses=refusals(s503="It is starting, draining or has failed."),
)  # fmt: skip
async def server_ready(lifecycle: ServedLifecycle) -> Response:
    """As `/readyz`."""
    reason = lifecycle.unready()
    if reason is not None:
        raise NotReady(reason, retry_after_s=1.0)
    return Response()


@router.get("/models/{name}/versions/{version}", summary="A version's tensors",
            responses=_OF_A_MODEL)  # fmt: skip
async def model_version_metadata(
    name: str, version: str | None, lifecycle: ServedLifecycle
) -> dict[str, Any]:
    """Inputs and outputs with their shapes; -1 stands for any number."""
    bundle = lifecycle.find_model(name, version).bundle
    return model_metadata(bundle.manifest, name=name, version=bundle.version)


@router.get("/models/{name}", name="model_metadata", summary="A model's tensors",
            responses=_OF_A_MODEL)  # fmt: skip
async def model_metadata_of(name: str, lifecycle: ServedLifecycle) -> dict[str, Any]:
    """Inputs and outputs with their shapes; -1 stands for any number."""
    return await model_version_metadata(name, None, lifecycle)


@router.get("/models/{name}/versions/{version}/config", summary="A version's configuration",
            responses=_OF_A_MODEL)  # fmt: skip
async def model_version_config(
    name: str, version: str | None, lifecycle: ServedLifecycle
) -> dict[str, Any]:
    """The configuration in the form of Triton's `ModelConfig`."""
    settings = lifecycle.settings
    serving = lifecycle.find_model(name, version)
    return model_config(
        serving.bundle.manifest,
        name=name,
        engine=serving.engine,
        max_batch_size=batch_limit(serving.bundle, settings),
        has_gpu=device_kind(settings.device) == "cuda",
        count=settings.engine_processes if settings.mode == "pool" else 1,
    )


@router.get("/models/{name}/config", name="model_config", summary="A model's configuration",
            responses=_OF_A_MODEL)  # fmt: skip
async def model_config_of(name: str, lifecycle: ServedLifecycle) -> dict[str, Any]:
    """The configuration in the form of Triton's `ModelConfig`."""
    return await model_version_config(name, None, lifecycle)


@router.get("/models/{name}/versions/{version}/ready", summary="Can the version serve now?",
            response_class=Response, responses=_OF_A_MODEL)  # fmt: skip
async def model_version_ready(
    name: str, version: str | None, lifecycle: ServedLifecycle
) -> Response:
    """200 if it is served and its engine is ready."""
    lifecycle.find_model(name, version)
    if lifecycle.state is State.DRAINING:
        raise NotReady(lifecycle.reason, retry_after_s=1.0)
    return Response()


@router.get("/models/{name}/ready", summary="Can the model serve now?",
            response_class=Response, responses=_OF_A_MODEL)  # fmt: skip
async def model_ready(name: str, lifecycle: ServedLifecycle) -> Response:
    """200 if it is served and its engine is ready."""
    return await model_version_ready(name, None, lifecycle)


@router.get("/models/{name}/versions/{version}/stats", summary="A version's statistics",
            responses=_OF_A_MODEL)  # fmt: skip
async def model_version_stats(
    name: str, version: str | None, lifecycle: ServedLifecycle
) -> dict[str, Any]:
    """Requests, tiles and batches since the start, and the time that they took."""
    serving = lifecycle.find_model(name, version)
    return model_statistics(
        lifecycle.host.collect(), name=serving.name, version=serving.version_number
    )


@router.get("/models/{name}/stats", summary="A model's statistics", responses=_OF_A_MODEL)
async def model_stats(name: str, lifecycle: ServedLifecycle) -> dict[str, Any]:
    """Requests, tiles and batches since the start, and the time that they took."""
    return await model_version_stats(name, None, lifecycle)


@router.post("/repository/index", summary="The served models",
openapi_extra=json_body(IndexOrder),
             responses=refusals(400, 408, 413, 415, 422))  # fmt: skip
async def repository_index(request: Request, lifecycle: ServedLifecycle) -> list[dict[str, str]]:
    """Every served model; empty while they are being loaded."""
    order = await read_order(request, IndexOrder, timeout_s=lifecycle.settings.body_timeout_s)
    states = [
        (serving, serving.runner.unavailable or _stage(lifecycle))
        for serving in lifecycle.models.values()
    ]
    return [
        {
            "name": serving.name,
            "version": serving.bundle.version,
            "state": "UNAVAILABLE" if reason else "READY",
            "reason": reason or "",
        }
        for serving, reason in states
        if not (reason and order.ready)
    ]


@router.post("/repository/models/{name}/load", summary="Load a model again (admin key)",
             response_class=Response, openapi_extra=json_body(RepositoryOrder),
             responses={**_CHANGES, **refusals(s422="It cannot be loaded.")})  # fmt: skip
async def repository_load(name: str, request: Request, lifecycle: ServedLifecycle) -> Response:
    """Read the model's bundle again and replace the current version; a failure changes nothing."""
    (
        await read_order(request, RepositoryOrder, timeout_s=lifecycle.settings.body_timeout_s)
    ).check()
    with logged_change(request, lifecycle, "load", name):
        await lifecycle.host.load(name)
    return Response()


@router.post("/repository/models/{name}/unload", summary="Unload a model (admin key)",
             response_class=Response, openapi_extra=json_body(RepositoryOrder),
             responses=_CHANGES)  # fmt: skip
async def repository_unload(name: str, request: Request, lifecycle: ServedLifecycle) -> Response:
    """No new request reaches it; requests in flight are finished."""
    (
        await read_order(request, RepositoryOrder, timeout_s=lifecycle.settings.body_timeout_s)
    ).check()
    with logged_change(request, lifecycle, "unload", name):
        await lifecycle.host.unload(name)
    return Response()


def _stage(lifecycle: Lifecycle) -> str | None:
    """Why no model is ready, or None."""
    return None if lifecycle.state is State.READY else lifecycle.reason
