"""Structure added to HR crops: part of a recipe's `[method.paired]` section."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.config.section import Section

Side = Annotated[float, Field(ge=2)]
Count = Annotated[int, Field(ge=0)]
PlantableKind = Literal[
    "bridge", "break", "particle", "stain", "fallen_bar", "edge_bump", "random_region"
]


class AddedStructureConfig(Section):
    """Structure that the images lack, added to HR crops before they are degraded."""

    planted: tuple[Count, Count] = Field(
        default=(0, 3), description="defects a crop, least and most"
    )
    kinds: tuple[PlantableKind, ...] = Field(
        default=("bridge", "break", "particle", "stain"),
        min_length=1,
        description="kinds of defects; the benchmark's rows plant these four alone",
    )
    min_detectability: float = Field(
        default=8.0,
        ge=0,
        description="least d' in the LR image of what is planted or pasted; fainter structure "
        "teaches to see noise",
    )
    max_detectability: float = Field(
        default=80.0, gt=0, description="greatest d' that is drawn, see faint_share"
    )
    faint_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the defects and patches whose contrast is lowered to a d' drawn "
        "log-uniformly from the least to the greatest; 0: all stay as drawn",
    )
    patch_share: float = Field(
        default=0.25, ge=0, le=1, description="share of crops with a foreign patch pasted in"
    )
    patches: int = Field(default=1, ge=1, description="foreign patches in such a crop: n1")
    patch_sides_px: tuple[Side, Side] = Field(
        default=(16.0, 160.0), description="their least and greatest side, HR px"
    )
    rounded_patches: bool = Field(
        default=False, description="cut out along rounded outlines, not as rectangles"
    )
    own_patch_share: float = Field(
        default=0.0, ge=0, le=1, description="share of them cut out of the HR images themselves"
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.faint_share and self.max_detectability < self.min_detectability:
            raise ValueError(
                f"max_detectability is {self.max_detectability}, expected at least "
                f"min_detectability, {self.min_detectability}"
            )
        return self
