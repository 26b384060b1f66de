"""Trains the detector on simulated review tiles (`semsr train-detector`).

    out/detector.safetensors   averaged weights, rounded to half precision, with their threshold
    out/stats.jsonl            loss by step
    out/state.pt               what `--resume` continues from; the result is that of one run
    cache/{train,…}/           simulated tiles, kept for the next run

The tiles' scenes are drawn from seeds that no benchmark uses; see `tiles`.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from training.detector.calibration import calibrate
from training.detector.crops import CropSampler
from training.detector.detector import Detector
from training.detector.loss import detection_loss
from training.detector.network import DEFAULT_CHANNELS, DetectorNetwork
from training.detector.tiles import HR_PX, LabelledTile, TilePlan, labelled_tiles
from training.detector.weight_file import half_precision, save_detector
from training.ground.progress import progress
from training.run.averaging import update_average
from training.run.folder import RunDir
from training.run.schedule import learning_rate
from training.run.state import load_state, save_state

log = logging.getLogger(__name__)

WARM_UP_STEPS = 100
FINAL_RATE_SHARE = 0.01
AVERAGE_DECAY = 0.995
GRADIENT_CLIP = 1.0
CLEAN_SHARE = 0.25
LOG_EVERY_STEPS = 50
SAVE_EVERY_STEPS = 200
STATISTICS_BATCHES = 40
"""Number of batches for the final batch statistics."""


class DetectorTrainingError(ValueError):
    """The training has wrong options, its folder is in use, or its loss diverged."""


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """How a detector is trained.

    Attributes:
        seed: Seed of weights, crops and (see `tiles`) scenes.
        tiles: Number of simulated training tiles.
        steps: Optimiser steps.
        batch_size: Crops a step.
        crop_px: Side of a crop in HR pixels, a multiple of 32.
        learning_rate: Adam's rate after the warm-up.
        channels: Widths of the network's levels.
        hr_px: Side of a tile in HR pixels.
    """

    seed: int
    tiles: int = 800
    steps: int = 2000
    batch_size: int = 6
    crop_px: int = 384
    learning_rate: float = 2e-3
    channels: tuple[int, ...] = DEFAULT_CHANNELS
    hr_px: int = HR_PX


def train_detector(
    out: Path,
    options: DetectorOptions,
    *,
    cache: Path,
    clean_tiles: int = 200,
    defect_tiles: int = 150,
    threads: int = 1,
    workers: int = 1,
    resume: bool = False,
) -> Path:
    """Simulate, train, calibrate and write a detector.

    Args:
        out: Folder of the run, made where absent.
        options: Options of the training.
        cache: Folder of simulated tiles; existing tiles are used.
        clean_tiles: Fresh clean tiles that set the threshold.
        defect_tiles: Fresh tiles with defects that measure recall.
        threads: Torch's threads.
        workers: Processes that simulate.
        resume: Whether to continue the run in `out`.

    Returns:
        Path of the detector.

    Raises:
        DetectorTrainingError: The folder is taken, or training diverged.
        ValueError: An option is out of its range, or the cache is of other tiles.
    """
    run_dir = RunDir(out)
    if run_dir.state.exists() and not resume:
        raise DetectorTrainingError(
            f"{out} already holds a run; resume it or choose another folder"
        )
    plans = {
        "train": TilePlan("train", options.seed, options.tiles, CLEAN_SHARE, options.hr_px),
        "clean": TilePlan("calibrate_clean", options.seed, clean_tiles, 1.0, options.hr_px),
        "defect": TilePlan("calibrate_defect", options.seed, defect_tiles, 0.0, options.hr_px),
    }
    tiles = labelled_tiles(plans["train"], cache / "train", workers=workers)
    trainer = DetectorTrainer(options, tiles, run_dir, threads=threads)
    if resume:
        trainer.restore()
    trainer.run()
    detector = trainer.detector()
    del tiles, trainer  # a gigabyte, and more tiles are coming
    calibration = calibrate(
        detector,
        clean=labelled_tiles(plans["clean"], cache / "clean", workers=workers),
        with_defects=labelled_tiles(plans["defect"], cache / "defect", workers=workers),
    )
    detector.threshold = calibration.threshold
    detector.description = {
        "training": {
            **asdict(options),
            "data": "simulated review tiles only; no inspection and no super-resolved images",
            "simulator_seeds": {plan.purpose: plan.simulator_seed for plan in plans.values()},
        },
        "test": calibration.as_dict(),
    }
    path = out / "detector.safetensors"
    save_detector(path, detector)
    log.info("wrote %s: %s", path, calibration.as_dict())
    return path


class DetectorTrainer:
    """One run: network, average, optimiser and step counter."""

    def __init__(
        self,
        options: DetectorOptions,
        tiles: Sequence[LabelledTile],
        run_dir: RunDir,
        *,
        threads: int = 1,
    ) -> None:
        if min(options.steps, options.batch_size, threads) < 1 or options.learning_rate <= 0:
            raise DetectorTrainingError(
                "steps, batch_size, threads and learning_rate must be positive, got "
                f"{options.steps}, {options.batch_size}, {threads} and {options.learning_rate}"
            )
        torch.set_num_threads(threads)
        torch.manual_seed(options.seed)
        self.options = options
        self.run_dir = run_dir
        self.network = DetectorNetwork(channels=options.channels)
        self.average = copy.deepcopy(self.network).requires_grad_(requires_grad=False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        self.step = 0
        self.sampler = CropSampler(
            tiles,
            crop_px=options.crop_px,
            batch_size=options.batch_size,
            seed=options.seed,
        )

    def run(self, *, until: int | None = None) -> None:
        """Train up to the last step, or up to `until`, saving on the way.

        Raises:
            DetectorTrainingError: The loss or gradient of a step is not finite.
        """
        self.run_dir.path.mkdir(parents=True, exist_ok=True)
        last = self.options.steps if until is None else min(until, self.options.steps)
        losses: list[float] = []
        with progress("training the detector", last, done=self.step) as steps:
            while self.step < last:
                losses.append(self._train_step())
                steps.update()
                if self.step % LOG_EVERY_STEPS == 0 or self.step == last:
                    mean = sum(losses) / len(losses)
                    self.run_dir.append_stats({"step": self.step, "loss": mean})
                    steps.say(f"loss {mean:.4f}")
                    losses.clear()
                if self.step % SAVE_EVERY_STEPS == 0 or self.step == last:
                    self.save()

    def save(self) -> None:
        """Write the state to resume from."""
        save_state(
            self.run_dir,
            {
                "step": self.step,
                "options": _plain(self.options),
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def restore(self) -> None:
        """Continue from the last saved state of the run folder.

        Raises:
            DetectorTrainingError: There is none, or it is of other options.
        """
        if not self.run_dir.state.is_file():
            raise DetectorTrainingError(f"{self.run_dir.path} holds no run to resume")
        state = load_state(self.run_dir)
        if state["options"] != _plain(self.options):
            raise DetectorTrainingError(f"{self.run_dir.path} was started with {state['options']}")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.run_dir.drop_stats_after(self.step)

    def detector(self) -> Detector:
        """Return a detector with the averaged weights as its file will keep them.

        Its batch statistics are taken again: averaged weights make other features than were seen
        in training.
        """
        network = copy.deepcopy(self.average)
        fresh = range(self.options.steps, self.options.steps + STATISTICS_BATCHES)
        torch.optim.swa_utils.update_bn((self.sampler.batch(n).image for n in fresh), network)
        network.load_state_dict(half_precision(network))
        return Detector(network, threshold=0.5)

    def _train_step(self) -> float:
        batch = self.sampler.batch(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                self.step,
                steps=self.options.steps,
                warm_up_steps=WARM_UP_STEPS,
                final_share=FINAL_RATE_SHARE,
                peak=self.options.learning_rate,
            )
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.network(batch.image)
        loss = detection_loss(logits, batch.target, batch.weight)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_CLIP)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise DetectorTrainingError(
                f"step {self.step + 1}: loss {loss.item()}, gradient norm {norm.item()}"
            )
        self.optimizer.step()
        self.step += 1
        update_average(self.average, self.network, step=self.step, decay=AVERAGE_DECAY)
        return float(loss.item())


def _plain(options: DetectorOptions) -> dict[str, object]:
    """Return the options as values that the state file may hold (lists for tuples)."""
    return {**asdict(options), "channels": list(options.channels)}
