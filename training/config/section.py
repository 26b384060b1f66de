"""The bases of a recipe's sections, and the types of fields that several sections have."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0)]

Share = Annotated[float, Field(ge=0, lt=1)]
"""Part of a run, for example: in shares, not in steps, so that a shorter run keeps its phases."""

Need = Literal["hr", "lr", "pairs"]
"""Kinds of images that a method may need: entries of a recipe's `data`."""


class Section(BaseModel):
    """A section of a recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MethodSection(Section):
    """A training method's section, and what the method needs of the run."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """Images that the method trains on."""
        return ("hr", "lr")

    @property
    def vgg16_taps(self) -> Sequence[str]:
        """Layers of the feature network that the method compares images by; empty for none."""
        return ()
