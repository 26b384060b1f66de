"""*Image quality and drift*: quality flags of the answers, and the input, for process engineers.

All values are per image; see X-Quality in docs/http-api.md.
"""

from deploy.grafana.panels import WHO, WORK, Panel, Query, Row, mean


def _quantile(share: float, metric: str) -> str:
    rate = f"rate({metric}_bucket{{{WHO}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (le) ({rate}))"


def _distribution(metric: str) -> Query:
    buckets = f"increase({metric}_bucket{{{WHO}}}[$__rate_interval])"
    return Query(f"sum by (le) ({buckets})", "{{le}}")


CONSISTENCY = Row(
    "Agreement of answers with their inputs",
    [
        Panel(
            "Mean consistency",
            [
                Query(mean("semsr_consistency"), "now"),
                Query('job:semsr_consistency:mean1h{job=~"$job"}', "last hour"),
                Query('job:semsr_consistency:mean7d{job=~"$job"}', "last week"),
            ],
            text="Local correlation of the downscaled answer with its input. A step after a change "
            "of model means nothing by itself; without one, the input or the tool has changed.",
        ),
        Panel(
            "Worst consistency within an image",
            [
                Query(_quantile(share, "semsr_consistency_worst"), f"p{share * 100:g}")
                for share in (0.5, 0.05)
            ],
            text="Values far below the usual range mean that structure was lost or invented.",
        ),
        Panel(
            "Worst consistency, distribution",
            [_distribution("semsr_consistency_worst")],
            kind="heatmap",
        ),
    ],
)

LIMITS = Row(
    "Trust flags",
    [
        Panel(
            "Suspect answers and images out of domain, last hour",
            [
                Query('job:semsr_residual:over_limit1h{job=~"$job"}', "suspect"),
                Query('job:semsr_domain_distance:over_limit1h{job=~"$job"}', "out of domain"),
            ],
            unit="percentunit",
            text="Shares above the bundle's limits. At most 1 % of clean tiles exceed the first, "
            "5 % of the training tiles the second.",
        ),
        Panel(
            "Residual, distribution",
            [_distribution("semsr_residual")],
            kind="heatmap",
        ),
        Panel(
            "Domain distance, distribution",
            [_distribution("semsr_domain_distance")],
            kind="heatmap",
        ),
    ],
)

SATURATION = Row(
    "Clipping to black or white",
    [
        Panel(
            "Clipped share of an image, mean",
            [
                Query(mean("semsr_saturated_ratio"), "now"),
                Query('job:semsr_saturated_ratio:mean1h{job=~"$job"}', "last hour"),
                Query('job:semsr_saturated_ratio:mean7d{job=~"$job"}', "last week"),
            ],
            unit="percentunit",
        ),
        Panel(
            "Clipped share of an image, distribution",
            [_distribution("semsr_saturated_ratio")],
            unit="percentunit",
            kind="heatmap",
        ),
        Panel(
            "Images withheld for non-finite values in 10 minutes",
            [Query(f"increase(semsr_non_finite_total{{{WHO}}}[10m])", "{{instance}}")],
        ),
    ],
)

INPUT = Row(
    "Input",
    [
        Panel(
            "Images per hour",
            [Query('job:semsr_images:increase1h{job=~"$job"}', "{{job}}")],
        ),
        Panel(
            "Requests with unusable images by status code",
            [
                Query(
                    f'sum by (code) (rate(semsr_requests_total{{{WORK}, code=~"400|413|415|422"}}'
                    "[$__rate_interval]))",
                    "{{code}}",
                )
            ],
            unit="reqps",
            text="400: unreadable; 413: too large; 415: unknown type; 422: wrong channels or size.",
        ),
        Panel("Models", [Query(f"semsr_model_info{{{WHO}}}")], kind="table"),
    ],
)

ROWS = [CONSISTENCY, LIMITS, SATURATION, INPUT]
