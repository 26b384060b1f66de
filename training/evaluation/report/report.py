"""Writing of the report as `report.json` and `index.html`.

Both come from the same document; the HTML needs no network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.evaluation.compared.methods import BICUBIC, Method
from training.evaluation.figures import BY_KEY, SECTIONS
from training.evaluation.judging.bootstrap import Estimate
from training.evaluation.judging.comparison import Comparison
from training.evaluation.judging.seeds import SeedSpread
from training.evaluation.judging.summary import MethodSummary
from training.evaluation.judging.targets import Target
from training.evaluation.report.tables import (
    NEAR_COLUMNS,
    OUTLINE_COLUMNS,
    OWN_COLUMNS,
    OWN_PAIR_COLUMNS,
    REAL_BACKGROUND_COLUMNS,
    REAL_STRUCTURE_COLUMNS,
    plain,
    shown,
    standing_out,
)
from training.evaluation.sets.near_tiles import NearReport
from training.evaluation.sets.own_tiles import OwnReport
from training.evaluation.sets.real_tiles import RealReport
from training.ground.whole_file import write_whole_text

FORMAT_VERSION = 1
KIND = "semsr-evaluation"
TEMPLATE = "report.html.j2"


@dataclass(frozen=True, kw_only=True)
class PictureEntry:
    """One picture of the report: its file below the report's folder, and what it shows."""

    file: str
    section: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was measured.

    Attributes:
        benchmark: Facts of the benchmark, such as seed and number of tiles; None without one.
        detector: Threshold and description.
        methods: Methods in the order of the tables.
        summaries: Method name to figures; empty without a benchmark.
        floors: Figure key to split-half floor.
        targets: Targets with their outcomes.
        comparisons: Other methods against the first candidate.
        seeds: Spreads over seeds.
        own: Measurements of the fab's own tiles, where they were given.
        real: Measurements of real tiles, where they were given.
        near: Measurements of near sets, where they were judged.
        pictures: Pictures in their order.
        notes: Sentences on omissions and their reasons.
    """

    benchmark: dict[str, Any] | None
    detector: dict[str, Any] | None
    methods: Sequence[Method]
    summaries: Mapping[str, MethodSummary]
    floors: Mapping[str, float] = field(default_factory=dict)
    targets: Sequence[Target] = ()
    comparisons: Sequence[Comparison] = ()
    seeds: Sequence[SeedSpread] = ()
    own: OwnReport | None = None
    real: RealReport | None = None
    near: NearReport | None = None
    pictures: Sequence[PictureEntry] = ()
    notes: Sequence[str] = ()


def document(report: Report) -> dict[str, Any]:
    r"""Convert a report to JSON-compatible values.

    Non-finite numbers become null; non-UTF-8 bytes of file names become escapes such as `\xff`.
    """
    return plain(
        {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "benchmark": report.benchmark,
            "detector": report.detector,
            "targets": [asdict(target) for target in report.targets],
            "comparisons": [asdict(item) for item in report.comparisons],
            "methods": [_method(method, report.summaries) for method in report.methods],
            "floors": dict(report.floors),
            "seeds": [asdict(spread) for spread in report.seeds],
            "own": None if report.own is None else asdict(report.own),
            "real": None if report.real is None else asdict(report.real),
            "near": None if report.near is None else asdict(report.near),
            "pictures": [asdict(picture) for picture in report.pictures],
            "notes": list(report.notes),
        }
    )


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.json` and `index.html` to a folder, made where absent.

    Returns:
        The path of the HTML.
    """
    values = document(report)
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = shown
    html = environment.get_template(TEMPLATE).render(
        report=values,
        sections=SECTIONS,
        by_key=BY_KEY,
        own_columns=OWN_COLUMNS,
        own_pair_columns=OWN_PAIR_COLUMNS,
        real_structure_columns=REAL_STRUCTURE_COLUMNS,
        real_background_columns=REAL_BACKGROUND_COLUMNS,
        outline_columns=OUTLINE_COLUMNS,
        near_columns=NEAR_COLUMNS,
        standing_out=[] if report.own is None else plain(standing_out(report.own)),
    )
    path = folder / "index.html"
    write_whole_text(folder / "report.json", text + "\n")
    write_whole_text(path, html)
    return path


def rows(report: Report) -> list[dict[str, Any]]:
    """Return one flat row for each method, for `--json`."""
    values = document(report)
    own = {} if report.own is None else {row["method"]: row for row in values["own"]["figures"]}
    near = [] if report.near is None else values["near"]["figures"]
    return [
        {
            "method": method["name"],
            "role": method["role"],
            **{key: item["value"] for key, item in method["figures"].items()},
            **({"own": own[method["name"]]} if method["name"] in own else {}),
            **({"near": _of_method(near, method["name"])} if near else {}),
        }
        for method in values["methods"]
    ]


def _of_method(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Return the rows of one method by their set."""
    return {row["set"]: row for row in rows if row["method"] == name}


def _method(method: Method, summaries: Mapping[str, MethodSummary]) -> dict[str, Any]:
    summary = summaries.get(method.name)
    basis = summaries.get(BICUBIC)
    figures: dict[str, Estimate] = {} if summary is None else dict(summary.figures)
    for key, value in (("gmac", method.gmac), ("ms", method.ms)):
        if value is not None:
            figures[key] = Estimate(value=value)
    return {
        "name": method.name,
        "role": method.role,
        "group": method.group,
        "figures": {
            key: {
                **asdict(figure.interval()),
                "minus_bicubic": asdict(figure.minus(basis.figures[key]))
                if basis is not None and key in basis.figures and method.name != BICUBIC
                else None,
            }
            for key, figure in figures.items()
        },
        "recall_by_kind": {}
        if summary is None
        else {
            kind: {"recall": recall, "defects": count}
            for kind, (recall, count) in summary.recall_by_kind.items()
        },
    }
