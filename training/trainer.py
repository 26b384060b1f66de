"""The training loop: recipe to `checkpoint.safetensors`, resumable, on the CPU or one GPU.

Flow: recipe -> images -> degradation (given, or estimated) -> method -> for every step its phases
-> exponential moving average of the generator -> checkpoint, state, `stats.jsonl`, pictures. The
loop knows no loss and no network; a method (`methods.method`) knows no schedule and no file.
"""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import Network, save_network
from training.config.recipe import OptimizationConfig, Recipe, load_recipe
from training.data.bank import content_of
from training.data.bank_format import check_bank
from training.data.datasets import load_held_out_tiles, load_tools
from training.data.feed import Feed
from training.data.given_pairs import check_disjoint, load_pairs
from training.ground.progress import progress
from training.methods.build import build_method
from training.methods.inputs import Inputs
from training.methods.method import Method, Phase
from training.run.averaging import update_average
from training.run.curves import EventWriter, draw_curves, write_picture
from training.run.folder import RunDir
from training.run.preparation import bank_of, check_machine, is_mixed, known_tool, warm_start_of
from training.run.schedule import learning_rate
from training.run.state import load_state, save_state
from training.run.warm_start import load_warm_start


class NonFiniteLossError(ArithmeticError):
    """A loss or gradient became infinite or not a number; the message names phase and step."""


def train(
    recipe_path: Path,
    *,
    data_root: Path,
    run_dir: Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    vgg16: Path | None = None,
    start_from: Path | None = None,
    bank: Path | None = None,
) -> Path:
    """Train the generator of a recipe.

    Args:
        recipe_path: TOML file; see `training.config.recipe.Recipe`.
        data_root: Folder that the recipe's paths are relative to.
        run_dir: Folder of this run; see `training.run.folder`.
        overrides: `section.key=value`, applied over the file.
        resume: Whether to continue the run in `run_dir` from its last saved state, or from the
            start if it was stopped before its first save. The result is that of a run without the
            stop.
        overwrite: Whether to replace a run that is in `run_dir`; it is put back where this one
            stops before its first save.
        vgg16: Weights of the feature network, for methods that compare structure by its features;
            None asks torchvision.
        start_from: Checkpoint whose weights the generator starts from; None for fresh ones. The
            run folder keeps a copy, from which a resumed run starts where nothing was saved yet.
        bank: Folder of a bank of planted HR images (`data.bank`) to draw crops from; it is made
            first where absent or empty. A resumed run keeps its own.

    Returns:
        Path of `checkpoint.safetensors`: the averaged weights after the last step.

    Raises:
        ConfigError: The recipe is wrong, or does not fit the data or the weights to start from.
        BankError: The bank is damaged, or another recipe's.
        WorkerError: A worker process failed at a bank image or a batch, or died.
        CheckpointError: `start_from` is not a semsr checkpoint.
        DeviceError: The recipe's device is not in this machine.
        UnknownGeneratorError: The generator does not take its hyper-parameters.
        ImageFileError: Image files cannot be used; all of them are named.
        FeatureWeightsError: The method needs the feature network, and its weights are not there.
        RunDirError: `run_dir` is taken, or holds nothing to resume.
        NonFiniteLossError: Training diverged; the last saved checkpoint is still good.
    """
    recipe = load_recipe(recipe_path, overrides=overrides)
    folder = RunDir(run_dir)
    folder.check(recipe, resume=resume, overwrite=overwrite, start_from=start_from, bank=bank)
    check_machine(recipe, vgg16=vgg16)
    if start_from is not None:
        load_warm_start(start_from, generator=recipe.generator)  # refused before images are read
    with progress("reading images"):
        pairs, held_out_pairs = (
            load_pairs(configs, recipe.data, data_root=data_root, scale=recipe.scale)
            for configs in (recipe.data.pairs, recipe.data.held_out_pairs)
        )
        check_disjoint(pairs, held_out_pairs)
        tools = load_tools(recipe, data_root=data_root, pairs=pairs)
        held_out = load_held_out_tiles(recipe.data, data_root=data_root)
    if bank is not None:
        check_bank(bank, content_of(recipe, tools))  # refused before a run is set aside
    options = recipe.optimization
    torch.set_num_threads(options.threads)
    try:
        folder.start(recipe, resume=resume, overwrite=overwrite, start_from=start_from, bank=bank)
        start = warm_start_of(recipe, folder)
        known = [known_tool(tool, recipe=recipe, folder=folder) for tool in tools]
        opened = bank_of(recipe, tools, known, folder=folder, given=bank)
        inputs = Inputs(
            recipe=recipe,
            tools=known,
            held_out=held_out,
            data_root=data_root,
            vgg16=vgg16,
            device=torch.device(options.device),
            feed=Feed(workers=options.loader_workers),
            bank=opened,
            start=start,
            pairs=pairs,
            held_out_pairs=held_out_pairs,
        )
        torch.manual_seed(options.seed)
        with progress("preparing the method"):
            method = build_method(inputs)
        origin: dict[str, Any] = {} if start is None else {"started_from": start.source}
        if opened is not None:
            origin["bank"] = opened.describe()
        trainer = Trainer(method, recipe=recipe, run_dir=folder, feed=inputs.feed, origin=origin)
        if resume:
            trainer.restore()  # or start again, where nothing was saved yet
        trainer.run()
    except BaseException:  # Ctrl-C as well
        folder.put_back()
        raise
    return folder.checkpoint


class Trainer:
    """One run: a method, the average of its generator, and the step counter.

    Args:
        method: Networks, batches and losses.
        recipe: Resolved recipe.
        run_dir: Folder of the run.
        feed: Feed that the method draws its batches from.
        origin: Further entries of the checkpoint's training description.
    """

    def __init__(
        self,
        method: Method[Any],
        *,
        recipe: Recipe,
        run_dir: RunDir,
        feed: Feed | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.recipe = recipe
        self.run_dir = run_dir
        self.feed = feed or Feed()
        self.average: Network = (
            copy.deepcopy(method.generator).requires_grad_(requires_grad=False).eval()
        )
        self.step = 0
        self.mixed = is_mixed(recipe.optimization)
        precision = "bf16" if self.mixed else "fp32"
        self.description = {**method.describe(), "precision": precision, **(origin or {})}

    def run(self) -> None:
        """Train from the current step to the recipe's last one, saving on the way.

        Raises:
            NonFiniteLossError: A loss or gradient of a step is not finite.
        """
        options, report = self.recipe.optimization, self.recipe.run
        started = time.monotonic()
        seen: dict[str, list[float]] = {}
        with (
            EventWriter(self.run_dir.path if report.tensorboard else None) as events,
            self.feed.running(self.step, options.steps),
            progress("training", options.steps, done=self.step) as steps,
        ):
            noted_s = time.monotonic()
            while self.step < options.steps:
                for name, value in self._train_step().items():
                    seen.setdefault(name, []).append(value)
                steps.update()
                last = self.step == options.steps
                if self.step % report.log_every_steps == 0 or last:
                    record: dict[str, Any] = {
                        "step": self.step,
                        **{name: float(np.mean(values)) for name, values in seen.items()},
                        "rate_share": rate_share(self.step, options),
                        "elapsed_s": round(time.monotonic() - started, 1),
                        "data_share": round(self._data_share(time.monotonic() - noted_s), 3),
                    }
                    seen.clear()
                    if self.step % report.validate_every_steps == 0 or last:
                        record |= self.method.validate(self.average)
                    self.run_dir.append_stats(record)
                    events.write(record)
                    steps.say(f"loss {record['loss']:.4f}")
                if self.step % report.picture_every_steps == 0 or last:
                    picture = self.method.sample(self.average)
                    write_picture(self.run_dir.sample(self.step), picture)
                    draw_curves(self.run_dir.read_stats(), path=self.run_dir.curves)
                if self.step % report.checkpoint_every_steps == 0 or last:
                    self.save()
                if not seen:
                    noted_s = time.monotonic()

    def _data_share(self, elapsed_s: float) -> float:
        """Return the share of a time for which its steps waited for their batches."""
        share, self.feed.seconds = self.feed.seconds / max(elapsed_s, 1e-9), 0.0
        return share

    def save(self) -> None:
        """Write the averaged weights as a checkpoint, then the state to resume from."""
        training = {**self.description, "steps_done": self.step}
        save_network(self.run_dir.checkpoint, self.average, training=training)
        method = self.method
        state = {
            "step": self.step,
            "generator": method.generator.state_dict(),
            "average": self.average.state_dict(),
            "modules": {name: m.state_dict() for name, m in method.modules().items()},
            "optimizers": {p.name: p.optimizer.state_dict() for p in method.phases},
            "extra": method.extra_state(),
        }
        save_state(self.run_dir, state)
        self.run_dir.drop_replaced()

    def restore(self) -> None:
        """Continue from the last saved state of the run folder, or from the start without one."""
        if not self.run_dir.state.is_file():
            self.run_dir.drop_stats_after(0)
            return
        state, method = load_state(self.run_dir), self.method
        method.generator.load_state_dict(state["generator"])
        self.average.load_state_dict(state["average"])
        for name, module in method.modules().items():
            module.load_state_dict(state["modules"][name])
        for phase in method.phases:
            phase.optimizer.load_state_dict(state["optimizers"][phase.name])
        method.load_extra_state(state["extra"])
        self.step = int(state["step"])
        self.run_dir.drop_stats_after(self.step)

    def _train_step(self) -> dict[str, float]:
        """Run every phase; returns the loss terms, and as `loss` the last phase's sum."""
        options = self.recipe.optimization
        share = rate_share(self.step, options)
        values: dict[str, float] = {}
        self.feed.begin(self.step)
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=self.mixed):
            self.method.prepare(self.step)
        for phase in [p for p in self.method.phases for _ in range(p.repeats)]:
            phase.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(options.device, dtype=torch.bfloat16, enabled=self.mixed):
                terms = phase.terms()
            if terms:
                loss = torch.stack([term.float() for term in terms.values()]).sum()
                loss.backward()
                self._take_step(phase, loss, share=share)
                values |= {name: float(term.detach()) for name, term in terms.items()}
                values["loss"] = float(loss.detach())
        self.feed.end()
        self.step += 1
        update_average(self.average, self.method.generator, step=self.step, decay=options.ema_decay)
        return values

    def _take_step(self, phase: Phase, loss: torch.Tensor, *, share: float) -> None:
        clip = phase.gradient_clip
        limit = (self.recipe.optimization.gradient_clip if clip is None else clip) or math.inf
        parameters = [p for group in phase.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise NonFiniteLossError(
                f"step {self.step + 1}, phase {phase.name}: loss {loss.item()} with gradient norm "
                f"{norm.item()}; lower the learning rate or look at the data"
            )
        for group in phase.optimizer.param_groups:
            group["lr"] = phase.learning_rate * share
        phase.optimizer.step()


def rate_share(step: int, options: OptimizationConfig) -> float:
    """Return the learning rate of a step, counted from 0, as a share of a phase's peak."""
    return learning_rate(
        step,
        steps=options.steps,
        warm_up_steps=options.warm_up_steps,
        final_share=options.final_learning_rate / options.learning_rate,
        shape=options.schedule,
    )
