"""The routes of an admin: another version of a model while the service runs, and back."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from service.lifecycle import Change, Lifecycle
from service.loading import find_bundle


class LoadOrder(BaseModel):
    """What to load."""

    model_config = ConfigDict(extra="forbid")

    bundle: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="Folder of the bundle, in SEMSR_LOAD_FROM; without it the present one anew.",
    )


class ServedVersion(BaseModel):
    """What is served under a name after a change."""

    model: str
    version: str = Field(description="The first twelve digits of `sha`.")
    sha: str = Field(description="sha256 of the bundle's manifest.")
    kept: str | None = Field(description="Version that a rollback would bring back.")

    @classmethod
    def of(cls, change: Change) -> "ServedVersion":
        """Describe a change."""
        return cls(model=change.name, version=change.version, sha=change.sha, kept=change.kept)


def make_router(lifecycle: Lifecycle) -> APIRouter:
    """Make the routes of one app; the middleware asks for an admin's key."""
    router = APIRouter(prefix="/admin/models", tags=["operations"])

    @router.post("/{name}/load", summary="Serve another version of a model (admin key)")
    async def load(name: str, order: LoadOrder | None = None) -> ServedVersion:
        """Load a bundle beside what is served, prove it, put it in place, keep the old one."""
        bundle = None
        if order is not None and order.bundle is not None:
            bundle = find_bundle(lifecycle.settings.load_from, order.bundle)
        return ServedVersion.of(await lifecycle.host.load(name, bundle))

    @router.post("/{name}/rollback", summary="Serve the version before again (admin key)")
    async def roll_back(name: str) -> ServedVersion:
        """At once: it was kept loaded. What was served is kept in its turn."""
        return ServedVersion.of(await lifecycle.host.roll_back(name))

    return router
