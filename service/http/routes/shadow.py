"""The routes of an admin for the shadow: its report, and a new beginning of it."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.ground.errors import ShadowOff
from service.http.actions import logged_action
from service.http.dependencies import ServedLifecycle
from service.http.schemas import refusals
from service.shadow.shadow import Shadow


class ShadowModel(BaseModel):
    """The shadow as it is loaded; null before."""

    bundle: str
    name: str | None
    version: str | None
    sha: str | None
    engine: str | None
    precision: str | None


class TileCounts(BaseModel):
    """Tiles drawn, by outcome."""

    compared: int
    busy: int = Field(description="Skipped: the tile itself had waited for the engine.")
    full: int = Field(description="Skipped: the shadow still worked on other tiles.")
    down: int = Field(description="Skipped: the shadow was not running.")
    unsuitable: int = Field(description="Skipped: the models differ in tile size or scale.")
    failed: int = Field(description="The shadow gave no answer.")


class FlagCounts(BaseModel):
    """Compared tiles by the models that flag them as suspect."""

    neither: int
    both: int
    served_only: int
    shadow_only: int


class Spread(BaseModel):
    """Mean and quantiles of the last 1,000 tiles."""

    mean: float
    median: float
    p95: float
    max: float


class Figures(BaseModel):
    """Differences of the shadow's answers from the served ones, and both durations."""

    grey_difference: Spread = Field(description="Mean absolute difference, grey levels.")
    grey_shift: Spread = Field(description="Mean difference, shadow minus served, grey levels.")
    pixels_above: Spread = Field(description="Share of pixels above SEMSR_SHADOW_LIMIT_GREY.")
    edge_difference: Spread = Field(
        description="Mean absolute difference of the gradients, grey levels per LR pixel."
    )
    served_ms: Spread = Field(description="Duration of the served batch, for each of its tiles.")
    shadow_ms: Spread = Field(description="Duration on the shadow, with left-over processor time.")


class VersionFigures(BaseModel):
    """Figures of one served version against one version of the shadow."""

    served_version: str
    shadow_version: str
    compared: int
    flags: FlagCounts
    figures: Figures


class DifferentTile(BaseModel):
    """One of the most different tiles."""

    time: datetime
    request_id: str = Field(description="Id of its request; empty for the tile of a scan.")
    sha256: str = Field(description="Digest of the LR tile's pixels, row by row.")
    served_version: str
    grey_difference: float
    grey_shift: float
    pixels_above: float
    edge_difference: float
    served_ms: float
    shadow_ms: float
    flags: Literal["neither", "both", "served_only", "shadow_only"]
    served_flags: dict[str, float | None]
    shadow_flags: dict[str, float | None]
    pictures: str | None = Field(
        description="NAME of NAME-lr.png, NAME-served.png and NAME-shadow.png."
    )


class ShadowReport(BaseModel):
    """The report of the shadow."""

    format: str
    format_version: int
    model: str | None = Field(description="Served model that it is compared with.")
    state: Literal["waiting", "starting", "running", "restarting", "failed", "stopped"]
    reason: str | None = Field(description="Reason why it is not running.")
    shadow: ShadowModel
    share: float
    limit_grey: int
    tiles: TileCounts
    since: datetime
    versions: list[VersionFigures]
    most_different: list[DifferentTile] = Field(
        description="Tiles whose flags disagree first, then by edge_difference."
    )


router = APIRouter(prefix="/admin/shadow", tags=["operations"])
_REFUSALS = refusals(403, s404="The settings name no shadow (SEMSR_SHADOW_BUNDLE).")


@router.get("", summary="How a shadow model differs (admin key)", responses=_REFUSALS)
async def shadow_report(lifecycle: ServedLifecycle) -> ShadowReport:
    """Figures since the start or the last reset, and the tiles that differ most."""
    return ShadowReport.model_validate(_shadow(lifecycle).describe())


@router.post("/reset", summary="Empty the report of the shadow (admin key)", responses=_REFUSALS)
async def reset_shadow(request: Request, lifecycle: ServedLifecycle) -> ShadowReport:
    """Also deletes its pictures, and starts a shadow again that has failed."""
    with logged_action(request, "shadow_action", "reset"):
        shadow = _shadow(lifecycle)
        shadow.reset()
    return ShadowReport.model_validate(shadow.describe())


def _shadow(lifecycle: ServedLifecycle) -> Shadow:
    shadow = lifecycle.host.shadow
    if shadow is None:
        raise ShadowOff("the settings name no shadow (SEMSR_SHADOW_BUNDLE is not set)")
    return shadow
