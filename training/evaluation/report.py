"""Writes the report: `report.json` for machines, `index.html` for people, `pictures/` beside them.

The HTML is made from the same document as the JSON; it opens without a network.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.evaluation.bootstrap import Estimate
from training.evaluation.figures import BY_KEY, FIGURES, SECTIONS
from training.evaluation.methods import BICUBIC, Method
from training.evaluation.own_tiles import LIMIT, OwnReport
from training.evaluation.real_tiles import RealReport
from training.evaluation.seeds import SeedSpread
from training.evaluation.summary import MethodSummary
from training.evaluation.targets import Target
from training.whole_file import write_whole_text

FORMAT_VERSION = 1
KIND = "semsr-evaluation"
TEMPLATE = "report.html.j2"
MAX_NAMED = 20
OWN_COLUMNS = (
    ("tiles", "tiles", 0),
    ("consistency", "consistency", 3),
    ("consistency_worst", "worst", 3),
    ("residual_share", "residual > 1", 2),
    ("domain_share", "domain > 1", 2),
    ("domain_median", "domain, median", 2),
    ("spectrum_db", "spectrum / dB", 2),
    ("border_spectrum_db", "border / dB", 2),
    ("noise_ratio", "noise ratio", 3),
    ("grey_distance", "grey W1", 2),
    ("kernel_distance", "kernel distance", 4),
    ("border_kernel_distance", "border kernel", 4),
)
"""Figures of own tiles: key, title, digits."""


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
        benchmark: What was read, such as seed and number of tiles; None without a benchmark.
        detector: Threshold and description.
        methods: In the order of the tables.
        summaries: Method name to figures; empty without a benchmark.
        floors: Figure key to split-half floor.
        targets: Judged.
        seeds: Spreads over seeds.
        own: The fab's own tiles, where they were given.
        real: Real tiles, where they are at hand.
        pictures: In order.
        notes: What was left out, and why.
    """

    benchmark: dict[str, Any] | None
    detector: dict[str, Any] | None
    methods: Sequence[Method]
    summaries: Mapping[str, MethodSummary]
    floors: Mapping[str, float] = field(default_factory=dict)
    targets: Sequence[Target] = ()
    seeds: Sequence[SeedSpread] = ()
    own: OwnReport | None = None
    real: RealReport | None = None
    pictures: Sequence[PictureEntry] = ()
    notes: Sequence[str] = ()


def document(report: Report) -> dict[str, Any]:
    r"""Put a report into JSON-compatible values.

    What is not a finite number becomes null; bytes of file names that are not UTF-8 read `\xff`.
    """
    return _plain(
        {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "benchmark": report.benchmark,
            "detector": report.detector,
            "targets": [asdict(target) for target in report.targets],
            "methods": [_method(method, report.summaries) for method in report.methods],
            "floors": dict(report.floors),
            "seeds": [asdict(spread) for spread in report.seeds],
            "own": None if report.own is None else asdict(report.own),
            "real": None if report.real is None else asdict(report.real),
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
    environment.filters["figure"] = _shown
    html = environment.get_template(TEMPLATE).render(
        report=values,
        sections=SECTIONS,
        figures=FIGURES,
        by_key=BY_KEY,
        own_columns=OWN_COLUMNS,
        standing_out=[] if report.own is None else _plain(standing_out(report.own)),
    )
    path = folder / "index.html"
    write_whole_text(folder / "report.json", text + "\n")
    write_whole_text(path, html)
    return path


def rows(report: Report) -> list[dict[str, Any]]:
    """List one flat row a method, with plain keys, for `--json`."""
    values = document(report)
    own = {} if report.own is None else {row["method"]: row for row in values["own"]["figures"]}
    return [
        {
            "method": method["name"],
            "role": method["role"],
            **{key: item["value"] for key, item in method["figures"].items()},
            **({"own": own[method["name"]]} if method["name"] in own else {}),
        }
        for method in values["methods"]
    ]


def write_targets(targets: Sequence[Target], *, file: TextIO) -> None:
    """Write one line a target for people."""
    for target in targets:
        file.write(
            f"{target.status:<14}  {target.subject}: {target.name}"
            + (f": {target.measured} (required: {target.required})" if target.required else "")
            + "\n"
        )


def write_own(own: OwnReport, *, file: TextIO) -> None:
    """Write a table of the figures of own tiles for people, and the tiles that stand out."""
    rows = [["", *(title for _, title, _ in OWN_COLUMNS)]]
    for figures in own.figures:
        values = (getattr(figures, key) for key, _, _ in OWN_COLUMNS)
        digits = (count for _, _, count in OWN_COLUMNS)
        cells = [_shown(_plain(value), count) for value, count in zip(values, digits, strict=True)]
        rows.append([_plain(figures.method), *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        file.write("  ".join([first, *others]).rstrip() + "\n")
    suspicious = _plain(standing_out(own))
    if suspicious:
        file.write(f"answers beyond a limit of their bundle: {len(suspicious)}\n")
        for tile in suspicious[:MAX_NAMED]:
            file.write(
                f"  {tile['method']}: {tile['name']}: residual {_shown(tile['residual'], 2)}, "
                f"domain distance {_shown(tile['domain_distance'], 2)}\n"
            )
        if len(suspicious) > MAX_NAMED:
            file.write(f"  and {len(suspicious) - MAX_NAMED} more, see report.json\n")


def standing_out(own: OwnReport) -> list[dict[str, Any]]:
    """List the answers whose residual or domain distance is beyond the limit, the worst first."""
    found = [
        (max(tile.residual or 0.0, tile.domain_distance or 0.0), asdict(tile)) for tile in own.tiles
    ]
    beyond = [item for item in found if item[0] > LIMIT]
    return [tile for _, tile in sorted(beyond, key=lambda item: -item[0])]


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


def _shown(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
