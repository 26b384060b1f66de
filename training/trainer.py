"""The training loop: recipe to `checkpoint.safetensors`, resumable, on the CPU or one GPU.

Flow: recipe -> images -> crops degraded on the fly -> Charbonnier loss -> Adam with a cosine rate
-> exponential moving average of the weights -> checkpoint, state and `stats.jsonl`.
"""

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from models import Generator, build_generator, save_generator
from training.config import OptimizationConfig, Recipe, load_recipe
from training.datasets import (
    CropSampler,
    SourceImage,
    degraded_pairs,
    load_held_out_tiles,
    load_training_images,
)
from training.provenance import describe_training
from training.quality import psnr
from training.run_dir import RunDir


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became infinite or not a number; the message names the step."""


def train(
    recipe_path: Path,
    *,
    data_root: Path,
    run_dir: Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
) -> Path:
    """Train the generator of a recipe.

    Args:
        recipe_path: TOML file; see `training.config.Recipe`.
        data_root: Folder that the recipe's paths are relative to.
        run_dir: Folder of this run; see `training.run_dir`.
        overrides: `section.key=value`, applied over the file.
        resume: Continue the run in `run_dir` from its last saved state. The result is the same as
            that of a run without the stop.

    Returns:
        Path of `checkpoint.safetensors`: the averaged weights after the last step.

    Raises:
        ConfigError: The recipe is wrong or does not fit the data.
        RunDirError: `run_dir` is taken, or holds nothing to resume.
        NonFiniteLossError: Training diverged; the last saved checkpoint is still good.
    """
    recipe = load_recipe(recipe_path, overrides=overrides)
    images = load_training_images(recipe.data, data_root=data_root)
    tiles = load_held_out_tiles(recipe.data, data_root=data_root)
    folder = RunDir(run_dir)
    folder.start(recipe, resume=resume)
    trainer = Trainer(recipe, images=images, held_out=tiles, run_dir=folder)
    if resume:
        trainer.restore()
    trainer.run()
    return folder.checkpoint


class Trainer:
    """One run: network, average, optimiser and step counter."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        images: Sequence[SourceImage],
        held_out: Sequence[SourceImage],
        run_dir: RunDir,
    ) -> None:
        options = recipe.optimization
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self.recipe = recipe
        self.run_dir = run_dir
        self.device = torch.device(options.device)
        self.generator = build_generator(
            recipe.generator.name, recipe.generator.hyper_parameters
        ).to(self.device)
        self.average = copy.deepcopy(self.generator).requires_grad_(requires_grad=False).eval()
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=options.learning_rate)
        self.step = 0
        self.sampler = CropSampler(
            images,
            degradation=recipe.degradation,
            scale=self.generator.scale,
            crop_px=options.crop_px,
            batch_size=options.batch_size,
            seed=options.seed,
            crop_candidates=options.crop_candidates,
        )
        self.validation = degraded_pairs(
            held_out,
            degradation=recipe.degradation,
            scale=self.generator.scale,
            seed=options.seed,
        )
        self.description = describe_training(
            recipe, images=images, held_out=held_out, sampler=self.sampler
        )

    def run(self) -> None:
        """Train from the current step to the recipe's last one, saving on the way.

        Raises:
            NonFiniteLossError: The loss or gradient of a step is not finite.
        """
        options, report = self.recipe.optimization, self.recipe.run
        started = time.monotonic()
        losses: list[float] = []
        with tqdm(total=options.steps, initial=self.step, unit="step", mininterval=2.0) as bar:
            while self.step < options.steps:
                losses.append(self._train_step())
                bar.update(1)
                last = self.step == options.steps
                if self.step % report.log_every_steps == 0 or last:
                    record: dict[str, Any] = {
                        "step": self.step,
                        "loss": float(np.mean(losses)),
                        "learning_rate": self._learning_rate(),
                        "elapsed_s": round(time.monotonic() - started, 1),
                    }
                    losses.clear()
                    if self.validation and (self.step % report.validate_every_steps == 0 or last):
                        record["held_out_psnr_db"] = self._held_out_psnr()
                    self.run_dir.append_stats(record)
                    bar.set_postfix(loss=f"{record['loss']:.4f}")
                if self.step % report.checkpoint_every_steps == 0 or last:
                    self.save()

    def save(self) -> None:
        """Write the averaged weights as a checkpoint, then the state to resume from."""
        training = {**self.description, "steps_done": self.step}
        save_generator(self.run_dir.checkpoint, self.average, training=training)
        self.run_dir.save_state(
            {
                "step": self.step,
                "generator": self.generator.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def restore(self) -> None:
        """Continue from the last saved state of the run folder."""
        state = self.run_dir.load_state()
        self.generator.load_state_dict(state["generator"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.run_dir.drop_stats_after(self.step)

    def _train_step(self) -> float:
        options = self.recipe.optimization
        lr, hr = (tensor.to(self.device) for tensor in self.sampler.batch(self.step))
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        difference = self.generator(lr) - hr
        loss = (difference**2 + options.charbonnier_eps**2).sqrt().mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), options.gradient_clip)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise NonFiniteLossError(
                f"step {self.step + 1}: loss {loss.item()} with gradient norm {norm.item()}; "
                "lower the learning rate or look at the data"
            )
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return float(loss.item())

    @torch.no_grad()
    def _update_average(self) -> None:
        # The short memory at the start forgets the random initial weights.
        decay = min(self.recipe.optimization.ema_decay, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.generator.parameters(), strict=True)
        for averaged, current in pairs:
            averaged.lerp_(current, 1 - decay)

    def _learning_rate(self) -> float:
        return cosine_rate(self.step, self.recipe.optimization)

    def _held_out_psnr(self) -> float:
        scores = [psnr(upscale(self.average, lr), hr) for lr, hr in self.validation]
        return float(np.mean(scores))


def cosine_rate(step: int, options: OptimizationConfig) -> float:
    """Learning rate of a step counted from 0: linear warm-up, then a cosine to the final rate."""
    if step < options.warm_up_steps:
        return options.learning_rate * (step + 1) / options.warm_up_steps
    span = max(options.steps - options.warm_up_steps, 1)
    progress = min((step - options.warm_up_steps) / span, 1.0)
    falling = options.learning_rate - options.final_learning_rate
    return options.final_learning_rate + 0.5 * falling * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def upscale(generator: Generator, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge (H, W) uint8 to (s*H, s*W) uint8, clamped and rounded as the service does."""
    device = next(generator.parameters()).device
    image = torch.from_numpy(lr.copy())[None, None].to(device).float() / 255.0
    sr = generator(image)[0, 0]
    return (sr * 255.0).round().clamp(0, 255).byte().cpu().numpy()
