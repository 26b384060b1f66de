"""Report of two models: `models.json`, `models.md` and `index.html`, from one document."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.comparison.two_models.conclusion import conclude, recommend
from training.comparison.two_models.rows import MIN_TILES, Row
from training.comparison.two_models.speed import Speed
from training.comparison.two_models.tiles import TileDifference
from training.evaluation.report.tables import plain, shown
from training.ground.whole_file import write_whole_text

FORMAT_VERSION = 1
KIND = "semsr-model-comparison"
JSON_FILE = "models.json"
MARKDOWN_FILE = "models.md"
HTML_FILE = "index.html"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """One of the two models.

    Attributes:
        name: Name in the report.
        path: Folder of the bundle, or file of the checkpoint.
        sha256: Digest of the bundle's manifest, or of the checkpoint.
        size_bytes: Bytes of the folder or the file.
        gmac: Multiply-adds a tile in 1e9; None where unknown.
        engine: Engine and precision that ran it.
    """

    name: str
    path: str
    sha256: str
    size_bytes: int
    gmac: float | None
    engine: str


@dataclass(frozen=True, kw_only=True)
class DifferentTile:
    """One of the tiles that differ most, and its picture below the report's folder."""

    tile: TileDifference
    picture: str


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """Everything that was found.

    Attributes:
        models: The first and the second model.
        data: Folder and kind of the tiles: `own tiles` or `benchmark`, with their number.
        rows: Figures of both models.
        flags: Rates of their trust flags.
        speed: Speeds in this run.
        tiles: Differences of every tile.
        most_different: The tiles that differ most.
        notes: Sentences on what was left out and on how to read the intervals.
    """

    models: Sequence[ModelFacts]
    data: Mapping[str, Any]
    rows: Sequence[Row]
    flags: Sequence[Row]
    speed: Speed
    tiles: Sequence[TileDifference]
    most_different: Sequence[DifferentTile]
    notes: Sequence[str] = ()

    @property
    def conclusion(self) -> str:
        """The last line."""
        names = [model.name for model in self.models]
        return conclude(names, self.rows, self.speed, tiles=len(self.tiles))

    @property
    def is_worse(self) -> bool:
        """Whether the second model is worse in some figure."""
        return any(row.outcome == "worse" for row in self.rows)


def chance_note(rows: Sequence[Row]) -> str:
    """Return how many of the judged figures exclude zero by chance alone."""
    judged = sum(row.outcome != "not judged" for row in rows)
    return (
        f"{judged} figures are judged at 95 %: if the models were equal, about {0.05 * judged:.1f} "
        f"of the intervals would exclude zero by chance. Below {MIN_TILES} tiles none is judged."
    )


def document(comparison: ModelComparison) -> dict[str, Any]:
    """Convert a comparison to JSON-compatible values; non-finite numbers become null."""
    chosen = recommend(comparison.rows) if len(comparison.tiles) >= MIN_TILES else "none"
    return plain(
        {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "models": [asdict(model) for model in comparison.models],
            "data": dict(comparison.data),
            "conclusion": comparison.conclusion,
            "recommendation": chosen,
            "figures": [asdict(row) for row in comparison.rows],
            "flags": [asdict(row) for row in comparison.flags],
            "speed": asdict(comparison.speed),
            "tiles": [asdict(tile) for tile in comparison.tiles],
            "most_different": [
                {**asdict(item.tile), "picture": item.picture} for item in comparison.most_different
            ],
            "notes": [*comparison.notes, chance_note(comparison.rows)],
        }
    )


def write_model_comparison(comparison: ModelComparison, folder: Path) -> Path:
    """Write the three files to a folder, made where absent; returns the path of the HTML."""
    values = document(comparison)
    text = json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # In Markdown too, which understands the escapes: a name of a file may be mark-up.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = shown
    environment.filters["change"] = _change
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    for name, file in (("report.md.j2", MARKDOWN_FILE), ("report.html.j2", HTML_FILE)):
        write_whole_text(folder / file, environment.get_template(name).render(report=values))
    write_whole_text(folder / JSON_FILE, text + "\n")
    return folder / HTML_FILE


def _change(value: float | None) -> str:
    """Return a difference with its sign, in digits that show also a small one."""
    return "" if value is None else f"{value:+.2g}"


def text_table(comparison: ModelComparison) -> str:
    """Return the figures as text for a terminal."""
    names = [model.name for model in comparison.models]
    lines = [("figure", *names, "difference", "95 % interval", "outcome")]
    for row in (*comparison.rows, *comparison.flags):
        of = row.difference
        lines.append(
            (
                row.label + (f" / {row.unit}" if row.unit else ""),
                f"{row.first:.4g}",
                f"{row.second:.4g}",
                _change(of.value),
                "" if of.low != of.low else f"{_change(of.low)} to {_change(of.high)}",
                "" if row.outcome == "not judged" else row.outcome,
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in {0, 5} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
