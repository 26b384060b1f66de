"""Lot, wafer, die and tool that a scan would record: from the names of tiles, or a KLARF file."""

from dataclasses import dataclass, field
from typing import Any

from service.scans.klarf_source import KlarfSource
from service.scans.name_pattern import NamePattern
from service.scans.options import ScanRequest
from service.scans.sources import Listed, Source

FIELDS = ("lot", "wafer", "die", "tool")
_SHOWN = 5


@dataclass
class _Field:
    """The values of one field.

    Attributes:
        tiles: Number of tiles that have one.
        values: Different values, in the order of the tiles.
    """

    tiles: int = 0
    values: dict[str, None] = field(default_factory=dict[str, None])


class RecordedFacts:
    """The facts of the tiles of a listing; a sidecar next to a tile takes precedence over them."""

    def __init__(self, request: ScanRequest, source: Source) -> None:
        """Prepare for a listing.

        Args:
            request: Its name pattern is read.
            source: The source, where it is a KLARF file.
        """
        pattern = request.name_pattern
        self._names = None if pattern is None else NamePattern(pattern)
        self._klarf = source if isinstance(source, KlarfSource) else None
        self._fields = {name: _Field() for name in FIELDS}
        self._num_tiles = self._num_others = self._num_sidecars = 0
        self._first_other: str | None = None

    def add(self, listed: Listed) -> None:
        """Add a tile or a sidecar of the listing."""
        if listed.is_sidecar:
            self._num_sidecars += 1
        if not listed.is_tile or (self._names is None and self._klarf is None):
            return
        self._num_tiles += 1
        facts: dict[str, Any] = {}
        if self._names is not None:
            found = self._names.facts(listed.stem)
            if found is None:
                self._num_others += 1
                self._first_other = self._first_other or listed.name
            facts = found or {}
        if self._klarf is not None:
            facts = {**facts, **self._klarf.facts(listed.name)}
        for name, value in self._fields.items():
            if name in facts:
                value.tiles += 1
                value.values[str(facts[name])] = None

    def row(self) -> dict[str, Any] | None:
        """Return the facts for JSON; None without a pattern and without a KLARF file."""
        if self._names is None and self._klarf is None:
            return None
        return {
            **{
                name: {
                    "tiles": value.tiles,
                    "values": len(value.values),
                    "first": list(value.values)[:_SHOWN],
                }
                for name, value in self._fields.items()
            },
            "names_without_match": self._num_others,
            "first_without_match": self._first_other,
            "sidecars": self._num_sidecars,
        }


def recorded_lines(row: dict[str, Any]) -> list[str]:
    """Return `RecordedFacts.row` as lines of text."""
    lines: list[str] = []
    for name in FIELDS:
        facts = row[name]
        rest = facts["values"] - len(facts["first"])
        more = f"; and {rest} more" if rest else ""
        shown = f": {'; '.join(facts['first'])}{more}" if facts["tiles"] else ""
        lines.append(f"{name}: recorded for {facts['tiles']} tiles{shown}")
    if row["names_without_match"]:
        lines.append(
            f"names that do not match the pattern: {row['names_without_match']}, "
            f"such as {row['first_without_match']}"
        )
    if row["sidecars"]:
        lines.append(f"sidecars: {row['sidecars']}; their values take precedence")
    return lines
