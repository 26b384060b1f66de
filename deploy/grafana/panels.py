"""Builder for dashboards: lays rows of panels out and writes Grafana's JSON.

It supports only the features that these dashboards use. Queries may contain `$job` and `$instance`,
which every dashboard defines as variables, and Grafana's own `$__rate_interval`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA_VERSION = 39
INTERVAL = "$__rate_interval"
"""Window of a rate that fits the zoom."""
WHO = 'job=~"$job", instance=~"$instance"'
"""Label matchers of the selected instances."""
WORK = f'{WHO}, route=~"/superresolve|/v2/models/infer"'
"""Label matchers of requests with images, without probes and scrapes."""


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL.
        legend: Name of the lines; `{{label}}` stands for a label's value.
    """

    expr: str
    legend: str = ""


def total(
    metric: str, by: str = "", *, who: str = WHO, function: str = "rate", window: str = INTERVAL
) -> str:
    """Write the rate or increase of a counter, summed over all labels but `by`."""
    group = f"sum by ({by}) " if by else "sum"
    return f"{group}({function}({metric}{{{who}}}[{window}]))"


def mean(metric: str, by: str = "") -> str:
    """Write the mean of a histogram's values."""
    return f"{total(f'{metric}_sum', by)} / {total(f'{metric}_count', by)}"


def series(
    label: str, metric: str, *, who: str = WHO, function: str = "rate", window: str = INTERVAL
) -> Query:
    """Query `total` by a label, which names the lines."""
    expr = total(metric, label, who=who, function=function, window=window)
    return Query(expr, f"{{{{{label}}}}}")


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: Title of the panel.
        queries: Queries drawn in the panel.
        unit: Grafana's name of the unit.
        kind: Type of visualisation.
        text: Description, shown in the panel's corner.
        stacked: Whether lines are stacked.
        warn: Threshold from which a `stat` is orange.
        bad: Threshold from which a `stat` is red; below `warn` where low values are bad.
        width: Width in columns, of 24.
    """

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "heatmap", "table"] = "timeseries"
    text: str = ""
    stacked: bool = False
    warn: float | None = None
    bad: float | None = None
    width: int = 8


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def make_dashboard(uid: str, title: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Lay rows of panels out as one dashboard.

    Args:
        uid: Stable part of the dashboard's URL.
        title: Name of the dashboard.
        rows: Rows of panels from top to bottom.

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
            panels.append(_panel(panel, {"x": left, "y": top, "w": panel.width, "h": height}))
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
        "templating": {"list": [_datasource_variable(), _variable("job"), _variable("instance")]},
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


def _panel(panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    if panel.kind == "timeseries":
        stacking = "normal" if panel.stacked else "none"
        fill = 40 if panel.stacked else 5
        defaults["min"] = 0
        defaults["custom"] = {"fillOpacity": fill, "stacking": {"mode": stacking}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
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
    matcher = '{job=~"$job"}' if label == "instance" else ""
    query = f"label_values(semsr_engine_up{matcher}, {label})"
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
