"""Report of a shadow: figures by served version, and the tiles that differ most."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from bundle_format.bundle import FLAGS, NOT_JUDGED
from service.shadow.entry import FLAG_OUTCOMES, Entry

VERSION = 1
"""Version of the report's form."""

_RECENT = 1000
"""Tiles of each pair of versions that the quantiles are taken from."""

_MAX_PAIRS = 16
"""Pairs of versions that are kept; the oldest is dropped."""


@dataclass(eq=False)
class _Pair:
    """Figures of one served version against one version of the shadow."""

    compared: int = 0
    flags: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FLAG_OUTCOMES, 0))
    recent: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def add(self, entry: Entry) -> None:
        self.compared += 1
        self.flags[entry.flags] += 1
        self.recent.append(tuple(of(entry) for of in _FIGURES.values()))

    def describe(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "flags": dict(self.flags),
            "figures": {
                name: _quantiles(values)
                for name, values in zip(_FIGURES, zip(*self.recent, strict=True), strict=True)
            },
        }


class Report:
    """Figures since the start or the last reset; bounded, and used on the event loop."""

    def __init__(self, *, keep: int) -> None:
        """Begin empty.

        Args:
            keep: Number of the most different tiles to list.
        """
        self._keep = keep
        self._since = datetime.now(UTC)
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._worst: list[Entry] = []

    def ranks(self, entry: Entry) -> bool:
        """Whether an entry would be listed now; any thread may ask."""
        # Once: the event loop may reset or add meanwhile.
        worst = self._worst
        return len(worst) < self._keep or entry.rank > worst[-1].rank

    def add(self, entry: Entry, *, shadow_version: str) -> Sequence[Entry]:
        """Add a compared tile; returns the entries that are not, or no longer, listed.

        Args:
            entry: The tile.
            shadow_version: Version of the shadow's bundle.
        """
        key = entry.served_version, shadow_version
        if key not in self._pairs and len(self._pairs) == _MAX_PAIRS:
            del self._pairs[next(iter(self._pairs))]
        self._pairs.setdefault(key, _Pair()).add(entry)
        ranked = sorted([*self._worst, entry], key=lambda one: one.rank, reverse=True)
        self._worst = ranked[: self._keep]
        return ranked[self._keep :]

    def reset(self) -> Sequence[Entry]:
        """Begin again; returns the entries that were listed."""
        before = self._worst
        self._since, self._pairs, self._worst = datetime.now(UTC), {}, []
        return before

    def describe(self) -> dict[str, Any]:
        """Return the figures, as JSON holds them."""
        return {
            "since": self._since.isoformat(),
            "versions": [
                {"served_version": served, "shadow_version": shadow, **pair.describe()}
                for (served, shadow), pair in self._pairs.items()
            ],
            "most_different": [_describe(entry) for entry in self._worst],
        }


_FIGURES: dict[str, Callable[[Entry], float]] = {
    "grey_difference": lambda entry: entry.differences.grey,
    "grey_shift": lambda entry: entry.differences.shift,
    "pixels_above": lambda entry: entry.differences.above,
    "edge_difference": lambda entry: entry.differences.edges,
    "served_ms": lambda entry: 1e3 * entry.served_s,
    "shadow_ms": lambda entry: 1e3 * entry.shadow_s,
}


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "mean": round(fmean(ordered), 6),
        "median": round(ordered[last // 2], 6),
        "p95": round(ordered[round(0.95 * last)], 6),
        "max": round(ordered[last], 6),
    }


def _describe(entry: Entry) -> dict[str, Any]:
    return {
        "time": entry.time.isoformat(),
        "request_id": entry.request_id,
        "sha256": entry.sha256,
        "served_version": entry.served_version,
        **{name: round(of(entry), 6) for name, of in _FIGURES.items()},
        "flags": entry.flags,
        "served_flags": _named(entry.served_flags),
        "shadow_flags": _named(entry.shadow_flags),
        "pictures": entry.pictures,
    }


def _named(flags: Sequence[float]) -> dict[str, float | None]:
    return {
        name: round(value, 6) if value != NOT_JUDGED and math.isfinite(value) else None
        for name, value in zip(FLAGS, flags, strict=True)
    }
