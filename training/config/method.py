"""What each method of training can be told: the `[method]` section of a recipe.

`name` picks the method; the fields of the others are then errors, like any unknown key.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Side = Annotated[float, Field(ge=2)]
Count = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
"""Part of a run. In shares, not in steps: a shorter run keeps its phases."""
PlantableKind = Literal[
    "bridge", "break", "particle", "stain", "fallen_bar", "edge_bump", "random_region"
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SupervisedConfig(_Section):
    """Pixel loss on HR crops and their synthetic LR versions."""

    name: Literal["supervised"] = "supervised"
    charbonnier_eps: float = Field(default=1e-3, gt=0, description="loss sqrt(d^2 + eps^2)")


class SelfSimilarityConfig(_Section):
    """FSeSim, and LSeSim where `learned` is set (Zheng et al. 2021)."""

    weight: Weight = Field(default=2.0, description="of the loss in the generator's phase")
    form: Literal["paper", "paper_l1", "normalised_l1", "normalised_l1_maps"] = Field(
        default="normalised_l1",
        description="official features or normalised ones; their maps' cosines, or (paper_l1, "
        "normalised_l1_maps) the maps themselves",
    )
    taps: tuple[Literal["relu3_1", "relu4_1", "relu4_3"], ...] = Field(
        default=("relu3_1", "relu4_1", "relu4_3"), min_length=1, description="VGG16 layers"
    )
    queries: int = Field(default=256, ge=1, description="query positions a map")
    salient_share: float = Field(
        default=0.5, ge=0, le=1, description="share of queries drawn where the LR image stands out"
    )
    window_px: int | None = Field(
        default=None, ge=16, description="side of the window of keys, HR px; absent: the whole crop"
    )
    images_per_step: int | None = Field(
        default=None, ge=1, description="crops of the batch that it sees; absent: all unpaired ones"
    )
    interval: int = Field(
        default=1, ge=1, description="steps from term to term; its weight grows by as much"
    )
    learned: Literal["official", "augmented_only"] | None = Field(
        default=None, description="train heads on the features; which positives they see"
    )
    learned_init: Literal["kaiming", "normal"] = Field(
        default="kaiming", description="weights of fresh heads; normal: as published"
    )
    learned_learning_rate: float = Field(default=1e-4, gt=0, description="of the heads")
    learned_warm_up_share: Share = Field(
        default=0.0, description="share of the run before the generator hears of the heads"
    )


class DiscriminatorConfig(_Section):
    """PatchGAN; its receptive field follows from the layers and is printed in the run."""

    width: int = Field(default=64, ge=1, description="channels of the first convolution")
    num_layers: int = Field(default=3, ge=1, le=4, description="downsampling convolutions")
    anti_aliased: bool = Field(default=True, description="blur before downsampling")
    norm: Literal["instance", "none", "spectral"] = Field(default="instance")


class AdversarialConfig(_Section):
    """The adversarial term: how the output is made to look like HR."""

    weight: Weight = Field(default=1.0, description="of the loss in the generator's phase")
    loss: Literal["lsgan", "relativistic"] = Field(default="lsgan")
    discriminator: DiscriminatorConfig = Field(default_factory=DiscriminatorConfig)
    learning_rate: float = Field(default=2e-4, gt=0, description="of the discriminator")
    start_share: Share = Field(default=0.0, description="share of the run without this term")
    ramp_share: Share = Field(
        default=0.0, description="share of the run from weight 0 to full weight"
    )
    reaches: Literal["all", "structure", "grain"] = Field(
        default="all",
        description="what its gradient changes; the discriminator always judges the whole image",
    )
    pool_size: int = Field(default=0, ge=0, description="old fakes kept for the discriminator")
    balanced: bool = Field(
        default=False,
        description="scale the term so that it pulls at the structure as hard as the structure "
        "terms, times weight",
    )
    penalty_gamma: Weight = Field(default=0.0, description="R1 and R2 (relativistic loss)")
    penalty_interval: int = Field(default=4, ge=1, description="steps from penalty to penalty")
    images_per_step: int | None = Field(
        default=None, ge=1, description="crops of the batch that it sees; absent: all"
    )

    @model_validator(mode="after")
    def _is_balanced_where_it_reaches(self) -> Self:
        if self.balanced and self.reaches == "grain":
            raise ValueError("balanced compares gradients at the structure, which 'grain' stops")
        return self


class ConsistencyConfig(_Section):
    """LR-consistency: the output, coarsened, must correlate with the input around every pixel."""

    weight: Weight = Field(default=1.0, description="of 1 - mean local correlation")
    worst_weight: Weight = Field(default=0.5, description="of the same over the worst pixels")
    worst_share: float = Field(default=0.05, gt=0, le=1, description="how many are the worst")
    low_pass_px: float = Field(
        default=1.5,
        ge=0,
        description="sigma, LR px, that both are smoothed by first: structure, not noise, is kept",
    )
    eps: float = Field(
        default=2e-4, gt=0, description="variance, of [0, 1] grey, below which all is flat"
    )


class SurrogateConfig(_Section):
    """A detector trained in the run on HR crops with planted defects; the generator hears it."""

    weight: Weight = Field(
        default=0.0, description="of the difference between its verdicts on output and HR (pairs)"
    )
    features_weight: Weight = Field(
        default=0.0, description="of the mean difference of its features there"
    )
    silence_weight: Weight = Field(
        default=0.0, description="of its alarms on outputs of real LR crops, which have no defects"
    )
    channels: int = Field(default=32, ge=2, description="of its layers")
    learning_rate: float = Field(default=2e-3, gt=0, description="of the detector")
    start_share: Share = Field(
        default=0.15, description="share of the run before the generator hears of the detector"
    )
    ramp_share: Share = Field(
        default=0.15, description="share of the run from weight 0 to full weight"
    )

    @property
    def is_used(self) -> bool:
        """Whether any of its terms has a weight."""
        return bool(self.weight or self.features_weight or self.silence_weight)


class StatisticsConfig(_Section):
    """Distances between the distributions of outputs and of HR crops."""

    spectral_weight: Weight = Field(default=0.0, description="log radial power spectrum")
    sliced_weight: Weight = Field(default=0.0, description="sliced Wasserstein on 5x5 patches")
    histogram_weight: Weight = Field(default=0.0, description="sorted grey levels")
    flat_grain_weight: Weight = Field(
        default=0.0, description="grain of flat places at equal greys, in three bands"
    )
    start_share: Share = Field(default=0.0, description="share of the run without these terms")

    @property
    def is_used(self) -> bool:
        """Whether any of its terms has a weight."""
        return any(
            (
                self.spectral_weight,
                self.sliced_weight,
                self.histogram_weight,
                self.flat_grain_weight,
            )
        )


class AddedStructureConfig(_Section):
    """What is added to HR crops before they are degraded: structure that the images lack."""

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


class PairedConfig(AddedStructureConfig):
    """Pseudo-pairs: HR crops, with added structure, and their synthetic LR versions."""

    share: float = Field(default=0.5, ge=0, le=1, description="share of the batch")
    pixel_weight: Weight = Field(default=20.0, description="Charbonnier loss of the structure")
    charbonnier_eps: float = Field(
        default=0.02, gt=0, description="sqrt(d^2 + eps^2): quadratic within HR's noise"
    )
    smooth_weight: Weight = Field(
        default=20.0, description="the same in a band of some pixels: mottle, faint defects"
    )
    smooth_sigma_px: float = Field(
        default=3.0, gt=0, description="of the band's finer low-pass, HR px; its coarser one: 4x"
    )
    energy_weight: Weight = Field(default=5.0, description="local energy of the grain")
    energy_half_gradient: float = Field(
        default=0.012,
        ge=0,
        description="gradient of HR, [0, 1] grey per px, at which a pixel's energy counts half: "
        "grain is learned where HR is flat; 0: everywhere alike",
    )
    defect_weight: Weight = Field(default=2.0, description="extra pixel weight on planted defects")


class InputMaskConfig(_Section):
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


class PatchedCopiesConfig(_Section):
    """Copies of the images of both domains with foreign patches in them: the thesis's n1 and n2."""

    num_patches: int = Field(default=1, ge=1, description="patches in each copy: n1")
    num_copies: int = Field(default=0, ge=0, description="copies beside each image: n2")


class FLSeSimConfig(_Section):
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


class DistillationConfig(_Section):
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
    SupervisedConfig | FLSeSimConfig | DistillationConfig, Field(discriminator="name")
]
