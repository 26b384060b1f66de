"""The routes of an admin: replacing the version of a model, and rolling back."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from service.hosting.loading import find_bundle
from service.hosting.versions import Change
from service.http.actions import logged_change
from service.http.body import read_order
from service.http.dependencies import ServedLifecycle
from service.http.schemas import json_body, refusals


class LoadOrder(BaseModel):
    """The bundle to load."""

    model_config = ConfigDict(extra="forbid")

    bundle: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="Folder of the bundle, in SEMSR_LOAD_FROM; without it the current one again.",
    )


class ServedVersion(BaseModel):
    """The version that is served under a name after a change."""

    model: str
    version: str = Field(description="The first twelve digits of `sha`.")
    sha: str = Field(description="sha256 of the bundle's manifest.")
    kept: str | None = Field(description="Version that a rollback would bring back.")

    @classmethod
    def of(cls, change: Change) -> "ServedVersion":
        """Describe a change."""
        return cls(model=change.name, version=change.version, sha=change.sha, kept=change.kept)


router = APIRouter(prefix="/admin/models", tags=["operations"])


@router.post(
    "/{name}/load", summary="Serve another version of a model (admin key)",
    responses=refusals(
        400, 404, 408, 413, 415,
        s403="Not an admin's key, or the bundle lies outside SEMSR_LOAD_FROM.",
        s422="The bundle cannot be served; nothing has changed.",
    ),
    openapi_extra=json_body(LoadOrder),
)  # fmt: skip
async def load_model(name: str, request: Request, lifecycle: ServedLifecycle) -> ServedVersion:
    """Load and verify a bundle, then replace the current version with it and keep that one."""
    timeout_s = lifecycle.settings.body_timeout_s
    order = await read_order(request, LoadOrder, timeout_s=timeout_s)
    with logged_change(request, lifecycle, "load", name, bundle=order.bundle) as fields:
        bundle = None
        if order.bundle is not None:
            bundle = find_bundle(lifecycle.settings.load_from, order.bundle)
        return _served(fields, await lifecycle.host.load(name, bundle))


@router.post(
    "/{name}/rollback", summary="Serve the previous version again (admin key)",
    responses=refusals(
        404, s409="No earlier version is kept.", s422="The kept version cannot be served."
    ),
)  # fmt: skip
async def roll_back_model(name: str, request: Request, lifecycle: ServedLifecycle) -> ServedVersion:
    """Takes effect at once: it was kept loaded. The current version becomes the one kept."""
    with logged_change(request, lifecycle, "rollback", name) as fields:
        return _served(fields, await lifecycle.host.roll_back(name))


def _served(fields: dict[str, Any], change: Change) -> ServedVersion:
    fields |= {"version": change.version, "sha": change.sha}
    return ServedVersion.of(change)
