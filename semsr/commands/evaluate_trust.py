"""`semsr evaluate-trust`: measure a bundle's trust flags on clean tiles and planted failures."""

import argparse
import os
import sys
from pathlib import Path

from semsr.commands.options import EXIT_FAILED, Commands, print_rows


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser(
        "evaluate-trust",
        help="measure how often the flags residual and domain-distance are right; write a report",
    )
    parser.add_argument("--bundle", type=Path, help="bundle to judge (default: SEMSR_BUNDLE)")
    parser.add_argument(
        "--data", type=Path, required=True, help="benchmark folder (semsr simulate)"
    )
    parser.add_argument("--split", default="test", choices=["test", "thousand"])
    parser.add_argument("--limit", type=int, help="only so many tiles of each split")
    parser.add_argument(
        "--domain",
        type=Path,
        help="folder of LR tiles of the training's domain: judged as they are and disturbed",
    )
    parser.add_argument("--engine", default="onnx", help="engine that answers (default onnx)")
    parser.add_argument(
        "--report", type=Path, default=Path("out/trust"), help="folder of the report"
    )
    parser.add_argument("--json", action="store_true", help="print one row a figure as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from semsr.evaluate_trust import evaluate_trust
    from service.settings import DEFAULT_BUNDLE
    from training.evaluation.planted_failures import FAILURES
    from training.evaluation.trust import format_report, write_report

    report = evaluate_trust(
        options.bundle or Path(os.environ.get("SEMSR_BUNDLE", str(DEFAULT_BUNDLE))),
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
