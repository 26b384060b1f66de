"""*Image quality and drift*: quality flags of the answers, and the input, for process engineers.

All values are per image; see X-Quality in docs/http-api.md.
"""

from deploy.grafana import shadow
from deploy.grafana.panels import Panel, Row
from deploy.grafana.queries import MODEL, TOOL, WORK, Query, mean, total

_RECORDED = '{job=~"$job", model=~"$model", tool=~"$tool"}'
_PAIR = "{{model}} {{tool}}"
_NOT_JUDGED = "No traffic, or the bundle has no limits"


def _quantile(share: float, metric: str) -> str:
    rate = f"rate({metric}_bucket{{{TOOL}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (model, le) ({rate}))"


def _distribution(metric: str) -> Query:
    buckets = f"increase({metric}_bucket{{{TOOL}}}[$__rate_interval])"
    return Query(f"sum by (le) ({buckets})", "{{le}}")


def _recorded(metric: str) -> str:
    return f"job_model_tool:{metric}{_RECORDED}"


def _drift(metric: str) -> str:
    """Last hour less last week."""
    return f"{_recorded(f'{metric}:mean1h')} - {_recorded(f'{metric}:mean7d')}"


CONSISTENCY = Row(
    "Agreement of answers with their inputs",
    [
        Panel(
            "Mean consistency by model",
            [Query(mean("semsr_consistency", "model", who=TOOL), "{{model}}")],
            text="Local correlation of the downscaled answer with its input.",
            do="a step after a change of model means nothing by itself; without one, the input or "
            "the tool has changed.",
        ),
        Panel(
            "Mean consistency by tool, last hour",
            [Query(_recorded("semsr_consistency:mean1h"), _PAIR)],
            text="The same by the tool that made the image (X-Tool, KLARF, file names).",
            do="compare tools of the same layer: one that lies apart is out of focus, charged, or "
            "has another recipe.",
        ),
        Panel(
            "Change of consistency against the last week, by tool",
            [Query(_drift("semsr_consistency"), _PAIR)],
            text="Mean of the last hour less the mean of the last week.",
            do="below -0.05, see runbook SemsrConsistencyDrift.",
            can_fall_below_zero=True,
        ),
        Panel(
            "Worst consistency within an image",
            [
                Query(
                    _quantile(share, "semsr_consistency_worst"), f"{{{{model}}}} p{share * 100:g}"
                )
                for share in (0.5, 0.05)
            ],
            text="Minimum of the local correlation within an image.",
            do="values far below the usual range mean that structure was lost or invented: look at "
            "such images on the page at /.",
            width=12,
        ),
        Panel(
            "Worst consistency, distribution",
            [_distribution("semsr_consistency_worst")],
            text="Images by their worst local correlation.",
            do="a second band below the usual one is a group of images to look at.",
            kind="heatmap",
            width=12,
        ),
    ],
)

LIMITS = Row(
    "Trust flags",
    [
        Panel(
            "Suspect answers by tool, last hour",
            [Query(_recorded("semsr_residual:over_limit1h"), _PAIR)],
            text="Share of answers with a residual above the bundle's limit; at most 1 % of clean "
            "tiles exceed it.",
            do="above 5 %, see runbook SemsrSuspectAnswers.",
            empty=_NOT_JUDGED,
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Images out of domain by tool, last hour",
            [Query(_recorded("semsr_domain_distance:over_limit1h"), _PAIR)],
            text="Share of images farther from the training tiles than 95 % of these.",
            do="above 25 %, see runbook SemsrOutOfDomain.",
            empty=_NOT_JUDGED,
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Residual, distribution",
            [_distribution("semsr_residual")],
            text="Images by the score of their most suspicious spot; 1 is the bundle's limit.",
            do="if a band moves towards 1, compare answers with slow scans.",
            empty=_NOT_JUDGED,
            kind="heatmap",
            width=12,
        ),
        Panel(
            "Domain distance, distribution",
            [_distribution("semsr_domain_distance")],
            text="Images by their distance from the training tiles; 1 is the bundle's limit.",
            do="if a band moves towards 1, the tool, the layer, or the recipe changes.",
            empty=_NOT_JUDGED,
            kind="heatmap",
            width=12,
        ),
    ],
)

SATURATION = Row(
    "Clipping to black or white",
    [
        Panel(
            "Clipped share of an image by tool, last hour",
            [Query(_recorded("semsr_saturated_ratio:mean1h"), _PAIR)],
            text="Mean share of an image where the answer is clipped to black or white.",
            do="correct brightness and contrast of the tool, or the window (X-Window).",
            unit="percentunit",
        ),
        Panel(
            "Change of the clipped share against the last week, by tool",
            [Query(_drift("semsr_saturated_ratio"), _PAIR)],
            text="Mean of the last hour less the mean of the last week.",
            do="above 0.05, see runbook SemsrSaturationDrift.",
            unit="percentunit",
            can_fall_below_zero=True,
        ),
        Panel(
            "Clipped share of an image, distribution",
            [_distribution("semsr_saturated_ratio")],
            text="Images by the clipped share of their area.",
            do="a band at high shares is a recipe with wrong brightness.",
            unit="percentunit",
            kind="heatmap",
        ),
    ],
)

INPUT = Row(
    "Input",
    [
        Panel(
            "Images per hour by tool",
            [Query(_recorded("semsr_images:increase1h"), _PAIR)],
            text="Images answered in the last hour. `unknown`: no tool was stated; `other`: more "
            "tools than SEMSR_MAX_TOOLS.",
            do="if a tool is missing, check whether it runs and names itself (X-Tool).",
            stacked=True,
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
            text="400: unreadable; 413: too large; 415: unknown type; 422: wrong channels or size.",
            do="see runbook SemsrUnusableImages.",
            empty="No unusable images",
            unit="reqps",
        ),
        Panel(
            "Images withheld for non-finite values in 10 minutes",
            [
                Query(
                    total(
                        "semsr_non_finite_total",
                        "instance, model",
                        who=MODEL,
                        function="increase",
                        window="10m",
                    ),
                    "{{instance}} {{model}}",
                )
            ],
            text="Images for which the model returned NaN or infinity; their requests got 500.",
            do="see runbook SemsrNonFinite.",
            empty="No model is served",
        ),
        Panel(
            "Models",
            [Query(f"semsr_model_info{{{MODEL}}}")],
            text="Model, version, engine, and precision that each instance serves.",
            do="compare the time of a change with steps in the panels above.",
            empty="No model is served",
            kind="table",
            width=24,
        ),
    ],
)

ROWS = [CONSISTENCY, LIMITS, SATURATION, INPUT, shadow.ROW]
