"""Sections of the contrastive method: CUT, MoNCE and QS-Attn are one method with other entries."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from training.config.section import MethodSection, Section
from training.config.terms import AdversarialConfig, SelfSimilarityConfig


class PatchContrastConfig(Section):
    """PatchNCE (Park et al. 2020), with MoNCE's weights (Zhan et al. 2022) where `kind` says so."""

    weight: float = Field(default=1.0, gt=0, description="of the loss in the generator's phase")
    features: Literal["generator", "vgg16"] = Field(
        default="generator",
        description="network whose features are compared: the generator's own encoder, as "
        "published, which only resnet9 has, or VGG16 for any other generator",
    )
    taps: tuple[NonNegativeInt, ...] = Field(
        default=(0, 4, 8, 12, 16),
        min_length=1,
        description="layers of resnet9; the published ones, which are those of the anti-aliased "
        "form, the strided one has them at 0, 4, 7, 10 and 14",
    )
    vgg16_taps: tuple[
        Literal["relu1_2", "relu2_2", "relu3_1", "relu3_3", "relu4_1", "relu4_3"], ...
    ] = Field(
        default=("relu1_2", "relu2_2", "relu3_1", "relu4_1"),
        min_length=1,
        description="VGG16 layers, where `features` is vgg16",
    )
    places: int = Field(default=256, ge=2, description="places a map; all where it has fewer")
    temperature: float = Field(default=0.07, gt=0, description="divisor of the similarities")
    head_width: int = Field(default=256, ge=1, description="channels of the F-MLP")
    kind: Literal["patch", "monce_hard", "monce_easy"] = Field(
        default="patch",
        description="weights of the negatives: equal, more on similar ones, or more on dissimilar "
        "ones; on patterns with a pitch the similar ones are repeats of the query's own place",
    )
    beta: float = Field(
        default=1.0, gt=0, description="evenness of MoNCE's weights: nearly equal at 1.0"
    )
    queries: Literal["random", "qs_global", "qs_local"] = Field(
        default="random",
        description="choice of the places at `routed_taps`: at random, or (QS-Attn) those whose "
        "attention to the whole map, or to 7x7 cells, has the least entropy, routed by it",
    )
    selection: Literal["official", "repaired"] = Field(
        default="repaired",
        description="attention of QS-Attn: as published, which saturates on repeated patterns, or "
        "of cosines, spread over the rows",
    )
    routed_taps: tuple[NonNegativeInt, ...] = Field(
        default=(12, 16), description="taps that QS-Attn chooses at; random places at the others"
    )
    identity: bool = Field(
        default=True,
        description="whether HR crops, translated without enlargement, must keep their places too; "
        "only with the generator's features",
    )
    key_decay: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of the old average a step, for keys from an averaged encoder and F-MLP; "
        "absent: keys from the current ones, as published",
    )

    @model_validator(mode="after")
    def _suits_its_features(self) -> Self:
        if self.features == "vgg16" and self.identity:
            raise ValueError(
                "identity is true, expected false with features 'vgg16': it needs a generator that "
                "takes HR images, and such a generator has features of its own"
            )
        if self.features == "vgg16" and self.key_decay is not None:
            raise ValueError(
                f"key_decay is {self.key_decay}, expected none with features 'vgg16', which are "
                "not trained"
            )
        if self.features == "vgg16" and self.queries != "random":
            raise ValueError(
                f"queries is {self.queries!r}, expected 'random' with features 'vgg16'"
            )
        unused = sorted(set(self.routed_taps) - set(self.taps))
        if self.queries != "random" and unused:
            raise ValueError(
                f"routed_taps are {list(self.routed_taps)}, expected some of the taps "
                f"{list(self.taps)}"
            )
        return self


class ContrastiveConfig(MethodSection):
    """Unpaired translation in which every place of the output must resemble its own LR place."""

    name: Literal["contrastive"]
    flips: Literal["vertical", "horizontal"] = Field(
        default="vertical",
        description="of unpaired crops: up and down, since a scan has a direction, or left and "
        "right, as published",
    )
    contrast: PatchContrastConfig = Field(default_factory=PatchContrastConfig)
    adversarial: AdversarialConfig = Field(default_factory=AdversarialConfig)
    self_similarity: SelfSimilarityConfig = Field(
        default_factory=lambda: SelfSimilarityConfig(weight=0.0),
        description="FSeSim next to the contrast, as in the thesis's best system",
    )

    @property
    def vgg16_taps(self) -> Sequence[str]:
        """Layers of the self-similarity and of the contrast, where they use them."""
        compared = self.self_similarity.taps if self.self_similarity.weight else ()
        contrasted = self.contrast.vgg16_taps if self.contrast.features == "vgg16" else ()
        return (*compared, *contrasted)
