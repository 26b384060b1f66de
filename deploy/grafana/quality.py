"""*Image quality and drift*: what the model says of its own answers, and what comes in.

For process engineers. Figures are by image; see X-Quality in docs/http-api.md.
"""

from deploy.grafana.panels import WHO, WORK, Panel, Query, Row


def _mean(metric: str) -> str:
    total, count = (
        f"sum(rate({metric}_{part}{{{WHO}}}[$__rate_interval]))" for part in ("sum", "count")
    )
    return f"{total} / {count}"


def _quantile(share: float, metric: str) -> str:
    rate = f"rate({metric}_bucket{{{WHO}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (le) ({rate}))"


def _distribution(metric: str) -> Query:
    buckets = f"increase({metric}_bucket{{{WHO}}}[$__rate_interval])"
    return Query(f"sum by (le) ({buckets})", "{{le}}")


CONSISTENCY = Row(
    "Does the answer agree with its input?",
    [
        Panel(
            "Mean consistency",
            [
                Query(_mean("semsr_consistency"), "now"),
                Query('job:semsr_consistency:mean1h{job=~"$job"}', "last hour"),
                Query('job:semsr_consistency:mean7d{job=~"$job"}', "last week"),
            ],
            text="Local correlation of the answer, seen coarsely, with the input. A step after a "
            "change of model means nothing by itself; without one, the input or the tool changed.",
        ),
        Panel(
            "Worst place of an image",
            [
                Query(_quantile(share, "semsr_consistency_worst"), f"p{share * 100:g}")
                for share in (0.5, 0.05)
            ],
            text="Far below what is usual: structure was lost or invented.",
        ),
        Panel(
            "Images by their worst place",
            [_distribution("semsr_consistency_worst")],
            kind="heatmap",
        ),
    ],
)

LIMITS = Row(
    "Is anything lost, invented or strange?",
    [
        Panel(
            "Images beyond a limit, last hour",
            [
                Query('job:semsr_residual:over_limit1h{job=~"$job"}', "not explained"),
                Query('job:semsr_domain_distance:over_limit1h{job=~"$job"}', "far from training"),
            ],
            unit="percentunit",
            text="By the bundle's limits: of clean tiles 1 % is beyond the first, of the "
            "training's 5 % beyond the second.",
        ),
        Panel(
            "Images by what is not explained",
            [_distribution("semsr_residual")],
            kind="heatmap",
        ),
        Panel(
            "Images by distance from the training",
            [_distribution("semsr_domain_distance")],
            kind="heatmap",
        ),
    ],
)

SATURATION = Row(
    "Is it cut off at black or white?",
    [
        Panel(
            "Mean share cut off",
            [
                Query(_mean("semsr_saturated_ratio"), "now"),
                Query('job:semsr_saturated_ratio:mean1h{job=~"$job"}', "last hour"),
                Query('job:semsr_saturated_ratio:mean7d{job=~"$job"}', "last week"),
            ],
            unit="percentunit",
        ),
        Panel(
            "Images by share cut off",
            [_distribution("semsr_saturated_ratio")],
            unit="percentunit",
            kind="heatmap",
        ),
        Panel(
            "Images withheld: values that are no numbers, in 10 minutes",
            [Query(f"increase(semsr_non_finite_total{{{WHO}}}[10m])", "{{instance}}")],
        ),
    ],
)

INPUT = Row(
    "What comes in",
    [
        Panel(
            "Images an hour",
            [Query('job:semsr_images:increase1h{job=~"$job"}', "{{job}}")],
        ),
        Panel(
            "Requests that bring nothing usable, by code",
            [
                Query(
                    f'sum by (code) (rate(semsr_requests_total{{{WORK}, code=~"400|413|415|422"}}'
                    "[$__rate_interval]))",
                    "{{code}}",
                )
            ],
            unit="reqps",
            text="400 not readable, 413 too large, 415 unknown type, 422 wrong channels or size.",
        ),
        Panel("Models", [Query(f"semsr_model_info{{{WHO}}}")], kind="table"),
    ],
)

ROWS = [CONSISTENCY, LIMITS, SATURATION, INPUT]
