"""Queries of the dashboards: the selection by variables, and the forms that panels share.

Queries may contain `$job` and `$instance`, which every dashboard defines as variables, `$model` and
`$tool` where the dashboard asks for them, and Grafana's own `$__rate_interval`.
"""

from dataclasses import dataclass

INTERVAL = "$__rate_interval"
"""Window of a rate that fits the zoom."""
WHO = 'job=~"$job", instance=~"$instance"'
"""Label matchers of the selected instances."""
MODEL = f'{WHO}, model=~"$model"'
"""Label matchers of the selected models on these instances."""
TOOL = f'{MODEL}, tool=~"$tool"'
"""Label matchers of images of the selected tools and models."""
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


def mean(metric: str, by: str = "", *, who: str = WHO) -> str:
    """Write the mean of a histogram's values."""
    return f"{total(f'{metric}_sum', by, who=who)} / {total(f'{metric}_count', by, who=who)}"


def series(
    label: str, metric: str, *, who: str = WHO, function: str = "rate", window: str = INTERVAL
) -> Query:
    """Query `total` by a label, which names the lines."""
    expr = total(metric, label, who=who, function=function, window=window)
    return Query(expr, f"{{{{{label}}}}}")
