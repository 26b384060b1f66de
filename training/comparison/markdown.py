"""Tables of a comparison as Markdown, from its JSON document: both hold the same numbers."""

from collections.abc import Iterable, Sequence
from typing import Any

from training.evaluation.figures import BY_KEY

FIGURES = (
    "recall_planted",
    "recall_unseen",
    "alarms_per_tile",
    "froc_area",
    "spectrum_db",
    "contrast_ratio",
    "correlation_min",
    "edge_placement_px",
)
"""Figures of the main table."""

WITH_INTERVAL = frozenset({"recall_planted", "recall_unseen", "alarms_per_tile"})
LABELS = {
    "correlation_min": "worst local correlation",
    "border_spectrum_db": "spectrum distance, outer 16 px",
}
"""Titles of figures whose own ones continue the title before."""

NONE = "–"


def markdown(document: dict[str, Any]) -> str:
    """Write the tables of a comparison.

    Args:
        document: JSON-compatible document of `report.document`.
    """
    parts = ["## Systems", _systems(document), "## Figures", _figures(document)]
    if document["verdicts"]:
        parts += [
            f"## {document['rows_judged'][0]} against the others",
            "Advantage of the first system with its 95 % interval: bold where the interval "
            "excludes zero; in brackets where a short training stands in the way: it does not "
            "count as beaten.",
            _verdicts(document),
        ]
    if document["expectations"]:
        parts += ["## The thesis's verdicts", _expectations(document)]
    if document["seeds"]:
        parts += ["## Spread over trainings", _spreads(document)]
    for title, key in (("## Failed", "failed"), ("## Not judged", "left_out")):
        if document[key]:
            parts += [title, "\n".join(f"- {name}: {why}" for name, why in document[key].items())]
    return "\n\n".join(parts) + "\n"


def plan_table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the plan of a comparison, one line a system; rows of `report.plan_rows`."""
    return _table(
        ("system", "s a step", "steps", "minutes", "of steps", "whole minutes", "share"),
        [
            (
                row["system"],
                _fixed(row["step_s"], 3),
                str(row["steps"]),
                _fixed(row["minutes"], 1),
                str(row["whole_steps"]),
                _fixed(row["whole_minutes"], 0),
                f"{100 * row['share']:.1f} %",
            )
            for row in rows
        ],
    )


def figures_table(document: dict[str, Any]) -> str:
    """Write the main table."""
    return _figures(document)


def _systems(document: dict[str, Any]) -> str:
    rows = []
    for of in document["systems"]:
        plan = of["plan"]
        training = of["summary"] or NONE
        share = steps = NONE
        if plan is not None:
            share = f"{100 * plan['share']:.1f} %"
            steps = f"{plan['steps']} of {plan['whole_steps']}"
            training = f"{plan['batch_size']} × {plan['crop_px']} px"
            if plan["step_s"] is not None:
                training += f", {plan['step_s']:.2f} s a step"
            if plan["overrides"]:
                training += "; " + ", ".join(plan["overrides"])
        name = of["name"] + (" (short)" if of["is_short"] else "")
        served = "no: " + of["offline"] if of["offline"] else "yes"
        is_unknown = of["kind"] == "pictures" or (of["kind"] == "recipe" and plan is None)
        if is_unknown and not of["offline"]:
            served = NONE
        rows.append((name, of["trained_on"] or NONE, share, steps, training, served))
    return _table(("system", "trained on", "share", "steps", "training", "can be served"), rows)


def _figures(document: dict[str, Any]) -> str:
    short = {of["name"] for of in document["systems"] if of["is_short"]}
    rows = []
    for row in document["rows"]:
        cells = [row["name"] + (" (short)" if row["system"] in short else "")]
        for key in FIGURES:
            figure = row["figures"].get(key)
            cells.append(NONE if figure is None else _figure(key, figure))
        is_judged = row["name"] in document["rows_judged"]
        cells.append(str(len(row["missed"])) if is_judged else NONE)
        cells += [NONE if row[key] is None else f"{row[key]:.1f}" for key in ("gmac", "ms")]
        rows.append(cells)
    labels = [_label(key) for key in FIGURES]
    return _table(("system", *labels, "targets missed", "GMAC", "ms"), rows)


def _verdicts(document: dict[str, Any]) -> str:
    keys = list(dict.fromkeys(verdict["key"] for verdict in document["verdicts"]))
    by_system: dict[str, dict[str, str]] = {}
    for verdict in document["verdicts"]:
        cell = _difference(verdict["key"], verdict["advantage"])
        if verdict["outcome"] in {"better", "worse"}:
            cell = f"**{cell}**"
        elif verdict["outcome"] == "not judged":
            cell = f"({cell})"
        by_system.setdefault(verdict["system"], {})[verdict["key"]] = cell
    return _table(
        ("against", *(_label(key) for key in keys)),
        [(name, *(cells.get(key, NONE) for key in keys)) for name, cells in by_system.items()],
    )


def _expectations(document: dict[str, Any]) -> str:
    return _table(
        ("system", "thesis", "claim", "figures", "advantage", "outcome"),
        [
            (
                item["system"],
                item["thesis"],
                item["claim"],
                ", ".join(_number(item["figure"], item[of]) for of in ("value", "other")),
                _difference(item["figure"], item["difference"]),
                item["status"] + (" (short)" if item["is_short"] else ""),
            )
            for item in document["expectations"]
        ],
    )


def _spreads(document: dict[str, Any]) -> str:
    return _table(
        ("system", "figure", "trainings", "spread"),
        [
            (
                item["group"],
                _label(item["key"]),
                ", ".join(_number(item["key"], value) for value in item["values"]),
                _number(item["key"], item["spread"]),
            )
            for item in document["seeds"]
            if item["key"] in FIGURES
        ],
    )


def _figure(key: str, figure: Sequence[float | None]) -> str:
    value, low, high = figure
    text = _number(key, value)
    if key in WITH_INTERVAL and low is not None and high is not None:
        text += f" [{_number(key, low)}, {_number(key, high)}]"
    return text


def _difference(key: str, interval: dict[str, float | None]) -> str:
    value, low, high = (interval[part] for part in ("value", "low", "high"))
    text = _number(key, value, sign="+")
    if low is None or high is None:
        return text
    return f"{text} [{_number(key, low, sign='+')}, {_number(key, high, sign='+')}]"


def _number(key: str, value: float | None, *, sign: str = "") -> str:
    return NONE if value is None else f"{value:{sign}.{BY_KEY[key].digits}f}"


def _fixed(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _label(key: str) -> str:
    of = BY_KEY[key]
    label = LABELS.get(key, of.label)
    return f"{label} / {of.unit}" if of.unit else label


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in lines
    )
