"""`semsr compare-models`: two models side by side on your own tiles or on a benchmark."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from semsr.commands.checks import (
    at_least,
    existing_benchmark,
    existing_bundle,
    existing_folder,
    need_development,
    writable_folder,
    wrong_use,
)
from semsr.commands.judging import (
    add_judging,
    add_own_tiles,
    check_judging,
    check_own_folders,
    check_own_tiles,
)
from semsr.commands.options import EXIT_FAILED, Commands, UsageError, add_command, print_rows
from semsr.evaluate_own_tiles import own_tiles

if TYPE_CHECKING:
    from semsr.evaluate_arguments import NamedBundle
    from training.comparison.two_models.report import ModelComparison


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "compare-models",
        help="compare two models on your own tiles or on a benchmark; write one report",
        description="Compare two models side by side: figures, paired differences with 95 % "
        "intervals, the tiles that differ most, cost and trust flags. Exit code 0: B is worse in "
        "no judged figure; 1: B is worse in at least one, or the comparison failed; 2: wrong "
        "arguments.",
        examples=[
            "semsr compare-models bundles/default bundles/next --data FAST",
            "semsr compare-models now=bundles/default next=runs/next/checkpoint.safetensors "
            "--data FAST --hr SLOW --pairs LR HR --detector our.onnx",
            "semsr compare-models bundles/default bundles/next --data out/benchmark",
        ],
    )
    for name, meaning in (("A", "the present model"), ("B", "the model that may replace it")):
        parser.add_argument(
            name.lower(),
            metavar=name,
            help=f"{meaning}: [NAME=]PATH of a bundle or of a checkpoint",
        )
    data = parser.add_argument_group("tiles")
    data.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="your own LR tiles, any names and sizes, or a benchmark of semsr simulate",
    )
    add_own_tiles(parser, data, lr="--data")
    parser.add_argument(
        "--out", type=Path, default=Path("out/compare-models"), help="folder of the report"
    )
    parser.add_argument(
        "--split",
        default="test",
        choices=["test", "thousand", "unknown"],
        help="splits of the benchmark, with defects and without",
    )
    parser.add_argument(
        "--show", type=int, default=6, metavar="N", help="tiles that differ most, with pictures"
    )
    parser.add_argument(
        "--limit-grey",
        type=int,
        default=16,
        metavar="GREY",
        help="difference in grey levels above which a pixel counts as different",
    )
    add_judging(parser, row="figure")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("compare-models")
    named, benchmark = _check(options)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading PyTorch"):
        from training.comparison.two_models.report import text_table, write_model_comparison
    with shown_by(progress):
        comparison = _compare(options, named, is_benchmark=benchmark)
    page = write_model_comparison(comparison, options.out)
    rows = [asdict(row) for row in (*comparison.rows, *comparison.flags)]
    print_rows(rows, text_table(comparison), as_json=options.json)
    sys.stderr.write(f"report: {page}\n")
    # Last, and apart from the rows that another program reads.
    (sys.stderr if options.json else sys.stdout).write(f"{comparison.conclusion}\n")
    return EXIT_FAILED if comparison.is_worse else 0


def _compare(
    options: argparse.Namespace, named: "list[NamedBundle]", *, is_benchmark: bool
) -> "ModelComparison":
    from semsr.compare_models import (
        Judging,
        ModelsError,
        compare_on_benchmark,
        compare_on_own,
        load_models,
    )
    from semsr.evaluate import load_own_detector
    from training.ground.progress import progress

    with progress("loading both models and timing one tile"), wrong_use(ModelsError):
        methods = load_models(named, engine=options.engine)
    window, own_detector = check_own_tiles(options)
    judging = Judging(
        out=options.out,
        show=options.show,
        limit_grey=options.limit_grey,
        limit=options.limit,
        jobs=options.jobs,
        cache=options.cache,
        vgg16=check_judging(options),
        detector=options.detector,
        own_detector=load_own_detector(own_detector, options.detector_threshold),
    )
    if is_benchmark:
        return compare_on_benchmark(
            methods, named, judging, folder=options.data, split=options.split
        )
    folders = argparse.Namespace(**{**vars(options), "lr": options.data})
    own = own_tiles(folders, models=named, window=window, scale=methods[0].scale or 4)
    assert own is not None, "a folder of LR tiles was given"  # noqa: S101 (our own invariant)
    return compare_on_own(methods, named, own, judging, folder=options.data)


def _check(options: argparse.Namespace) -> tuple["list[NamedBundle]", bool]:
    """Return the two models, and whether the data are a benchmark."""
    from semsr.evaluate_arguments import parse_bundles
    from training.evaluation.folders.benchmark import SPLITS, is_benchmark

    check_judging(options)
    _, own_detector = check_own_tiles(options)
    at_least(options.show, 0, "--show")
    if not 1 <= options.limit_grey <= 254:
        raise UsageError(f"--limit-grey is {options.limit_grey}, expected 1 to 254")
    writable_folder(options.out, "--out")
    named: list[NamedBundle] = []
    for option, text in (("A", options.a), ("B", options.b)):
        with wrong_use(ValueError):
            [item, *seeds] = parse_bundles([text])
        if seeds:
            raise UsageError(f"{option} is {text!r}; expected one model, not several seeds")
        if not item.path.is_file():  # else a checkpoint
            existing_bundle(item.path, option)
        named.append(item)
    if named[0].name == named[1].name:
        raise UsageError(
            f"both models are called {named[0].name!r}; name them: now={named[0].path} "
            f"next={named[1].path}"
        )
    existing_folder(options.data, "--data")
    if is_benchmark(options.data):
        existing_benchmark(options.data, SPLITS[options.split], "--data")
        for folder, name in ((options.hr, "--hr"), (options.pairs, "--pairs")):
            if folder is not None:
                raise UsageError(f"{name} goes with your own tiles; --data is a benchmark")
        return named, True
    check_own_folders(options, options.data, "--data")
    if options.detector is not None and own_detector is None:
        raise UsageError(
            f"--detector: {options.detector} judges a benchmark only; your own tiles need your own "
            "detector, an ONNX file"
        )
    return named, False
