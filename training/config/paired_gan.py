"""Section of a recipe for pix2pix: a conditional GAN on aligned pairs (Isola et al. 2017)."""

from typing import Annotated, Literal

from pydantic import Field

from training.config.section import MethodSection, Need, Section, Weight


class PairDiscriminatorConfig(Section):
    """PatchGAN that judges an image together with the input that it was made of."""

    width: int = Field(default=64, ge=1, description="channels of the first convolution")
    num_layers: int = Field(default=3, ge=1, le=4, description="downsampling convolutions")
    anti_aliased: bool = Field(
        default=False, description="blur before downsampling; published: strided convolutions"
    )
    norm: Literal["instance_affine", "instance", "none"] = Field(
        default="instance_affine", description="the published batch norm at a batch of 1: affine"
    )
    learning_rate: float = Field(default=2e-4, gt=0, description="peak")


class AlignedPatchesConfig(Section):
    """Copies of the pairs with natural patches in both images: the thesis's n1 and n2."""

    num_patches: int = Field(default=1, ge=1, description="patches in each copy: n1")
    num_copies: int = Field(default=0, ge=0, description="copies of each pair: n2")
    sides_px: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(16, 24, 40, 64, 96, 160),
        min_length=1,
        description="sides of patches that are drawn from, HR px, multiples of the scale; the "
        "thesis names none",
    )


class PairedGanConfig(MethodSection):
    """Pixel loss and a discriminator of (input, output), on given pairs."""

    name: Literal["paired_gan"]
    turns: Literal["none", "vertical", "horizontal", "all"] = Field(
        default="vertical",
        description="random turns of crops: up and down, since a scan has a direction, left and "
        "right, as published, or all eight",
    )
    pixel_weight: Weight = Field(
        default=100.0, description="of the L1 distance of greys in -1 to 1, as published"
    )
    adversarial_weight: Weight = Field(
        default=1.0, description="of the generator's term; 0: no discriminator"
    )
    adversarial_loss: Literal["vanilla", "lsgan"] = Field(
        default="vanilla", description="cross-entropy, as published, or least squares"
    )
    discriminator: PairDiscriminatorConfig = Field(default_factory=PairDiscriminatorConfig)
    patches: AlignedPatchesConfig = Field(default_factory=AlignedPatchesConfig)

    @property
    def needs(self) -> tuple[Need, ...]:
        """Given pairs."""
        return ("pairs",)
