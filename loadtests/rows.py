"""Makes rows from turns: the figures of a load, and ratios with their quartiles over the turns."""

import statistics
from collections.abc import Sequence

from loadtests.closed_loop import LoadResult
from loadtests.results import Column, Row, format_table

_COLUMNS = [
    Column("name", ""),
    Column("tiles_per_s", "tiles/s"),
    Column("p50_ms", "p50 ms"),
    Column("p99_ms", "p99 ms"),
    Column("note", ""),
]

# A 99th percentile of fewer answers would be their maximum under another name.
_ENOUGH_FOR_P99 = 100


def load_row(name: str, turns: Sequence[LoadResult], engine: str | None = None) -> Row:
    """Return the median rate of the turns, the latencies over all of them, and all errors."""
    every = LoadResult(
        requests=sum(turn.requests for turn in turns),
        errors=sum(turn.errors for turn in turns),
        seconds=sum(turn.seconds for turn in turns),
        latencies_ms=sorted(ms for turn in turns for ms in turn.latencies_ms),
    )
    row = {
        "name": name,
        **({} if engine is None else {"engine": engine}),
        "tiles_per_s": statistics.median(turn.per_second for turn in turns),
        "errors": every.errors,
        "p50_ms": every.percentile_ms(0.5),
    }
    if len(every.latencies_ms) >= _ENOUGH_FOR_P99:
        row["p99_ms"] = every.percentile_ms(0.99)
    return row


def ratio_row(pairs: Sequence[tuple[float, float]], baseline: str) -> Row:
    """Return the ratio of two cases that took turns.

    Args:
        pairs: Tiles a second of a turn and of the baseline next to it, at least two pairs.
        baseline: Name of the baseline.

    Returns:
        `ratio`, the median of the pairs' ratios, with their quartiles `ratio_low` and `ratio_high`
        and their number `turns`.
    """
    low, middle, high = statistics.quantiles([ours / theirs for ours, theirs in pairs], n=4)
    return {
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "turns": len(pairs),
        "yardstick": baseline,
    }


def added_row(pairs: Sequence[tuple[float, float]]) -> Row:
    """Return the time that a case takes longer than the baseline that took turns with it.

    Args:
        pairs: Milliseconds of a turn and of the baseline next to it, at least two pairs.

    Returns:
        `added_ms`, the median of the pairs' differences, with their quartiles `added_low_ms` and
        `added_high_ms`; `is_noise` where the median is smaller than the distance between them.
    """
    low, middle, high = statistics.quantiles([ours - theirs for ours, theirs in pairs], n=4)
    return {
        "added_ms": middle,
        "added_low_ms": low,
        "added_high_ms": high,
        "is_noise": abs(middle) <= high - low,
    }


def mode_name(mode: str) -> str:
    """Return the name of a mode of the service in rows."""
    return "service" if mode == "single" else f"service, {mode}"


def format_rows(rows: Sequence[Row]) -> str:
    """Lay rows out for a terminal; ratios name their baseline."""
    return format_table(_COLUMNS, [{**row, "note": _note(row)} for row in rows])


def _note(row: Row) -> str:
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


def _added(row: Row) -> str:
    """Describe the time that the service adds, where it exceeds the spread of its turns."""
    low, high = row["added_low_ms"], row["added_high_ms"]
    if row["is_noise"]:
        return f"overhead within noise (quartiles {low:+.1f} to {high:+.1f} ms)"
    return f"overhead {row['added_ms']:+.1f} ms ({low:+.1f} to {high:+.1f})"


def _percent(row: Row) -> str:
    """Describe a ratio, with the quartiles of its turns where it has them."""
    text = f"{100 * row['ratio']:.0f} %"
    if "ratio_low" not in row:
        return text
    return f"{text} ({100 * row['ratio_low']:.0f} to {100 * row['ratio_high']:.0f})"
