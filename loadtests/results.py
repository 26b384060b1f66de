"""Writes a result as a table, as JSON, and into a page of the documentation.

The table goes between two comments of the page, `<!-- begin: NAME -->` and `<!-- end: NAME -->`.
Only the command that measures the result writes there.
"""

import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from loadtests.machine import machine_line
from semsr.whole_file import write_whole, write_whole_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: Key of the value in a row; a row without it has an empty cell.
        title: Head of the column.
        digits: Decimals of a number.
    """

    key: str
    title: str
    digits: int = 1


@dataclass(frozen=True)
class Result:
    """Result of one scenario.

    Attributes:
        name: Name of the scenario.
        machine: Description of the machine (`loadtests.machine`).
        settings: Options of the run.
        columns: Columns of the table.
        rows: Measured rows.
        notes: Sentences under the table.
    """

    name: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def as_json(self) -> str:
        """Return all of it as JSON."""
        kept = {
            "name": self.name,
            "format_version": 1,
            "machine": self.machine,
            "settings": self.settings,
            "rows": [_finite(row) for row in self.rows],
            "notes": list(self.notes),
        }
        return json.dumps(kept, indent=2, allow_nan=False) + "\n"

    def as_markdown(self) -> str:
        """Return the table, the machine it was measured on, and the notes."""
        settings = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        notes = [f"Measured {machine_line(self.machine)}. Run with: {settings}.", *self.notes]
        return "\n".join([markdown_table(self.columns, self.rows), "", "\n\n".join(notes)])


def markdown_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Write rows as a table of Markdown."""
    head = "| " + " | ".join(column.title for column in columns) + " |"
    lines = [head, "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row, column) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _finite(row: Row) -> Row:
    """Replace NaN and infinity, which JSON lacks, by None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def _cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.{column.digits}f}"
    return str(value)


def format_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Lay rows out for a terminal: numbers to the right, columns without a value left out."""
    shown = [column for column in columns if any(row.get(column.key) is not None for row in rows)]
    table = [[column.title for column in shown]]
    table += [[_cell(row, column) for column in shown] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    is_text = [any(isinstance(row.get(column.key), str) for row in rows) for column in shown]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, is_text, strict=True)
        ).rstrip()
        for line in table
    )


def write_into_page(page: Path, name: str, text: str) -> None:
    """Replace the text between the comments of `name`.

    Raises:
        ValueError: The page does not have both comments exactly once.
    """
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(re.escape(begin) + r"\n.*?" + re.escape(end), flags=re.DOTALL)
    old = page.read_text(encoding="utf-8")
    new, count = pattern.subn(lambda _: f"{begin}\n{text}\n{end}", old)
    if count != 1:
        raise ValueError(f"{page} has {count} places for {name}; expected one: {begin} … {end}")
    write_whole_text(page, new)


def publish(result: Result, page: Path, *, picture: str | None = None) -> None:
    """Write the table into a page, and the JSON next to it.

    Args:
        result: Result to publish.
        page: Page with a place of that name; the JSON goes into a folder named like the page.
        picture: Path of its picture, relative to the page; None without one.
    """
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    write_whole_text(folder / f"{result.name}.json", result.as_json())
    parts = [
        result.as_markdown(),
        f"All figures: [{result.name}.json]({folder.name}/{result.name}.json).",
    ]
    if picture is not None:
        parts.append(f"![{result.name}]({picture})")
    write_into_page(page, result.name, "\n\n".join(parts))


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a figure of matplotlib as a PNG, whole or not at all; makes the folder."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    # A chart has few colours, and a palette makes a third of the file.
    small = io.BytesIO()
    with Image.open(picture) as drawn:
        drawn.convert("RGB").quantize(64).save(small, "png", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, small.getbuffer())
