"""Builder for dashboards: lays rows of panels out and writes Grafana's JSON.

It supports only the features that these dashboards use.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deploy.grafana.queries import WHO, Query

_COLUMNS = 24
# Series whose label's values a variable offers.
_VARIABLES = {
    "job": "semsr_engine_up",
    "instance": 'semsr_engine_up{job=~"$job"}',
    "model": 'semsr_model_info{job=~"$job"}',
    "tool": 'semsr_consistency_count{job=~"$job", model=~"$model"}',
}
_METRIC = re.compile(r"\b(?:[a-z_]+:)?semsr_\w+(?::\w+)?|\b(?:DCGM|process)_\w+|\bALERTS\b")
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA_VERSION = 39


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: Title of the panel.
        queries: Queries drawn in the panel.
        text: Sentence on the content; the names of the metrics are added to it.
        do: Instructions for the reader, for values out of the ordinary.
        unit: Grafana's name of the unit.
        kind: Type of visualisation.
        empty: Text in place of data where there is none.
        stacked: Whether lines are stacked.
        warn: Threshold from which a `stat` is orange.
        bad: Threshold from which a `stat` is red; below `warn` where low values are bad.
        width: Width in columns, of 24.
        can_fall_below_zero: Whether the axis of lines may begin below 0.
    """

    title: str
    queries: Sequence[Query]
    text: str
    do: str
    unit: str = "short"
    kind: Literal["timeseries", "stat", "heatmap", "table"] = "timeseries"
    empty: str = "No traffic"
    stacked: bool = False
    warn: float | None = None
    bad: float | None = None
    width: int = 8
    can_fall_below_zero: bool = False


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def make_dashboard(
    uid: str, title: str, rows: Sequence[Row], *, variables: Sequence[str] = ()
) -> dict[str, Any]:
    """Lay rows of panels out as one dashboard.

    Args:
        uid: Stable part of the dashboard's URL.
        title: Name of the dashboard.
        rows: Rows of panels from top to bottom.
        variables: Variables in addition to job and instance: keys of `_VARIABLES`.

    Returns:
        Grafana's JSON model.
    """
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        panels.append(_row(row.title, top))
        top += 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            height = 4 if panel.kind == "stat" else 8
            description = _description(panel, variables)
            panels.append(
                _panel(panel, description, {"x": left, "y": top, "w": panel.width, "h": height})
            )
            left, tallest = left + panel.width, max(tallest, height)
        top += tallest
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return {
        "uid": uid,
        "title": title,
        "tags": ["semsr"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                _datasource_variable(),
                *(_variable(label) for label in ("job", "instance", *variables)),
            ]
        },
        "annotations": {"list": [_model_changes()]},
        "links": [
            {"type": "dashboards", "tags": ["semsr"], "title": "semsr", "asDropdown": True,
             "keepTime": True, "includeVars": True}
        ],
        "panels": panels,
    }  # fmt: skip


def _row(title: str, top: int) -> dict[str, Any]:
    position = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
    return {"type": "row", "title": title, "collapsed": False, "gridPos": position, "panels": []}


def _description(panel: Panel, variables: Sequence[str]) -> str:
    """Write the description of a panel, in Markdown."""
    names: dict[str, None] = {}
    for query in panel.queries:
        text = re.sub(r'"[^"]*"', "", query.expr)
        names |= dict.fromkeys(f"`{name}`" for name in _METRIC.findall(text))
    parts = [panel.text, f"What to do: {panel.do}", f"Metrics: {', '.join(names)}."]
    used = " ".join(query.expr for query in panel.queries)
    unused = [name for name in variables if f"${name}" not in used]
    if unused:
        parts.append(f"Not filtered by {' and '.join(unused)}.")
    return "\n\n".join(parts)


def _panel(panel: Panel, description: str, position: dict[str, int]) -> dict[str, Any]:
    # Where no series exists, Grafana shows `noValue`; a mean or share of nothing is NaN.
    nothing = {"match": "null+nan", "result": {"text": panel.empty, "index": 0}}
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": _thresholds(panel),
        "noValue": panel.empty,
        "mappings": [{"type": "special", "options": nothing}],
    }
    if panel.kind == "timeseries":
        stacking = "normal" if panel.stacked else "none"
        fill = 40 if panel.stacked else 5
        if not panel.can_fall_below_zero:
            defaults["min"] = 0
        defaults["custom"] = {"fillOpacity": fill, "stacking": {"mode": stacking}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": description,
        "datasource": _DATASOURCE,
        "gridPos": position,
        "targets": [
            _target(panel, query, ref)
            for query, ref in zip(panel.queries, "ABCDEFGH", strict=False)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        **({"transformations": [_hide_time_and_value()]} if panel.kind == "table" else {}),
    }


def _target(panel: Panel, query: Query, ref: str) -> dict[str, Any]:
    is_instant = panel.kind in {"stat", "table"}
    form = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    return {
        "refId": ref,
        "datasource": _DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": form,
        "instant": is_instant,
        "range": not is_instant,
    }


def _options(panel: Panel) -> dict[str, Any]:
    match panel.kind:
        case "stat":
            return {
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "colorMode": "none" if panel.warn is None else "background",
                "graphMode": "none",
            }
        case "heatmap":
            return {
                "calculate": False,
                "yAxis": {"unit": panel.unit},
                "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
            }
        case "table":
            return {"showHeader": True}
        case "timeseries":
            return {
                "legend": {
                    "displayMode": "table",
                    "placement": "bottom",
                    "calcs": ["lastNotNull", "max"],
                },
                "tooltip": {"mode": "multi"},
            }


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.warn is not None and panel.bad is not None:
        if panel.warn <= panel.bad:
            steps += [
                {"color": "orange", "value": panel.warn},
                {"color": "red", "value": panel.bad},
            ]
        else:
            steps = [
                {"color": "red", "value": None},
                {"color": "orange", "value": panel.bad},
                {"color": "green", "value": panel.warn},
            ]
    return {"mode": "absolute", "steps": steps}


def _hide_time_and_value() -> dict[str, Any]:
    hidden = {"Time": True, "Value": True, "__name__": True}
    return {"id": "organize", "options": {"excludeByName": hidden}}


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "source"}


def _variable(label: str) -> dict[str, Any]:
    query = f"label_values({_VARIABLES[label]}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _model_changes() -> dict[str, Any]:
    return {
        "name": "model change",
        "datasource": _DATASOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": f"semsr_model_info{{{WHO}}} unless semsr_model_info{{{WHO}}} offset 2m",
        "titleFormat": "{{instance}}",
        "textFormat": "{{model}} {{version}} {{precision}} on {{engine}}",
    }
