"""What every method is built from: the recipe, the images and the degradation, loaded once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator, build_generator
from training.config.degradation import DegradationConfig
from training.config.method import AddedStructureConfig
from training.config.recipe import Recipe
from training.data.augmentation.patches import augment_with_patches, natural_source
from training.data.bank import Bank
from training.data.datasets import KnownTool, degraded_pairs
from training.data.degradation.noise import estimate_noise
from training.data.feed import Fed, Feed
from training.data.images import SourceImage
from training.data.samplers import CropSampler, PairBatch, PlainSampler, ToolSampler
from training.ground.baselines import bicubic
from training.ground.quality import psnr
from training.run.warm_start import WarmStart

GAP_PX = 4
NUM_SAMPLES = 3
TOOL_SEEDS = 1_000_003
"""Between the seeds of two tools' crops."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything outside the recipe's numbers that a run depends on.

    Attributes:
        recipe: Resolved.
        tools: The training images of each tool, with its degradation as given or as estimated.
        held_out: HR tiles that are only evaluated.
        data_root: Folder that the recipe's paths are relative to.
        vgg16: File of the feature network's weights; None asks torchvision.
        device: Where the networks run.
        feed: Where batches are made.
        bank: Bank that crops are drawn from in place of the HR images; None for none.
        start: Weights that the generator starts from; None for fresh ones.
    """

    recipe: Recipe
    tools: Sequence[KnownTool]
    held_out: Sequence[SourceImage]
    data_root: Path
    vgg16: Path | None
    device: torch.device
    feed: Feed = field(default_factory=Feed)
    bank: Bank | None = None
    start: WarmStart | None = None

    @property
    def hr(self) -> list[SourceImage]:
        """HR images of all tools."""
        return [image for tool in self.tools for image in tool.hr]

    @property
    def lr(self) -> list[SourceImage]:
        """LR images of all tools; empty where the recipe names none."""
        return [image for tool in self.tools for image in tool.lr]

    @property
    def degradation(self) -> DegradationConfig:
        """Ranges of the first tool."""
        return self.tools[0].degradation


def new_generator(inputs: Inputs) -> Generator:
    """Build the recipe's generator: fresh from the global seed, or from the weights to start from.

    On the run's device. A bound or a head that the run sets itself is set afterwards.
    """
    network = inputs.recipe.generator
    generator = build_generator(network.name, network.hyper_parameters)
    if inputs.start is not None:
        inputs.start.apply_to(generator)
    return generator.to(inputs.device)


def pair_sampler(
    inputs: Inputs,
    *,
    scale: int,
    batch_size: int,
    added: AddedStructureConfig | None = None,
    change: Callable[[Sequence[SourceImage]], Sequence[SourceImage]] = lambda images: images,
) -> Fed[PairBatch]:
    """Make the sampler of a run's pseudo-pairs.

    Args:
        inputs: Of the run.
        scale: s.
        batch_size: Pairs a step.
        added: What is added to the crops.
        change: Applied to each tool's HR images first.
    """
    options = inputs.recipe.optimization
    samplers = [
        CropSampler(
            change(tool.hr),
            degradation=tool.degradation,
            scale=scale,
            crop_px=options.crop_px,
            batch_size=batch_size,
            seed=options.seed + TOOL_SEEDS * number,
            crop_candidates=options.crop_candidates,
            added=added,
            source=inputs.bank.crops(tool.name) if inputs.bank and added else None,
            degrade_on=inputs.device if options.degrade_on_device else None,
        )
        for number, tool in enumerate(inputs.tools)
    ]
    sampler = ToolSampler(samplers, [tool.share for tool in inputs.tools], seed=options.seed)
    return inputs.feed.add("pairs", sampler)


def held_out_psnr(inputs: Inputs, *, scale: int) -> Callable[[Generator], dict[str, float]]:
    """Return a function that measures a generator on the held-out tiles, degraded once."""
    pairs = degraded_pairs(
        inputs.held_out,
        degradation=inputs.degradation,
        scale=scale,
        seed=inputs.recipe.optimization.seed,
    )

    def measure(generator: Generator) -> dict[str, float]:
        if not pairs:
            return {}
        scores = [psnr(upscale(generator, lr), hr) for lr, hr in pairs]
        return {"held_out_psnr_db": float(np.mean(scores))}

    return measure


def patched_copies(
    images: Sequence[SourceImage], *, num_patches: int, num_copies: int, shrink: int, seed: int
) -> list[SourceImage]:
    """Return the images, and after them copies with foreign patches; see `augmentation.patches`.

    Args:
        images: Of one domain.
        num_patches: n1.
        num_copies: n2; 0 returns the images alone.
        shrink: 1 for HR images, s for LR ones.
        seed: Of the patches; the domains need not show the same ones.
    """
    if not num_copies:
        return list(images)
    pixels = [image.pixels for image in images]
    rng = np.random.default_rng((seed, shrink))
    augmented = augment_with_patches(
        pixels,
        rng,
        num_patches=num_patches,
        num_copies=num_copies,
        source=natural_source(),
        shrink=shrink,
        noise=estimate_noise(pixels),
    )
    sources = list(images) * (1 + num_copies)
    return [replace(image, pixels=grey) for image, grey in zip(sources, augmented, strict=True)]


@torch.no_grad()
def upscale(generator: Generator, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge (H, W) uint8 to (s*H, s*W) uint8, clamped and rounded as the service does."""
    device = next(generator.parameters()).device
    image = torch.from_numpy(lr.copy())[None, None].to(device).float() / 255.0
    sr = generator(image)[0, 0]
    return (sr * 255.0).round().clamp(0, 255).byte().cpu().numpy()


def first_crops(inputs: Inputs) -> torch.Tensor:
    """Return LR crops that are the same throughout a run, (3, 1, c, c) float32, for pictures."""
    options = inputs.recipe.optimization
    sampler = PlainSampler(
        inputs.lr, crop_px=options.crop_px, batch_size=NUM_SAMPLES, seed=options.seed
    )
    return sampler.batch(0)


def domain_crops(inputs: Inputs) -> NDArray[np.floating]:
    """Return real LR crops (64, c, c) in grey levels, to describe the domain by."""
    options = inputs.recipe.optimization
    sampler = PlainSampler(inputs.lr, crop_px=options.crop_px, batch_size=64, seed=options.seed)
    return 255.0 * sampler.batch(0)[:, 0].numpy()


def sample_picture(
    generator: Generator, crops: torch.Tensor, *, references: torch.Tensor | None = None
) -> NDArray[np.uint8]:
    """Put bicubic | SR (| HR) side by side, one row for each of the first crops.

    Args:
        generator: The averaged one.
        crops: (N, 1, c, c) float32 in [0, 1].
        references: (N, 1, s*c, s*c) float32 in [0, 1], aligned, where there are any.
    """
    rows = []
    for number, crop in enumerate(crops[:NUM_SAMPLES]):
        lr = (crop[0] * 255.0).round().byte().cpu().numpy()
        enlarged = bicubic(lr, scale=generator.scale).round().astype(np.uint8)
        pictures = [enlarged, upscale(generator, lr)]
        if references is not None:
            pictures.append((references[number, 0] * 255.0).round().byte().cpu().numpy())
        rows.append(_joined(pictures, axis=1))
    return _joined(rows, axis=0)


def _joined(pictures: Sequence[NDArray[np.uint8]], *, axis: int) -> NDArray[np.uint8]:
    shape = list(pictures[0].shape)
    shape[axis] = GAP_PX
    gap = np.full(shape, 255, dtype=np.uint8)
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [gap, picture]
    return np.concatenate(parts, axis=axis)
