"""Loss terms of a method and the networks behind them: sections below a recipe's `[method]`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from training.config.added_structure import AddedStructureConfig
from training.config.section import Section, Share, Weight


class SelfSimilarityConfig(Section):
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
    learned_negatives: Literal["equal", "hard", "easy"] = Field(
        default="equal",
        description="weights of the negatives that train the heads; easy: repeats of the query's "
        "own place count little (MoNCE)",
    )
    learned_beta: float = Field(
        default=0.2, gt=0, description="evenness of these weights: nearly equal at 1.0"
    )
    learned_init: Literal["kaiming", "normal"] = Field(
        default="kaiming", description="weights of fresh heads; normal: as published"
    )
    learned_learning_rate: float = Field(default=1e-4, gt=0, description="of the heads")
    learned_warm_up_share: Share = Field(
        default=0.0, description="share of the run before the generator's term is used"
    )


class DiscriminatorConfig(Section):
    """PatchGAN; its receptive field follows from the layers."""

    width: int = Field(default=64, ge=1, description="channels of the first convolution")
    num_layers: int = Field(default=3, ge=1, le=4, description="downsampling convolutions")
    anti_aliased: bool = Field(default=True, description="blur before downsampling")
    norm: Literal["instance", "none", "spectral"] = Field(default="instance")


class AdversarialConfig(Section):
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


class ConsistencyConfig(Section):
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


class SurrogateConfig(Section):
    """A detector that learns in the run on planted HR crops; it judges the generator's output."""

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
        default=0.15, description="share of the run before the generator's terms are used"
    )
    ramp_share: Share = Field(
        default=0.15, description="share of the run from weight 0 to full weight"
    )

    @property
    def is_used(self) -> bool:
        """Whether any of its terms has a weight."""
        return bool(self.weight or self.features_weight or self.silence_weight)


class StatisticsConfig(Section):
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
