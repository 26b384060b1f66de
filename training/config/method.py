"""Sections of a recipe for each training method: `[method]`.

`name` picks the method; the fields of the others are then errors, like any unknown key.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from training.config.contrastive import ContrastiveConfig
from training.config.lir import LirConfig
from training.config.masa import MasaConfig
from training.config.paired import PairedSRConfig
from training.config.paired_gan import PairedGanConfig
from training.config.section import MethodSection, Need, Section, Share, Weight
from training.config.terms import (
    AdversarialConfig,
    ConsistencyConfig,
    PairedConfig,
    SelfSimilarityConfig,
    StatisticsConfig,
    SurrogateConfig,
)


class SupervisedConfig(MethodSection):
    """Pixel loss on HR crops and their synthetic LR versions."""

    name: Literal["supervised"] = "supervised"
    charbonnier_eps: float = Field(default=1e-3, gt=0, description="loss sqrt(d^2 + eps^2)")

    @property
    def needs(self) -> tuple[Need, ...]:
        """HR images; their LR versions are synthetic."""
        return ("hr",)


class InputMaskConfig(Section):
    """Input masking: the generator must tell part of its input from the surroundings."""

    share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="LR pixels that it sees as their 3x3 median; half of them in blocks of 2x2",
    )
    ramp_share: Share = Field(default=0.2, description="share of the run from none to that")
    whole_share: Share = Field(
        default=0.2, description="last share of the run, with the whole input as in use"
    )


class PatchedCopiesConfig(Section):
    """Copies of the images of both domains with foreign patches in them: the thesis's n1 and n2."""

    num_patches: int = Field(default=1, ge=1, description="patches in each copy: n1")
    num_copies: int = Field(default=0, ge=0, description="copies of each image: n2")


class FLSeSimConfig(MethodSection):
    """Unpaired translation with a spatially-correlative loss, and what makes it safe."""

    name: Literal["f_lsesim"]
    flips: Literal["vertical", "horizontal"] = Field(
        default="vertical",
        description="of unpaired crops: up and down, since a scan has a direction, or left and "
        "right, as published; pseudo-pairs are turned any way before they are degraded",
    )
    trains: Literal["all", "grain"] = Field(
        default="all",
        description="parameters that are trained; grain: only those of the grain's strength and "
        "colour, while the structure of the starting weights stays",
    )
    self_similarity: SelfSimilarityConfig = Field(default_factory=SelfSimilarityConfig)
    adversarial: AdversarialConfig = Field(default_factory=AdversarialConfig)
    consistency: ConsistencyConfig = Field(default_factory=ConsistencyConfig)
    surrogate: SurrogateConfig = Field(default_factory=SurrogateConfig)
    patched_copies: PatchedCopiesConfig = Field(default_factory=PatchedCopiesConfig)
    input_mask: InputMaskConfig = Field(default_factory=InputMaskConfig)
    statistics: StatisticsConfig = Field(default_factory=StatisticsConfig)
    paired: PairedConfig = Field(default_factory=PairedConfig)

    @property
    def vgg16_taps(self) -> Sequence[str]:
        """Layers of the self-similarity."""
        return self.self_similarity.taps if self.self_similarity.weight else ()


class DistillationConfig(MethodSection):
    """A generator learns the mean structure and the mean amount of grain of its teachers."""

    name: Literal["distillation"]
    teachers: list[str] = Field(
        min_length=1,
        description="checkpoints, relative to the data root or /; grain is coloured as the first's",
    )
    structure_weight: Weight = Field(default=20.0, description="Charbonnier to their structure")
    amplitude_weight: Weight = Field(default=5.0, description="L1 to their grain's amplitude")
    disagreement: float = Field(
        default=0.02,
        gt=0,
        description="deviation of the teachers, [0, 1] grey, at which a pixel weighs half",
    )
    truth_weight: Weight = Field(
        default=0.0,
        description="of the pseudo-pairs' own terms, whose weights are those of paired",
    )
    input_mask: InputMaskConfig = Field(default_factory=InputMaskConfig)
    paired: PairedConfig = Field(default_factory=PairedConfig)

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_is_a_list(cls, teachers: object) -> object:
        return [teachers] if isinstance(teachers, str) else teachers


MethodConfig = Annotated[
    SupervisedConfig
    | FLSeSimConfig
    | DistillationConfig
    | ContrastiveConfig
    | LirConfig
    | MasaConfig
    | PairedGanConfig
    | PairedSRConfig,
    Field(discriminator="name"),
]
