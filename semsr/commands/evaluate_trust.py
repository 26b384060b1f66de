"""`semsr evaluate-trust`: measure a bundle's trust flags on clean tiles and planted failures."""

import argparse
import os
import sys
from pathlib import Path

from semsr.commands.checks import (
    at_least,
    existing_benchmark,
    existing_bundle,
    folder_of_images,
    need_development,
    one_of,
    writable_folder,
)
from semsr.commands.options import EXIT_FAILED, Commands, UsageError, add_command, print_rows


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "evaluate-trust",
        help="measure how often the flags residual and domain-distance are right; write a report",
        examples=[
            "semsr evaluate-trust --bundle bundles/mine --data out/benchmark",
            "semsr evaluate-trust --data out/benchmark --domain DATA/train_lr --limit 20",
        ],
    )
    parser.add_argument("--bundle", type=Path, help="bundle to judge (default: SEMSR_BUNDLE)")
    parser.add_argument(
        "--data", type=Path, required=True, help="benchmark folder (semsr simulate)"
    )
    parser.add_argument(
        "--split",
        default="test",
        choices=["test", "thousand"],
        help="splits of the benchmark: with defects and without",
    )
    parser.add_argument("--limit", type=int, help="tiles of each split (default: all)")
    parser.add_argument(
        "--domain",
        type=Path,
        help="folder of LR tiles of the training's domain: judged as they are and disturbed "
        "(default: none)",
    )
    parser.add_argument("--engine", default="onnx", help="engine to run")
    parser.add_argument(
        "--report", type=Path, default=Path("out/trust"), help="folder of the report"
    )
    parser.add_argument("--json", action="store_true", help="print one row a figure as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    need_development("evaluate-trust")
    bundle = _check(options)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading PyTorch"):
        from semsr.evaluate_trust import evaluate_trust
        from training.evaluation.trust.planted_failures import FAILURES
        from training.evaluation.trust.report import format_report, write_report

    with shown_by(progress):
        report = evaluate_trust(
            bundle,
            options.data,
            split=options.split,
            limit=options.limit,
            domain=options.domain,
            engine_name=options.engine,
        )
    write_report(report, options.report)
    rows = [{"figure": "false_alarms", **asdict(report.false_alarms)}]
    rows += [{"figure": f"caught_{name}", **asdict(report.caught(name))} for name in FAILURES]
    print_rows(rows, format_report(report), as_json=options.json)
    sys.stderr.write(f"report: {options.report}\n")
    return 0 if report.is_met else EXIT_FAILED


def _check(options: argparse.Namespace) -> Path:
    """Check every argument before torch is loaded; returns the bundle."""
    from bundle_format.bundle import load_bundle
    from bundle_format.shipped import default_bundle
    from engines.registry import ENGINES
    from training.evaluation.folders.benchmark import SPLITS

    at_least(options.limit, 1, "--limit")
    one_of(options.engine, list(ENGINES), "--engine")
    writable_folder(options.report, "--report")
    existing_benchmark(options.data, SPLITS[options.split], "--data")
    if options.domain is not None:
        folder_of_images(options.domain, "--domain")
    given = options.bundle or Path(os.environ.get("SEMSR_BUNDLE") or str(default_bundle()))
    bundle = existing_bundle(given, "--bundle")
    if load_bundle(bundle).manifest.trust is None:
        raise UsageError(f"--bundle: {bundle} has no trust record: export it with --domain FOLDER")
    return bundle
