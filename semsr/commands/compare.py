"""`semsr compare`: train several systems under one budget and judge them side by side."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsr.commands.checks import (
    at_least,
    existing_benchmark,
    existing_bundle,
    need_development,
    writable_folder,
    wrong_use,
)
from semsr.commands.judging import add_judging, check_judging
from semsr.commands.options import (
    EXIT_FAILED,
    Commands,
    UsageError,
    add_command,
    print_rows,
)

if TYPE_CHECKING:
    from training.comparison.record import Record
    from training.comparison.systems import System
    from training.evaluation.report.report import Report


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "compare",
        help="train several systems under one budget, judge them side by side, write one report",
        description="Train several systems under one budget, judge them side by side and write one "
        "report. An interrupted comparison goes on when the same command is repeated, which may "
        "also add systems.",
        examples=[
            "semsr compare default=bundles/default cut monce f_lsesim_paper --data out/benchmark "
            "--minutes 60 --out out/compare",
            "semsr compare cut monce --data out/benchmark --minutes 60 --plan",
            "semsr compare default=bundles/default monce --seeds 3 --data out/benchmark",
            "semsr compare default=bundles/default zssr=out/zssr --data out/benchmark",
        ],
    )
    parser.add_argument(
        "systems",
        nargs="+",
        metavar="SYSTEM",
        help="RECIPE or NAME=RECIPE (a TOML file or the name of a shipped one) to train, or "
        "NAME=PATH of a checkpoint, a bundle, or finished pictures (PATH/test_clean/0000.png …); "
        "the first one is compared with all others",
    )
    parser.add_argument("--data", type=Path, required=True, help="benchmark of semsr simulate")
    parser.add_argument(
        "--out", type=Path, default=Path("out/compare"), help="folder of runs and report"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="budget of one training: its schedule is shortened to as many steps as fit (default: "
        "whole schedules)",
    )
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each recipe")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="[NAME:]KEY=VALUE",
        help="override an entry of all recipes, or of one (default: the recipes as they are)",
    )
    parser.add_argument(
        "--at-a-time", type=int, default=1, metavar="N", help="trainings that run at a time"
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="time some steps of each recipe on this machine, print the plan, and stop",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="forget a comparison that is in the folder, and delete its trainings",
    )
    parser.add_argument(
        "--split",
        default="test",
        choices=["test", "thousand", "unknown"],
        help="splits of the benchmark, with defects and without",
    )
    add_judging(parser, row="system")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("compare")
    systems, vgg16 = _check(options)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading PyTorch"):
        from models.checkpoint import CheckpointError
        from semsr.compare import (
            Budget,
            FinishedError,
            check_finished,
            forget_runs,
            methods_of,
            plan_all,
            train_missing,
        )
        from training.comparison.markdown import figures_table, plan_table
        from training.comparison.plan import Data
        from training.comparison.record import Record, RecordError, asked_of
        from training.comparison.report import compared, document, plan_rows, write_comparison
    data = Data(root=options.data, vgg16=vgg16)
    budget = Budget(minutes=options.minutes, seeds=options.seeds, at_a_time=options.at_a_time)
    with wrong_use(RecordError, CheckpointError, FinishedError):
        check_finished(systems, benchmark=options.data, split=options.split, limit=options.limit)
        record = Record(
            options.out,
            asked_of(systems, minutes=options.minutes, seeds=options.seeds, data=options.data),
            overwrite=options.overwrite,
        )
    if options.overwrite:
        forget_runs(options.out)
    with shown_by(progress):
        is_timed = options.plan or budget.minutes is not None
        plan_all(systems, data, budget, record, is_timed=is_timed)
        if options.plan:
            rows = plan_rows(record)
            print_rows(rows, plan_table(rows), as_json=options.json)
            return _say_failures(record)
        jobs = train_missing(systems, data, budget, record, folder=options.out)
        methods, left_out = methods_of(systems, jobs, engine=options.engine, seeds=options.seeds)
        if not methods:
            reasons = [f"{name}: {why}" for name, why in (record.failed | left_out).items()]
            raise UsageError("\n  ".join(["no system is left to judge:", *reasons]))
        report = _evaluate(options, methods, vgg16)
    result = compared(report, systems, record, left_out=left_out)
    page = write_comparison(result, options.out)
    values = document(result)
    print_rows(values["rows"], figures_table(values), as_json=options.json)
    sys.stderr.write(f"report: {page}\n")
    return _say_failures(record)


def _say_failures(record: "Record") -> int:
    for name, error in record.failed.items():
        sys.stderr.write(f"{name} failed: {error}\n")
    return EXIT_FAILED if record.failed else 0


def _evaluate(options: argparse.Namespace, methods: list[Any], vgg16: Path | None) -> "Report":
    from engines.cpu import available_cpus
    from semsr.evaluate import evaluate_methods, load_features
    from training.evaluation.run import Options

    return evaluate_methods(
        methods,
        Options(
            out=options.out,
            benchmark=options.data,
            split=options.split,
            limit=options.limit,
            jobs=options.jobs or available_cpus(),
            cache=options.cache,
        ),
        vgg16=vgg16,
        features=load_features(vgg16),
    )


def _check(options: argparse.Namespace) -> tuple[list["System"], Path | None]:
    from training.comparison.facts import facts_of
    from training.comparison.systems import parse_systems
    from training.config.recipe import ConfigError
    from training.data.picture_folder import PicturesError
    from training.evaluation.folders.benchmark import SPLITS

    at_least(options.seeds, 1, "--seeds")
    at_least(options.at_a_time, 1, "--at-a-time")
    if options.minutes is not None and not options.minutes > 0:
        raise UsageError(f"--minutes is {options.minutes}; expected more than 0")
    existing_benchmark(options.data, SPLITS[options.split], "--data")
    vgg16 = check_judging(options)
    writable_folder(options.out, "--out")
    with wrong_use(ConfigError, FileNotFoundError, PicturesError):
        systems = parse_systems(options.systems, options.set)
        for system in systems:
            if system.kind == "bundle":
                existing_bundle(system.path, system.name)
            elif system.kind == "recipe":
                _check_recipe(system, options, vgg16)
        facts_of(systems, [], left_out={})  # malformed facts of pictures, before hours of training
    return systems, vgg16


def _check_recipe(system: "System", options: argparse.Namespace, vgg16: Path | None) -> None:
    """Find the problems of a recipe before any is trained."""
    from training.config.recipe import ConfigError
    from training.run.preflight import missing_files

    missing = missing_files(system.recipe(), options.data, vgg16)
    if missing:
        raise ConfigError("\n  ".join([f"{system.name} under {options.data}:", *missing]))
