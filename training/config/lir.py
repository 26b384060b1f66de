"""Section of a recipe for LIR (Du et al. 2020), as published and as the thesis re-modelled it."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from training.config.section import MethodSection, Section, Weight

SEMANTIC_TAP = "conv4_1"
"""Layer of the semantic consistency. The paper's is conv4_1 of VGG19; the feature network of this
project is VGG16, whose layer of that name has one convolution less behind it."""


class LirDiscriminatorConfig(Section):
    """Discriminators of images and of content codes."""

    width: int = Field(default=64, ge=1, description="channels of the first convolution")
    num_scales: int = Field(default=3, ge=1, le=5, description="scales of an image that are judged")
    learning_rate: float = Field(default=1e-4, gt=0, description="peak, of the images' ones")
    content_learning_rate: float = Field(default=5e-5, gt=0, description="peak, of the codes' one")
    content_steps: int = Field(
        default=4,
        ge=1,
        description="optimiser steps of the codes' one in a training step; published: 3 and 1",
    )
    content_gradient_clip: float = Field(
        default=5.0, ge=0, description="largest gradient norm of the codes' one; 0: none"
    )


class LirConfig(MethodSection):
    """Unpaired translation through content codes that two domains share."""

    name: Literal["lir"]
    variant: Literal["denoise", "style"] = Field(
        description="denoise, as published: LR has noise that HR lacks (generator lir); style: HR "
        "has a style that LR lacks, taken from a reference (generator lir_style)"
    )
    flips: Literal["none", "vertical", "horizontal"] = Field(
        default="none", description="random flips of crops; none, as in the thesis"
    )
    adversarial_weight: Weight = Field(default=1.0, description="images against discriminators")
    content_weight: Weight = Field(default=1.0, description="codes against their discriminator")
    self_weight: Weight = Field(default=10.0, description="L1 of images decoded from own codes")
    cycle_weight: Weight = Field(default=10.0, description="L1 of images translated and back")
    code_weight: Weight = Field(default=0.01, description="mean square of every code")
    semantic_weight: Weight = Field(
        default=1.0, description="VGG16 conv4_1 of an image and its translation"
    )
    background_weight: Weight = Field(
        default=5.0, description="blurred L1 between an image and its translation"
    )
    multi_reference_weight: Weight = Field(
        default=0.0, description="thesis eq. 3.1: L1 between outputs for several references"
    )
    num_references: int = Field(default=3, ge=2, description="references of that term, n")
    code_noise: float = Field(
        default=1.0, ge=0, description="deviation of the noise added to codes before decoding"
    )
    weight_decay: Weight = Field(default=1e-4, description="L2 penalty of Adam, all networks")
    reference: int = Field(
        default=0,
        ge=0,
        description="number of the training HR image, in the order of reading, whose style the "
        "run's pictures and figures have (style)",
    )
    discriminator: LirDiscriminatorConfig = Field(default_factory=LirDiscriminatorConfig)

    @property
    def vgg16_taps(self) -> Sequence[str]:
        """Layer of the semantic consistency."""
        return (SEMANTIC_TAP,) if self.semantic_weight else ()

    @model_validator(mode="after")
    def _references_have_a_style(self) -> Self:
        if self.multi_reference_weight and self.variant == "denoise":
            raise ValueError("multi_reference_weight needs variant 'style', got 'denoise'")
        return self
