"""A training run of some seconds, measured: steps a second, and the work of a step.

Run as a process of its own (`python -m loadtests.gpu.training_run OPTIONS`, as JSON); it prints one
row of JSON. The trainer has no clock for benches: its class is replaced by one that times and
counts its steps, and that ends the run.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from loadtests.gpu.training_job import TrainingJob
from loadtests.gpu.work import CountedWork
from loadtests.results import Row
from semsr.error_text import last_words
from training import trainer
from training.config.recipe import find_recipe

# cuDNN tries its algorithms, and memory is allocated.
_WARM_UP_STEPS = 3
# `f_lsesim_cpu` computes FSeSim at every fourth step.
_COUNTED_STEPS = 4
_LEAST_STEPS = 4


class _Measured(Exception):  # noqa: N818 - the regular end of the run, not an error
    """The run has been measured."""

    def __init__(self, row: Row) -> None:
        super().__init__("measured")
        self.row = row


def measure_training(job: TrainingJob) -> Row:
    """Train for some seconds.

    The phases of a run are the warm-up, steps whose work is counted, steps that use up the batches
    that the workers made during the counting, and the steps that are timed.

    Returns:
        `first_loss`, and unless the job has 0 seconds `steps`, `steps_per_s`, `samples_per_s`,
        `data_percent` (share of the time in which the network waited for batches), the work of a
        step (`operations`, `read_and_written`, `upload` in bytes), `precision`, and on a GPU
        `card_peak_gib`, the most memory that torch has allocated.
    """

    class MeasuredTrainer(trainer.Trainer):
        """A trainer that ends its run when it has been measured."""

        _counts: CountedWork
        _first_loss: float
        _began_s = 0.0
        _waited_s = 0.0

        def _train_step(self) -> dict[str, float]:
            step = self.step
            counted = _WARM_UP_STEPS + _COUNTED_STEPS
            timed = counted + 2 * job.workers + 1
            if step == timed:
                self._waited_s, self._began_s = self.feed.seconds, time.perf_counter()
            if _WARM_UP_STEPS <= step < counted:
                self._counts = CountedWork() if step == _WARM_UP_STEPS else self._counts
                with self._counts:
                    values = super()._train_step()
            else:
                values = super()._train_step()
            if step == 0:
                self._first_loss = values["loss"]
                if not job.seconds:
                    raise _Measured({"first_loss": self._first_loss})
            elapsed_s = time.perf_counter() - self._began_s
            if step >= timed + _LEAST_STEPS - 1 and elapsed_s >= job.seconds:
                raise _Measured(self._row(step + 1 - timed, elapsed_s))
            return values

        def _row(self, steps: int, elapsed_s: float) -> Row:
            options, counts = self.recipe.optimization, self._counts
            row: Row = {
                "first_loss": self._first_loss,
                "precision": "bf16" if self.mixed else "fp32",
                "steps": steps,
                "steps_per_s": steps / elapsed_s,
                "samples_per_s": steps * options.batch_size / elapsed_s,
                "data_percent": 100 * (self.feed.seconds - self._waited_s) / elapsed_s,
                "operations": counts.operations / _COUNTED_STEPS,
                "read_and_written": counts.bytes / _COUNTED_STEPS,
                "upload": counts.uploaded / _COUNTED_STEPS,
            }
            if job.device == "cuda":
                row["card_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
            return row

    replaced: Any = trainer
    original = trainer.Trainer
    replaced.Trainer = MeasuredTrainer
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer.train(
                find_recipe(job.recipe),
                data_root=Path(job.data),
                run_dir=Path(folder) / "run",
                overrides=job.all_overrides(),
                vgg16=Path(job.vgg16) if job.vgg16 else None,
            )
    except _Measured as measured:
        return measured.row
    finally:
        replaced.Trainer = original
    raise RuntimeError(f"{job.recipe} ended before it was measured")


def _main(options: str) -> None:
    sys.stdout.write(json.dumps(measure_training(TrainingJob.from_json(options))) + "\n")


if __name__ == "__main__":
    with last_words():
        _main(*sys.argv[1:])
