"""Settings of the shadow: a second model that sees a share of the tiles and never answers."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings


class ShadowSettings(BaseSettings):
    """Shadow model."""

    shadow_bundle: Path | None = Field(
        default=None,
        description=(
            "Folder of the bundle of a second model that runs on a share of the tiles, next to the "
            "served model and never in answers, see operations.md. Needs SEMSR_MODE=single. Unset: "
            "no shadow."
        ),
    )
    shadow_model: str | None = Field(
        default=None,
        description=(
            "Name of the served model that the shadow is compared with, one of SEMSR_BUNDLES. "
            "Unset: the default model."
        ),
    )
    shadow_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05,
        description=(
            "Share of the served model's tiles that the shadow is offered, drawn at random. It "
            "skips tiles while the service is busy."
        ),
    )
    shadow_limit_grey: Annotated[int, Field(ge=1, le=254)] = Field(
        default=16,
        description=(
            "Difference in grey levels (of 255) above which a pixel counts in the share of "
            "differing pixels."
        ),
    )
    shadow_keep: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=20, description="Number of the most different tiles that the report lists."
    )
    shadow_pictures: Path | None = Field(
        default=None,
        description=(
            "Folder for the pictures of the listed tiles, three PNG files each: LR, served answer, "
            "and the shadow's. Unset: no picture is stored."
        ),
    )
