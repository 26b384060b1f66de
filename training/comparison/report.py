"""Report of a comparison: `comparison.json` and `comparison.md`, next to the evaluation's page.

The evaluation's own report (`index.html`) has the pictures: LR, every system and HR side by side
with boxed defects, and the gradient maps of all systems on one scale.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.comparison.expectations import Checked, check, load_expectations
from training.comparison.facts import SystemFacts, facts_of
from training.comparison.markdown import markdown
from training.comparison.record import Record
from training.comparison.systems import System
from training.comparison.verdicts import Verdict, judge
from training.evaluation.compared.methods import Method
from training.evaluation.judging.targets import judge_targets
from training.evaluation.report.report import Report, write_report
from training.evaluation.report.tables import plain
from training.ground.whole_file import write_whole_text

FORMAT_VERSION = 1
KIND = "semsr-comparison-report"
JSON_FILE = "comparison.json"
MARKDOWN_FILE = "comparison.md"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the main table.

    Attributes:
        name: Name of the row: the system's, with the number of the training where it has several.
        system: Name of the system; empty for built-in methods.
        figures: Key to value, low and high of the 95 % interval.
        missed: Targets that the row misses.
        gmac: Multiply-adds a tile in 1e9; None where unknown.
        ms: Milliseconds a tile; None where unknown.
    """

    name: str
    system: str
    figures: Mapping[str, tuple[float, float, float]]
    missed: Sequence[str]
    gmac: float | None
    ms: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that a comparison found.

    Attributes:
        report: Evaluation of all systems.
        facts: Facts of the systems, in their order.
        table: Rows of the main table.
        verdicts: First system against the others; empty where the first one was not judged.
        checked: Verdicts of the thesis.
        failed: Errors by system or run.
        left_out: Reasons by system that was not judged.
    """

    report: Report
    facts: Sequence[SystemFacts]
    table: Sequence[Row]
    verdicts: Sequence[Verdict]
    checked: Sequence[Checked]
    failed: Mapping[str, str]
    left_out: Mapping[str, str]


def compared(
    report: Report, systems: Sequence[System], record: Record, *, left_out: Mapping[str, str]
) -> Comparison:
    """Judge what an evaluation of all systems measured.

    Args:
        report: Evaluation; its methods are the rows.
        systems: Systems.
        record: Record of the trainings.
        left_out: Reasons of systems that could not be judged.
    """
    facts = facts_of(systems, record.plan, left_out=left_out)
    short_systems = {of.name for of in facts if of.is_short}
    systems_of = {method.name: _system_of(method, facts) for method in report.methods}
    short = {name for name, system in systems_of.items() if system in short_systems}
    judged = [method.name for method in report.methods if method.role == "candidate"]
    # Without a row of the first system, none takes its place.
    is_there = bool(judged) and systems_of[judged[0]] == systems[0].name
    # The first system is not compared with its own further trainings.
    others = [name for name in judged if systems_of[name] != systems[0].name]
    return Comparison(
        report=report,
        facts=facts,
        table=[_row(method, report, systems_of[method.name]) for method in report.methods],
        verdicts=judge([judged[0], *others], report.summaries, short=short) if is_there else [],
        checked=check(
            load_expectations(),
            report.summaries,
            # Of several trainings of one system, the first; a built-in method is its own row.
            rows={
                systems_of[method.name] or method.name: method.name
                for method in reversed(report.methods)
            },
            short=short,
        ),
        failed=record.failed,
        left_out=left_out,
    )


def _system_of(method: Method, facts: Sequence[SystemFacts]) -> str:
    names = {of.name for of in facts}
    return next((name for name in (method.name, method.group) if name in names), "") or ""


def _row(method: Method, report: Report, system: str) -> Row:
    figures = report.summaries[method.name].figures
    intervals = {key: of.interval() for key, of in figures.items()}
    missed = []
    if method.role == "candidate":
        alone = [method, *(other for other in report.methods if other.role != "candidate")]
        missed = [
            target.name
            for target in judge_targets(alone, report.summaries)
            if target.status == "missed" and target.subject == method.name
        ]
    return Row(
        name=method.name,
        system=system,
        figures={key: (of.value, of.low, of.high) for key, of in intervals.items()},
        missed=missed,
        gmac=method.gmac,
        ms=method.ms,
    )


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write the evaluation's report, `comparison.json` and `comparison.md`.

    Returns:
        The path of the Markdown.
    """
    write_report(comparison.report, folder)
    text = json.dumps(document(comparison), indent=1, allow_nan=False, ensure_ascii=False)
    write_whole_text(folder / JSON_FILE, text + "\n")
    path = folder / MARKDOWN_FILE
    write_whole_text(path, markdown(document(comparison)))
    return path


def document(comparison: Comparison) -> dict[str, Any]:
    """Convert a comparison to JSON-compatible values, without the evaluation's own report."""
    return plain(
        {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "benchmark": comparison.report.benchmark,
            "systems": [asdict(of) for of in comparison.facts],
            "rows": [asdict(row) for row in comparison.table],
            "rows_judged": [
                method.name for method in comparison.report.methods if method.role == "candidate"
            ],
            "verdicts": [asdict(verdict) for verdict in comparison.verdicts],
            "expectations": [asdict(checked) for checked in comparison.checked],
            "seeds": [asdict(spread) for spread in comparison.report.seeds],
            "failed": dict(comparison.failed),
            "left_out": dict(comparison.left_out),
        }
    )


def plan_rows(record: Record) -> list[dict[str, Any]]:
    """Return the plan of a comparison, one row a system."""
    return [
        {
            "system": planned.name,
            "step_s": planned.step_s,
            "steps": planned.steps,
            "minutes": planned.minutes,
            "whole_steps": planned.whole_steps,
            "whole_minutes": planned.whole_minutes,
            "share": planned.share,
            "changes": list(planned.changes),
        }
        for planned in record.plan
    ]
