"""Inputs that all methods share (recipe, images, degradation), and samplers made from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator, Network, build_network
from training.config.added_structure import AddedStructureConfig
from training.config.method import PatchedCopiesConfig
from training.config.recipe import ConfigError, Recipe
from training.data.aligned_sampler import AlignedBatch, AlignedSampler
from training.data.augmentation.patch_source import natural_source
from training.data.augmentation.patches import augment_with_patches
from training.data.bank import Bank
from training.data.datasets import KnownTool, degraded_pairs
from training.data.degradation.noise import estimate_noise
from training.data.feed import Fed, Feed
from training.data.given_pairs import SourcePair
from training.data.images import SourceImage
from training.data.pair_samplers import CropSampler, PairBatch, ToolSampler
from training.data.plain_samplers import Flips, OneToolSampler, PlainSampler
from training.data.turns import Turns
from training.ground.quality import psnr
from training.methods.pictures import NUM_SAMPLES, upscale
from training.run.provenance import describe_training
from training.run.warm_start import WarmStart

PLAIN_HR_SEED = 7_000_003
"""Offset between the seeds of plain LR and HR crops, so that their places are independent."""

TOOL_SEEDS = 1_000_003
"""Offset between the seeds of two tools' crops."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Recipe, training images and other data that a run depends on.

    Attributes:
        recipe: Resolved recipe.
        tools: The training images of each tool, with its degradation as given or as estimated.
        held_out: HR tiles that are only evaluated.
        pairs: Given pairs to train on.
        held_out_pairs: Given pairs that are only evaluated.
        data_root: Folder that the recipe's paths are relative to.
        vgg16: File of the feature network's weights; None asks torchvision.
        device: Device that the networks run on.
        feed: Feed that batches come from.
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
    pairs: Sequence[SourcePair] = ()
    held_out_pairs: Sequence[SourcePair] = ()

    @property
    def hr(self) -> list[SourceImage]:
        """HR images of all tools."""
        return [image for tool in self.tools for image in tool.hr]

    @property
    def lr(self) -> list[SourceImage]:
        """LR images of all tools; empty where the recipe names none."""
        return [image for tool in self.tools for image in tool.lr]

    @property
    def seen_tools(self) -> list[KnownTool]:
        """Tools with real LR images; the other tools appear in pseudo-pairs only."""
        return [tool for tool in self.tools if tool.lr]

    def describe(
        self,
        lr_crops: NDArray[np.floating],
        *,
        lr_images: Sequence[SourceImage],
        tools: Sequence[KnownTool],
    ) -> dict[str, Any]:
        """Describe the run for the checkpoint; see `run.provenance.describe_training`."""
        return describe_training(
            self.recipe,
            hr_images=self.hr,
            lr_images=lr_images,
            held_out=self.held_out,
            tools=tools,
            lr_crops=lr_crops,
        )


def new_generator(inputs: Inputs) -> Generator:
    """Build the recipe's generator on the run's device.

    Its weights are fresh (from the global seed) or those of `inputs.start`. The method sets a
    grain bound or copies a teacher's head afterwards.

    Raises:
        ConfigError: The recipe's network needs a reference image.
    """
    network = new_network(inputs)
    if not isinstance(network, Generator):
        raise ConfigError(
            f"the method {inputs.recipe.method.name!r} trains a generator, which takes an LR image "
            f"alone; {inputs.recipe.generator.name!r} needs a reference image too"
        )
    return network


def new_network(inputs: Inputs) -> Network:
    """Build the recipe's network, whether or not it needs a reference; see `new_generator`."""
    config = inputs.recipe.generator
    network = build_network(config.name, config.hyper_parameters)
    if inputs.start is not None:
        inputs.start.apply_to(network)
    return network.to(inputs.device)


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
        inputs: Inputs of the run.
        scale: s.
        batch_size: Pairs a step.
        added: Structure that is added to the crops.
        change: Function applied to each tool's HR images first.
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


def aligned_sampler(
    inputs: Inputs,
    *,
    scale: int,
    turns: Turns,
    change: Callable[[Sequence[SourcePair]], Sequence[SourcePair]] = lambda pairs: pairs,
) -> Fed[AlignedBatch]:
    """Make the sampler of a run's given pairs, with the recipe's crop and batch size.

    Args:
        inputs: Inputs of the run.
        scale: s.
        turns: Directions in which crops are turned; see `AlignedSampler`.
        change: Function applied to the pairs first.
    """
    options = inputs.recipe.optimization
    sampler = AlignedSampler(
        change(inputs.pairs),
        scale=scale,
        crop_px=options.crop_px,
        batch_size=options.batch_size,
        seed=options.seed,
        turns=turns,
    )
    return inputs.feed.add("aligned", sampler)


def held_out_psnr(inputs: Inputs, *, scale: int) -> Callable[[Generator], dict[str, float]]:
    """Return a function that measures a generator's PSNR on the held-out tiles.

    The tiles are degraded once, so that all calls use the same LR images.
    """
    pairs = degraded_pairs(
        inputs.held_out,
        degradation=inputs.tools[0].degradation,
        scale=scale,
        seed=inputs.recipe.optimization.seed,
    )

    def measure(generator: Generator) -> dict[str, float]:
        if not pairs:
            return {}
        scores = [psnr(upscale(generator, lr), hr) for lr, hr in pairs]
        return {"held_out_psnr_db": float(np.mean(scores))}

    return measure


def plain_sampler(
    inputs: Inputs,
    name: str,
    images: Sequence[Sequence[SourceImage]],
    *,
    batch_size: int,
    crop_px: int,
    seed: int,
    flips: Flips,
) -> Fed[torch.Tensor]:
    """Make a sampler of unpaired crops; all crops of a step come from one tool.

    Args:
        inputs: Inputs of the run.
        name: Name of its batches within the run.
        images: Images of each of the `seen_tools`.
        batch_size: Crops a step.
        crop_px: Side of a crop in the images' own pixels.
        seed: Seed of the places.
        flips: Direction in which crops are flipped.
    """
    samplers = [
        PlainSampler(
            of_tool,
            crop_px=crop_px,
            batch_size=batch_size,
            seed=seed + TOOL_SEEDS * number,
            flips=flips,
        )
        for number, of_tool in enumerate(images)
    ]
    shares = [tool.share for tool in inputs.seen_tools]
    sampler = OneToolSampler(samplers, shares, seed=inputs.recipe.optimization.seed)
    return inputs.feed.add(name, sampler)


def patched_copies(
    images: Sequence[SourceImage], config: PatchedCopiesConfig, *, seed: int, shrink: int = 1
) -> list[SourceImage]:
    """Return the images followed by copies with foreign patches; see `augmentation.patches`.

    Args:
        images: Images of one domain.
        config: Numbers of patches and copies; without copies the images are returned alone.
        seed: Seed of the patches; the domains need not show the same ones.
        shrink: 1 for HR images, s for LR ones.
    """
    if not config.num_copies:
        return list(images)
    pixels = [image.pixels for image in images]
    augmented = augment_with_patches(
        pixels,
        np.random.default_rng((seed, shrink)),
        num_patches=config.num_patches,
        num_copies=config.num_copies,
        source=natural_source(),
        shrink=shrink,
        noise=estimate_noise(pixels),
    )
    sources = list(images) * (1 + config.num_copies)
    return [replace(image, pixels=grey) for image, grey in zip(sources, augmented, strict=True)]


def first_crops(inputs: Inputs) -> torch.Tensor:
    """Return the LR crops of the run's sample pictures, (3, 1, c, c) float32, always the same."""
    options = inputs.recipe.optimization
    sampler = PlainSampler(
        inputs.lr, crop_px=options.crop_px, batch_size=NUM_SAMPLES, seed=options.seed
    )
    return sampler.batch(0)


def domain_crops(inputs: Inputs) -> NDArray[np.floating]:
    """Return 64 real LR crops in grey levels, (64, c, c), for the domain statistics."""
    options = inputs.recipe.optimization
    sampler = PlainSampler(inputs.lr, crop_px=options.crop_px, batch_size=64, seed=options.seed)
    return 255.0 * sampler.batch(0)[:, 0].numpy()
