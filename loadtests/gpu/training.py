"""Training on a GPU, against its floor: `python -m loadtests.gpu.training`.

Each row is a run of some seconds: a recipe, with a number of worker processes, and with crops that
are degraded on the card or in the workers. Every loss term is on from the first step. Data are
simulated unless a folder is given. The first loss is compared with that of the same step on a CPU.
The most important rows come first; at the time limit, the remaining ones are left out.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bundle_format.bundle import parse_precision
from engines.cpu import available_cpus
from loadtests.gpu.card import CardWatch
from loadtests.gpu.floor import Rates, share_of_floor, step_limits
from loadtests.gpu.installation import require
from loadtests.gpu.report import Report, add_options, json_lines
from loadtests.gpu.rows import measure_rates
from loadtests.gpu.training_job import TrainingJob
from loadtests.results import Column, Row

_COLUMNS = [
    Column("recipe", "Recipe"),
    Column("workers", "Workers"),
    Column("degraded", "Crops degraded"),
    Column("precision", "Precision"),
    Column("steps_per_s", "steps/s", 2),
    Column("samples_per_s", "samples/s", 0),
    Column("data_percent", "Time without a batch, %"),
    Column("limit_per_s", "Limit, steps/s", 1),
    Column("limited_by", "Limited by"),
    Column("percent_of_limit", "% of limit"),
    Column("busy_percent", "GPU busy, %", 0),
    Column("card_peak_gib", "GPU memory, GiB"),
    Column("first_loss", "First loss", 4),
    Column("loss_percent", "the device's differs by, %", 2),
]
_NEEDED = ("pydantic", "safetensors", "scipy", "skimage", "matplotlib", "tifffile",
           "imagecodecs", "simplejpeg", "isal")  # fmt: skip
_RUN_S = 120.0
_SEED = 11
_SPLITS = ("train_lr", "train_hr")
RECIPES = ("f_lsesim", "f_lsesim_cpu", "supervised")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code: 1 if nothing could be measured."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    require(_NEEDED)
    settings = {
        "device": options.device,
        "data": "simulated" if options.data is None else options.data.name,
        "seconds": options.seconds,
        "minutes": options.minutes,
        **({"overrides": " ".join(options.set)} if options.set else {}),
    }
    report = Report("gpu-training", _COLUMNS, options, settings=settings)
    report.notes.append(
        "The limit is the smallest of operations and uploads of a step at the rates of this run, "
        "and of an estimate of its traffic (each convolution and matrix product, forward and "
        "backward, reads and writes its values once). Time without a batch is `data_share` of "
        "`stats.jsonl`, of the timed steps."
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            _Bench(options, report).measure(Path(folder))
        except KeyboardInterrupt:
            report.notes.append("The run was interrupted.")
    return report.finish()


class _Bench:
    """All measurements of a run."""

    def __init__(self, options: argparse.Namespace, report: Report) -> None:
        self._options = options
        self._report = report
        self._rates = Rates()
        self._first_loss: dict[str, float] = {}

    def measure(self, folder: Path) -> None:
        """Take all measurements, the most important first."""
        options = self._options
        data = options.data or self._simulated(folder)
        if data is None:
            return
        measure_rates(
            self._report,
            self._rates,
            device=options.device,
            seconds=0.5,
            precisions=["bf16", "fp32"],
        )
        most, *fewer = options.workers
        for recipe in options.recipe:
            self._measure_run(recipe, data, most, on_device=True)
            self._compare_first_loss(recipe, data)
        for recipe in options.recipe:
            self._measure_run(recipe, data, most, on_device=False)
            for workers in fewer:
                self._measure_run(recipe, data, workers, on_device=True)

    def _simulated(self, folder: Path) -> Path | None:
        """Simulate images for training; None if that failed."""
        from training.simulator import write_benchmark
        from training.simulator.splits import SPLITS

        data = folder / "bench"

        def simulate() -> Sequence[Row]:
            plan = {name: replace(SPLITS[name], tiles=self._options.tiles) for name in _SPLITS}
            start_s = time.monotonic()
            write_benchmark(data, seed=_SEED, splits=_SPLITS, plan=plan)
            self._report.notes.append(
                f"Simulation of {2 * self._options.tiles} images: "
                f"{time.monotonic() - start_s:.0f} s."
            )
            return []

        return data if self._report.measure({"recipe": "simulation"}, 1.0, simulate) else None

    def _job(self, recipe: str, data: Path, workers: int, *, on_device: bool) -> TrainingJob:
        options = self._options
        return TrainingJob(
            recipe=recipe,
            data=str(data),
            vgg16=str(options.vgg16 or ""),
            device=options.device,
            precision="auto",
            workers=workers,
            degrade_on_device=on_device,
            seconds=options.seconds,
            overrides=options.set,
        )

    def _compare_first_loss(self, recipe: str, data: Path) -> None:
        """Take the first step again, on the CPU in FP32."""
        if recipe not in self._first_loss:
            return  # there is nothing to compare
        job = replace(
            self._job(recipe, data, 0, on_device=False),
            device="cpu",
            precision="fp32",
            seconds=0.0,
            overrides=[*self._options.set, f"optimization.threads={available_cpus()}"],
        )

        def run() -> Iterator[Row]:
            for row in self._runs(job):
                yield {
                    **row,
                    "loss_percent": 100 * (self._first_loss[recipe] / row["first_loss"] - 1),
                }

        about: Row = {"recipe": f"{recipe}, first step on the CPU", "precision": "fp32"}
        self._report.measure(about, self._options.seconds, run)

    def _measure_run(self, recipe: str, data: Path, workers: int, *, on_device: bool) -> None:
        job = self._job(recipe, data, workers, on_device=on_device)

        def run() -> Iterator[Row]:
            with CardWatch(self._options.device) as watch:
                rows = list(self._runs(job))
            for row in rows:
                self._first_loss.setdefault(recipe, row["first_loss"])
                yield {**row, **self._share(row), **watch.row()}

        about: Row = {
            "recipe": recipe,
            "workers": workers,
            "degraded": "where the network runs" if on_device else "by the workers",
        }
        self._report.measure(about, 2 * self._options.seconds, run)

    def _runs(self, job: TrainingJob) -> Iterator[Row]:
        limit_s = min(_RUN_S + job.seconds, self._report.left_s)
        return json_lines("loadtests.gpu.training_run", [job.as_json()], time_limit_s=limit_s)

    def _share(self, row: Row) -> Row:
        precision = parse_precision(row["precision"])
        work = {name: row[name] for name in ("operations", "read_and_written", "upload")}
        return share_of_floor(row["steps_per_s"], step_limits(self._rates, precision, **work))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu.training", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_options(parser)
    parser.add_argument(
        "--recipe",
        nargs="+",
        default=list(RECIPES),
        help="recipes, the most important first (default: f_lsesim f_lsesim_cpu supervised)",
    )
    parser.add_argument(
        "--data", type=Path, help="folder with train_lr and train_hr (default: simulated)"
    )
    parser.add_argument(
        "--vgg16",
        type=Path,
        default=os.environ.get("SEMSR_VGG16"),
        help="VGG16's weights, for f_lsesim (default: SEMSR_VGG16)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[15, 5],
        metavar="N",
        help="processes that make batches, the most important first (default: 15 5)",
    )
    parser.add_argument(
        "--tiles", type=int, default=20, help="simulated LR and HR images of each (default: 20)"
    )
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="timed seconds of each run (default: 8)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override of every recipe, such as optimization.batch_size=2 (default: none)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
