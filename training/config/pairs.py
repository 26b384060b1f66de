"""Pairs that are given: part of a recipe's `[data]` section."""

from pydantic import Field

from training.config.section import Section


class PairsConfig(Section):
    """Two folders of images of the same places, paired by file name."""

    input: str = Field(
        min_length=1, description="glob or folder of the LR images, relative to the root"
    )
    target: str = Field(
        min_length=1,
        description="glob or folder of the HR images: scale times as large, same names",
    )
    alignment: str | None = Field(
        default=None,
        description="alignment.json of `semsr align`, for what is left of the pairs' shifts",
    )
