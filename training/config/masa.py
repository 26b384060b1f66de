"""Section of a recipe for MASA-SR (Lu et al. 2021): given pairs, and a reference for each."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from training.config.section import Section, Share, Weight

PERCEPTUAL_TAP = "relu4_3"
"""Layer of the perceptual loss. The paper's is conv5_4 of VGG19, before its ReLU; the feature
network of this project is VGG16, known up to this layer."""


class ReferenceDiscriminatorConfig(Section):
    """Discriminator of whole crops: convolutions with batch norm, then two dense layers."""

    width: int = Field(default=32, ge=1, description="channels of the first convolution")
    num_layers: int = Field(default=5, ge=1, le=6, description="halvings of the crop")
    hidden: int = Field(default=1024, ge=1, description="width of the first dense layer")
    learning_rate: float = Field(default=1e-4, gt=0, description="peak")
    betas: tuple[float, float] = Field(default=(0.0, 0.9), description="of its Adam")


class MasaConfig(Section):
    """Training of a network that takes a reference next to the LR image."""

    name: Literal["masa"]
    reference: Literal["own", "other"] = Field(
        default="own",
        description="picture that a crop gets as its reference: own: the HR crop itself, its true "
        "answer; other: a crop at a random place of another pair's HR image",
    )
    reference_px: int | None = Field(
        default=None,
        ge=4,
        description="side of the reference where it is another's, HR px; absent: the HR crop's",
    )
    turns: Literal["none", "vertical", "horizontal", "all"] = Field(
        default="vertical",
        description="random turns of a pair's crops: up and down, since a scan has a direction; "
        "all: flips and quarter turns, as published",
    )
    reference_turns: Literal["none", "vertical", "horizontal", "all"] = Field(
        default="none", description="random turns of the reference, drawn apart from the pair's"
    )
    reference_gain: tuple[float, float] = Field(
        default=(1.0, 1.0), description="range of a factor on the reference's greys"
    )
    reference_offset_grey: float = Field(
        default=0.0, ge=0, description="largest offset of the reference's greys, either way"
    )
    pixel_weight: float = Field(default=1.0, gt=0, description="of the mean absolute difference")
    perceptual_weight: Weight = Field(
        default=1.0, description="of the mean absolute difference of VGG16's relu4_3"
    )
    adversarial_weight: Weight = Field(default=5e-3, description="of the relativistic average loss")
    second_stage_start_share: Share = Field(
        default=0.0, description="share of the run with the pixel loss alone"
    )
    discriminator: ReferenceDiscriminatorConfig = Field(
        default_factory=ReferenceDiscriminatorConfig
    )

    @property
    def needs(self) -> tuple[Literal["pairs"], ...]:
        """Pairs of LR and HR images."""
        return ("pairs",)

    @property
    def vgg16_taps(self) -> Sequence[str]:
        """Layer of the perceptual loss, where it has a weight."""
        return (PERCEPTUAL_TAP,) if self.perceptual_weight else ()

    @model_validator(mode="after")
    def _reference_is_well_formed(self) -> Self:
        low, high = self.reference_gain
        if not 0 < low <= high:
            raise ValueError(f"reference_gain is {low}, {high}; expected 0 < low <= high")
        if self.reference == "own" and self.reference_px is not None:
            raise ValueError("reference_px is the side of another's crop, but reference is 'own'")
        return self
