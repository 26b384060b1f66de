"""The bench's rows as a table for people."""

from collections.abc import Sequence
from typing import Any


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Lay rows out: figures that a row does not have stay empty, ratios name their yardstick."""
    head = f"{'':<38} {'tiles/s':>9} {'p50 ms':>8} {'p99 ms':>8}"
    lines = [head]
    for row in rows:
        figures = " ".join(
            f"{row[key]:>{width}.{digits}f}" if key in row else " " * width
            for key, width, digits in (("tiles_per_s", 9, 1), ("p50_ms", 8, 1), ("p99_ms", 8, 1))
        )
        lines.append(f"{row['name']:<38} {figures}  {_note(row)}".rstrip())
    return "\n".join(lines)


def _note(row: dict[str, Any]) -> str:
    notes = []
    if "engine" in row:
        notes.append(str(row["engine"]))
    if "ratio" in row:
        notes.append(f"{_percent(row)} of: {row['yardstick']}")
    if "codec_core_ms" in row:
        codec_ms, engine_ms = row["codec_core_ms"], row["engine_core_ms"]
        notes.append(f"{codec_ms:.1f} + {engine_ms:.1f} ms of a core a tile")
    if "added_ms" in row:
        notes.append(f"engine {row['engine_tile_ms']:.1f} ms a tile, {_added(row)}")
    if "mib" in row:
        notes.append(f"{row['mib']:.0f} MiB at most")
    if "growth_mib" in row:
        notes.append(f"{row['growth_mib']:+.0f} MiB from tile 1,000 on")
    if "core_ms" in row:
        stages = ", ".join(f"{name} {ms:.2f}" for name, ms in row["core_ms"].items())
        notes.append(f"core ms a tile: {stages}")
    if row.get("errors"):
        notes.append(f"{row['errors']} ERRORS")
    return "; ".join(notes)


def _added(row: dict[str, Any]) -> str:
    """What the service adds to the engine, where it is more than the spread of its turns."""
    low, high = row["added_low_ms"], row["added_high_ms"]
    if row["is_noise"]:
        return f"overhead within noise (quartiles {low:+.1f} to {high:+.1f} ms)"
    return f"overhead {row['added_ms']:+.1f} ms ({low:+.1f} to {high:+.1f})"


def _percent(row: dict[str, Any]) -> str:
    """A ratio, and the quartiles of its turns where it has them."""
    text = f"{100 * row['ratio']:.0f} %"
    if "ratio_low" not in row:
        return text
    return f"{text} ({100 * row['ratio_low']:.0f} to {100 * row['ratio_high']:.0f})"
