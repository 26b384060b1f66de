"""Section of a recipe for super-resolution from given pairs (thesis of Chakraborty 2022, B.3)."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from training.config.section import MethodSection, Need, Share, Weight
from training.config.terms import AdversarialConfig, SelfSimilarityConfig

FEATURE_TAP = "relu3_1"
"""Layer of VGG16 of the feature term."""


class PairedAdversarialConfig(AdversarialConfig):
    """The adversarial term of the second stage: a tenth as strong as the structure terms."""

    weight: Weight = Field(default=0.1, description="of the loss in the generator's phase")
    start_share: Share = Field(default=0.5, description="share of the run before the second stage")
    ramp_share: Share = Field(
        default=0.1, description="share of the run from weight 0 to full weight, of all its terms"
    )
    balanced: bool = Field(
        default=True,
        description="whether the term is scaled to pull at the structure as hard as the structure "
        "terms, times weight",
    )


class PairedSimilarityConfig(SelfSimilarityConfig):
    """FSeSim in the second stage; off by default."""

    weight: Weight = Field(default=0.0, description="of the loss in the generator's phase")


class PairedSRConfig(MethodSection):
    """Losses on LR and HR images of the same places, which scans of a tool give.

    The first stage compares pixels. The second one, which begins at `adversarial.start_share` and
    grows over `adversarial.ramp_share`, adds the look: adversary, features, self-similarity.
    """

    name: Literal["paired"]
    turns: Literal["none", "vertical", "horizontal", "all"] = Field(
        default="vertical",
        description="random turns of a crop; a flip up and down keeps the direction of the scan",
    )
    pixel_weight: Weight = Field(
        default=20.0, description="Charbonnier loss of the structure after shift, gain and offset"
    )
    charbonnier_eps: float = Field(
        default=0.02, gt=0, description="sqrt(d^2 + eps^2): quadratic within HR's noise"
    )
    tolerance_px: int = Field(
        default=1, ge=0, le=4, description="largest integer shift that is tried, HR px; 1: nine"
    )
    gain_limit: float = Field(
        default=1.5, ge=1, description="largest gain of the fit; its inverse is the smallest"
    )
    tone_weight: Weight = Field(
        default=2.0, description="Charbonnier loss of 8x8 means without the fit: tone, its sign"
    )
    energy_weight: Weight = Field(
        default=5.0, description="local energy of the grain, where the generator gives it apart"
    )
    energy_half_gradient: float = Field(
        default=0.012, gt=0, description="gradient of HR at which a pixel's energy counts half"
    )
    adversarial: PairedAdversarialConfig = Field(
        default_factory=PairedAdversarialConfig,
        description="adversarial term; its discriminator sees the enlarged LR image too",
    )
    features_weight: Weight = Field(
        default=0.0,
        description="L1 of VGG16's relu3_1 of structure and HR, in the second stage; try 0.1",
    )
    self_similarity: PairedSimilarityConfig = Field(
        default_factory=PairedSimilarityConfig,
        description="FSeSim of structure and enlarged LR, in the second stage",
    )

    @property
    def needs(self) -> tuple[Need, ...]:
        """Given pairs alone."""
        return ("pairs",)

    @property
    def vgg16_taps(self) -> Sequence[str]:
        """Layers of the feature term and of the self-similarity."""
        features = (FEATURE_TAP,) if self.features_weight else ()
        similarity = self.self_similarity.taps if self.self_similarity.weight else ()
        return tuple(dict.fromkeys((*features, *similarity)))

    @model_validator(mode="after")
    def _similarity_is_fixed(self) -> Self:
        if self.self_similarity.weight and self.self_similarity.learned is not None:
            raise ValueError(
                f"self_similarity.learned is {self.self_similarity.learned!r}; expected none: the "
                "method paired compares fixed features (FSeSim)"
            )
        return self
