"""Last line of a comparison: what changed, and a recommendation where the intervals allow one."""

from collections.abc import Sequence
from typing import Literal

from training.comparison.two_models.rows import MIN_TILES, Outcome, Row
from training.comparison.two_models.speed import Speed

Recommendation = Literal["first", "second", "none"]


def labels(rows: Sequence[Row], outcome: Outcome) -> list[str]:
    """Return the labels of the figures with an outcome."""
    return [row.label for row in rows if row.outcome == outcome]


def recommend(rows: Sequence[Row]) -> Recommendation:
    """Recommend the model that is better in some figure and worse in none."""
    better, worse = labels(rows, "better"), labels(rows, "worse")
    if better and not worse:
        return "second"
    return "first" if worse and not better else "none"


def conclude(names: Sequence[str], rows: Sequence[Row], speed: Speed, *, tiles: int) -> str:
    """Return the last line.

    Args:
        names: Names of the first and the second model.
        rows: Figures of both.
        speed: Their speeds.
        tiles: Number of tiles.
    """
    first, second = names
    better, worse = labels(rows, "better"), labels(rows, "worse")
    undecided = len(labels(rows, "undecided"))
    changed = (
        f"{second} against {first} on {tiles} tiles: better in {_counted(better)}, worse in "
        f"{_counted(worse)}, undecided in {undecided}; {_speed(second, speed)}."
    )
    return f"{changed} {_advice(first, second, rows, tiles=tiles)}"


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} ({'; '.join(names)})" if names else "0"


def _speed(second: str, speed: Speed) -> str:
    ratio = speed.ratio
    text = f"{ratio.value:.2f} times as fast ({ratio.low:.2f} to {ratio.high:.2f})"
    return text if ratio.low > 1 or ratio.high < 1 else f"{second}'s speed is not different: {text}"


def _advice(first: str, second: str, rows: Sequence[Row], *, tiles: int) -> str:
    if tiles < MIN_TILES:
        return f"No recommendation: {tiles} tiles are too few, expected at least {MIN_TILES}."
    chosen = recommend(rows)
    if chosen == "second":
        return f"Recommendation: {second}."
    if chosen == "first":
        return f"Recommendation: keep {first}."
    if labels(rows, "better"):
        return "No recommendation: each model is better in some figures."
    return "No recommendation: no interval excludes zero."
