"""`semsr evaluate`: judge bundles and checkpoints, write the report."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from semsr.commands.checks import need_development
from semsr.commands.judging import add_judging, add_own_tiles
from semsr.commands.options import (
    EXIT_FAILED,
    Commands,
    add_command,
    print_rows,
)
from semsr.evaluate_arguments import EvaluateArguments, check_arguments
from semsr.evaluate_own_tiles import own_tiles

if TYPE_CHECKING:
    from training.evaluation.report.report import Report


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "evaluate",
        help="judge bundles on the simulator's benchmark or on your own tiles; write a report",
        examples=[
            "semsr evaluate --bundle bundles/mine --data out/benchmark",
            "semsr evaluate --bundle bundles/mine --lr DATA/train_lr --hr DATA/train_hr",
            "semsr evaluate --bundle bundles/mine --lr FAST --pairs LR HR --detector our.onnx",
            "semsr evaluate --bundle bundles/mine --baseline bundles/default --data out/benchmark",
        ],
    )
    parser.add_argument(
        "--bundle",
        action="append",
        default=[],
        metavar="[NAME=]DIR[,DIR…]",
        help="bundle to judge, several times for several; DIR,DIR… are seeds of one method "
        "(default: SEMSR_BUNDLE)",
    )
    parser.add_argument(
        "--seeds",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="seeds of one method (default: none)",
    )
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="bundle that the first one must beat (default: none)",
    )
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="finished pictures of another tool, FOLDER/test_clean/0000.png … (default: none)",
    )
    data = parser.add_argument_group("tiles to judge on, one or several")
    data.add_argument("--data", type=Path, help="benchmark of semsr simulate (default: none)")
    data.add_argument(
        "--lr",
        type=Path,
        metavar="FOLDER",
        help="your own LR tiles, any names and sizes (default: none)",
    )
    data.add_argument(
        "--real",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="real tiles in the layout of docs/evaluation.md, in DIR or at most two levels below; "
        "several times for several (default: folders named by an index.csv below SEMSR_DATA, if "
        "--lr is not given)",
    )
    add_own_tiles(parser, data, lr="--lr")
    parser.add_argument(
        "--report", type=Path, default=Path("out/report"), help="folder of the report"
    )
    parser.add_argument(
        "--split",
        default="test",
        choices=["test", "thousand", "unknown", "near_x4", "near_x2"],
        help="splits of the benchmark, with defects and without; unknown: of kinds that no "
        "training draws; near_x4, near_x2: aligned pairs, without a detector",
    )
    parser.add_argument(
        "--max-gmac",
        type=float,
        default=15.0,
        metavar="N",
        help="multiply-adds a tile that the first candidate may cost, in 1e9",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="folder for a full-size sheet of every real and own tile: LR, methods, HR at equal "
        "greys (default: none)",
    )
    add_judging(parser, row="method")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("evaluate")
    checked = check_arguments(options)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading PyTorch"):
        from training.evaluation.judging.targets import missed
        from training.evaluation.report.report import rows, write_report
        from training.evaluation.report.tables import (
            write_comparisons,
            write_kinds,
            write_near,
            write_own,
            write_real,
            write_targets,
        )
    with shown_by(progress):
        report = _evaluate(options, checked)
    page = write_report(report, options.report)
    if options.json:
        print_rows(rows(report), "", as_json=True)
    else:
        write_targets(report.targets, file=sys.stdout)
        write_comparisons(report.comparisons, file=sys.stdout)
        write_kinds(report.summaries, file=sys.stdout)
        if report.near is not None:
            write_near(report.near, file=sys.stdout)
        if report.real is not None:
            write_real(report.real, file=sys.stdout)
        if report.own is not None:
            write_own(report.own, file=sys.stdout)
    sys.stderr.write(f"report: {page}\n")
    return EXIT_FAILED if missed(report.targets) else 0


def _evaluate(options: argparse.Namespace, checked: EvaluateArguments) -> "Report":
    from engines.cpu import available_cpus
    from semsr.evaluate import bundle_method, evaluate_methods, load_features, load_own_detector
    from training.data.picture_folder import read_facts
    from training.evaluation.compared.methods import pictures_method
    from training.evaluation.run import Options
    from training.ground.progress import progress

    methods = []
    with progress("loading methods and timing one tile") as steps:
        for item in checked.candidates:
            steps.say(item.name)
            methods.append(bundle_method(item, role="candidate", engine=options.engine))
        for item in checked.baselines:
            steps.say(item.name)
            methods.append(bundle_method(item, role="baseline", engine=options.engine))
        methods += [
            pictures_method(f"{name} (short)" if facts and facts.is_short else name, folder)
            for name, folder in checked.pictures
            for facts in [read_facts(folder)]
        ]
        features = load_features(checked.vgg16)
    if checked.near is not None:
        from training.evaluation.near_run import NearOptions, evaluate_near

        return evaluate_near(
            methods,
            NearOptions(
                out=options.report,
                benchmark=checked.near,
                split=options.split,
                limit=options.limit,
                jobs=options.jobs or available_cpus(),
            ),
        )
    own_detector = load_own_detector(checked.own_detector, options.detector_threshold)
    scales = {method.scale for method in methods if method.scale is not None}
    return evaluate_methods(
        methods,
        Options(
            out=options.report,
            benchmark=checked.benchmark,
            real=checked.real,
            sheets=options.pictures,
            max_gmac=options.max_gmac,
            own=own_tiles(
                options,
                models=[*checked.candidates, *checked.baselines],
                window=checked.window,
                scale=max(scales, default=4),
            ),
            split=options.split,
            limit=options.limit,
            jobs=options.jobs or available_cpus(),
            cache=options.cache,
        ),
        detector=options.detector,
        vgg16=checked.vgg16,
        features=features,
        own_detector=own_detector,
    )
