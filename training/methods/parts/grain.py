"""Use of generators that return structure and grain separately."""

from collections.abc import Sequence

import torch

from models import Generator
from models.grain_head import GrainGenerator
from training.config.method import FLSeSimConfig
from training.config.recipe import ConfigError
from training.data.degradation.noise import estimate_noise
from training.data.images import SourceImage


def set_up_grain(
    generator: Generator,
    config: FLSeSimConfig,
    *,
    name: str,
    hr: Sequence[SourceImage],
    is_trained: bool,
) -> None:
    """Limit a generator's grain to the noise of HR images, and freeze the rest if configured.

    Args:
        generator: Generator of the run; one without separate grain stays unchanged.
        config: Method section of the recipe.
        name: Registry name of the generator, for errors.
        hr: HR images, whose noise is measured.
        is_trained: Whether the weights are those of a checkpoint, see `bound_grain`.

    Raises:
        ConfigError: The recipe needs separate grain, but the generator does not return it.
    """
    if isinstance(generator, GrainGenerator):
        bound_grain(generator, hr, is_trained=is_trained)
        if config.trains == "grain":
            generator.requires_grad_(requires_grad=False)
            for module in generator.grain_modules():
                module.requires_grad_()
        return
    for field, value in (
        ("method.trains", config.trains),
        ("method.adversarial.reaches", config.adversarial.reaches),
    ):
        if value != "all":
            raise ConfigError(
                f"{field} is {value!r}, but the generator {name!r} does not give structure and "
                "grain apart"
            )


def bound_grain(generator: GrainGenerator, hr: Sequence[SourceImage], *, is_trained: bool) -> None:
    """Limit a generator's grain to the noise that is measured in HR images.

    Args:
        generator: Generator of the run.
        hr: HR images.
        is_trained: Whether the weights are those of a checkpoint. They say which share of their own
            bound the grain takes: a narrower bound would weaken trained grain at once, to 0.62 of
            its noise for `bundles/default` on tiles of starter_x4. Theirs is then kept.
    """
    noise = estimate_noise([image.pixels for image in hr])
    generator.limit_grain(base=noise.base, slope=noise.slope, only_widen=is_trained)


def forward_parts(
    generator: Generator, lr: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Enlarge LR images; return the SR images, and their structure without grain if available.

    Returns:
        Two of (N, 1, s*H, s*W) float32, the second None for a generator without parts.
    """
    if not isinstance(generator, GrainGenerator):
        return generator(lr), None
    structure, grain, _ = generator.parts(lr)
    return structure + grain, structure
