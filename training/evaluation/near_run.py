"""Evaluation on near sets (`--split near_x4`, `near_x2`): without a detector, targets or bootstrap.

`training.evaluation.run` evaluates on the other splits, on real tiles and on own tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.compared.methods import Method, builtin_methods
from training.evaluation.folders.benchmark import load_benchmark
from training.evaluation.folders.near_sets import NEAR_SPLITS, near_sets
from training.evaluation.report.near_illustrations import illustrate_near
from training.evaluation.report.report import Report
from training.evaluation.run import EvaluationError, ordered_methods
from training.evaluation.sets.near_tiles import NearReport, measure_near
from training.ground.progress import progress


@dataclass(frozen=True, kw_only=True)
class NearOptions:
    """Inputs and options of an evaluation on near sets.

    Attributes:
        out: Folder of the report.
        benchmark: Benchmark folder.
        split: Key of `near_sets.NEAR_SPLITS`.
        limit: Greatest number of tiles of each set, for a quick look.
        jobs: Threads that judge pictures.
    """

    out: Path
    benchmark: Path
    split: str
    limit: int | None = None
    jobs: int = 1


def evaluate_near(methods: Sequence[Method], options: NearOptions) -> Report:
    """Measure the methods, bicubic and the true HR on near sets, and draw the pictures.

    Args:
        methods: Candidates and named baselines; those of a known scale must have that of the split.
        options: Options, see there.

    Returns:
        What `report.write_report` writes; the pictures are already below `options.out`.

    Raises:
        EvaluationError: A method enlarges by another scale.
        BenchmarkError: The benchmark cannot be read, or has no near set.
        MethodError: Two methods have one name.
    """
    near = NEAR_SPLITS[options.split]
    wrong = [m for m in methods if m.scale is not None and m.scale != near.scale]
    if wrong:
        raise EvaluationError(
            f"{wrong[0].name} enlarges x{wrong[0].scale}; {options.split} needs methods of "
            f"x{near.scale}"
        )
    benchmark = load_benchmark(options.benchmark)
    tiles = {
        name: found[: options.limit] for name, found in near_sets(benchmark, near).items() if found
    }
    ordered = ordered_methods(methods, builtin_methods(scale=near.scale))
    measured = {
        name: measure_near(name, found, ordered, jobs=options.jobs) for name, found in tiles.items()
    }
    with progress("drawing pictures"):
        pictures = illustrate_near(
            {name: (tiles[name], item) for name, item in measured.items()},
            ordered,
            out=options.out,
        )
    notes = [
        f"{options.benchmark} has no split {name}: that set was left out."
        for name in near.splits
        if name not in tiles
    ]
    if options.limit is not None:
        notes.append(f"A quick look: at most {options.limit} tiles of each set.")
    return Report(
        benchmark=None,
        detector=None,
        methods=ordered,
        summaries={},
        near=NearReport(
            split=options.split,
            scale=near.scale,
            seed=benchmark.seed,
            fingerprint=benchmark.fingerprint,
            figures=tuple(row for item in measured.values() for row in item.figures.values()),
            flips=tuple(flip for item in measured.values() for flip in item.flips),
        ),
        pictures=pictures,
        notes=notes,
    )
