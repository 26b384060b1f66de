"""The base of every section of a recipe, and the types of fields that several sections have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0)]

Share = Annotated[float, Field(ge=0, lt=1)]
"""Part of a run, for example: in shares, not in steps, so that a shorter run keeps its phases."""


class Section(BaseModel):
    """A section of a recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
