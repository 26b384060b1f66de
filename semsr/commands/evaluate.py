"""`semsr evaluate`: judge bundles and checkpoints, write the report."""

import argparse
import os
import sys
from pathlib import Path

from semsr.commands.options import (
    EXIT_FAILED,
    Commands,
    UsageError,
    add_vgg16,
    print_rows,
    vgg16_path,
)


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser(
        "evaluate",
        help="judge bundles by defect recall, false alarms, backgrounds and edges; write a report",
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
        "--seeds", type=Path, nargs="+", default=[], metavar="DIR", help="seeds of one method"
    )
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="bundle that the first one must beat",
    )
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="finished pictures of another tool, FOLDER/test_clean/0000.png …",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="benchmark folder (semsr simulate), or one above the real tiles in sem/",
    )
    parser.add_argument(
        "--real", type=Path, help="folder above the real tiles in sem/ (default: SEMSR_DATA)"
    )
    parser.add_argument(
        "--report", type=Path, default=Path("out/report"), help="folder of the report"
    )
    parser.add_argument("--split", default="test", help="test (default) or thousand")
    parser.add_argument("--limit", type=int, help="only so many tiles of each split")
    parser.add_argument("--engine", default="onnx", help="engine that runs bundles (default onnx)")
    parser.add_argument("--detector", type=Path, help="weights of the detector (default: shipped)")
    parser.add_argument("--jobs", type=int, help="processes that judge (default: usable CPUs)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("out/evaluation-cache"),
        help="folder that keeps measurements (default out/evaluation-cache)",
    )
    add_vgg16(parser)
    parser.add_argument("--json", action="store_true", help="print one row a method as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from semsr.evaluate import (
        bundle_method,
        make_judge,
        parse_bundles,
        parse_seeds,
        pictures_methods,
    )
    from service.engines.cpu import available_cpus
    from service.settings import DEFAULT_BUNDLE
    from training.evaluation.benchmark import is_benchmark
    from training.evaluation.real_tiles import has_real_tiles
    from training.evaluation.report import rows, write_report, write_targets
    from training.evaluation.run import Options, evaluate
    from training.evaluation.targets import missed

    benchmark = options.data if options.data is not None and is_benchmark(options.data) else None
    real = options.real or (None if benchmark == options.data else options.data)
    if real is None and os.environ.get("SEMSR_DATA"):
        real = Path(os.environ["SEMSR_DATA"])
    if real is not None and not has_real_tiles(real):
        raise UsageError(f"{real} is no benchmark and holds no real tiles (sem/starter_x4)")
    if benchmark is None and real is None:
        raise UsageError("nothing to evaluate on: give --data DIR (semsr simulate writes one)")
    named = parse_bundles(options.bundle)
    if options.seeds:
        named += parse_seeds(options.seeds)
    finished = pictures_methods(options.images)
    if not named and not finished:
        named = parse_bundles([os.environ.get("SEMSR_BUNDLE", str(DEFAULT_BUNDLE))])
    methods = [bundle_method(item, role="candidate", engine=options.engine) for item in named]
    methods += finished
    methods += [
        bundle_method(item, role="baseline", engine=options.engine)
        for item in parse_bundles(options.baseline)
    ]
    judge, judge_version, description = None, "", {}
    if benchmark is not None:
        judge, judge_version, description = make_judge(
            detector=options.detector, vgg16=vgg16_path(options.vgg16)
        )
    report = evaluate(
        methods,
        Options(
            out=options.report,
            benchmark=benchmark,
            data_root=real,
            split=options.split,
            limit=options.limit,
            jobs=options.jobs or available_cpus(),
            cache=options.cache,
        ),
        judge=judge,
        judge_version=judge_version,
        detector_description=description,
    )
    page = write_report(report, options.report)
    if options.json:
        print_rows(rows(report), "", as_json=True)
    else:
        write_targets(report.targets, file=sys.stdout)
    sys.stderr.write(f"report: {page}\n")
    return EXIT_FAILED if missed(report.targets) else 0
