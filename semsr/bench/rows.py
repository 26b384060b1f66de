"""Turns to rows: a load's figures, and a ratio with what its turns say of how sure it is."""

import statistics
from collections.abc import Sequence
from typing import Any

from semsr.bench.load import LoadResult

Row = dict[str, Any]

# A 99th percentile of fewer answers would be their maximum under another name.
_ENOUGH_FOR_P99 = 100


def load_row(name: str, turns: Sequence[LoadResult], engine: str | None = None) -> Row:
    """Rate as the median of the turns, latencies over all of them, errors summed."""
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


def ratio_row(pairs: Sequence[tuple[float, float]], yardstick: str) -> Row:
    """The ratio of what took turns.

    Args:
        pairs: Tiles a second of a turn and of the yardstick beside it, two pairs at least.
        yardstick: Its name.

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
        "yardstick": yardstick,
    }


def added_row(pairs: Sequence[tuple[float, float]]) -> Row:
    """The time that ours takes longer than what took turns with it.

    Args:
        pairs: Milliseconds of a turn of ours and of the baseline's beside it, two pairs at least.

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
    """What rows call a mode of the service."""
    return "service" if mode == "single" else f"service, {mode}"
