"""*Line overview*: throughput, latency, errors, and saturation, for operators on shift."""

from deploy.grafana.panels import WHO, WORK, Panel, Query, Row, mean, series, total

_DURATION = f"rate(semsr_request_duration_seconds_bucket{{{WORK}}}[$__rate_interval])"
_REQUESTS = total("semsr_requests_total", who=WORK)


def _share(code: str) -> str:
    """Share of requests answered with a status code; 0 without such answers."""
    some = f'sum(rate(semsr_requests_total{{{WORK}, code="{code}"}}[$__rate_interval]))'
    return f"({some} or vector(0)) / {_REQUESTS}"


def _quantile(share: float, priority: str = "") -> str:
    selected = _DURATION
    if priority:
        selected = selected.replace(WORK, f'{WORK}, priority="{priority}"')
    return f"histogram_quantile({share}, sum by (le) ({selected}))"


def _quantiles(priority: str) -> list[Query]:
    return [Query(_quantile(share, priority), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]


NOW = Row(
    "Now",
    [
        Panel(
            "Tiles per second",
            [Query(total("semsr_tiles_total"))],
            kind="stat",
            width=4,
        ),
        Panel(
            "Online latency, p99", [Query(_quantile(0.99, "online"))], unit="s", kind="stat",
            width=4,
        ),
        Panel(
            "Rejected", [Query(_share("503"))], unit="percentunit", kind="stat",
            warn=0.01, bad=0.05, width=4,
        ),
        Panel(
            "Errors", [Query(_share("500"))], unit="percentunit", kind="stat",
            warn=0.001, bad=0.01, width=4,
        ),
        Panel(
            "Fullest instance",
            [Query(f"max(instance:semsr_places:ratio{{{WHO}}})")],
            unit="percentunit", kind="stat", warn=0.6, bad=0.8, width=4,
            text="Share of the places (SEMSR_MAX_QUEUE) in use. A full instance rejects requests.",
        ),
        Panel(
            "Firing alerts",
            [Query('count(ALERTS{alertname=~"Semsr.*", alertstate="firing"}) or vector(0)')],
            kind="stat", warn=1, bad=2, width=4,
            text="Each alert has a runbook of the same name in docs/runbooks.",
        ),
    ],
)  # fmt: skip

THROUGHPUT = Row(
    "Throughput",
    [
        Panel(
            "Tiles per second by priority",
            [series("priority", "semsr_tiles_total")],
            stacked=True,
        ),
        Panel(
            "Requests per second by priority",
            [series("priority", "semsr_requests_total", who=WORK)],
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Answers per second by status code",
            [series("code", "semsr_requests_total", who=WORK)],
            unit="reqps",
            stacked=True,
            text="499: the client disconnected before its answer.",
        ),
    ],
)

LATENCY = Row(
    "Latency",
    [
        Panel("Online request duration", _quantiles("online"), unit="s"),
        Panel("Nightly request duration", _quantiles("nightly"), unit="s"),
        Panel(
            "Mean duration by stage",
            [Query(mean("semsr_stage_duration_seconds", "stage"), "{{stage}}")],
            unit="s",
            stacked=True,
        ),
        Panel(
            "Request duration, distribution",
            [Query(f"sum by (le) ({_DURATION.replace('rate(', 'increase(', 1)})", "{{le}}")],
            unit="s",
            kind="heatmap",
            width=12,
        ),
        Panel(
            "Late online requests",
            [
                Query(f'job:semsr_late_requests:ratio_rate{window}{{job=~"$job"}}', window)
                for window in ("5m", "1h", "6h", "3d")
            ],
            unit="percentunit",
            width=12,
            text="Share of requests slower than the latency objective; the budget is 1 %.",
        ),
    ],
)

TROUBLE = Row(
    "Errors and rejections",
    [
        Panel(
            "Share of answers with a status other than 200",
            [
                Query(
                    f'sum by (code) (rate(semsr_requests_total{{{WORK}, code!="200"}}'
                    f"[$__rate_interval])) / on () group_left () {_REQUESTS}",
                    "{{code}}",
                )
            ],
            unit="percentunit",
            stacked=True,
        ),
        Panel(
            "Rejected requests by reason",
            [series("reason", "semsr_rejected_total")],
            unit="reqps",
        ),
        Panel(
            "Dropped tiles",
            [
                Query(
                    total("semsr_deadline_missed_total"),
                    "deadline missed",
                ),
                Query(
                    total("semsr_cancelled_total"),
                    "abandoned",
                ),
            ],
        ),
    ],
)

SATURATION = Row(
    "Saturation",
    [
        Panel(
            "Places taken",
            [Query(f"instance:semsr_places:ratio{{{WHO}}}", "{{instance}}")],
            unit="percentunit",
        ),
        Panel(
            "Queued tiles",
            [Query(f"sum by (priority) (semsr_queue_depth{{{WHO}}})", "{{priority}}")],
            stacked=True,
        ),
        Panel(
            "Event loop lag",
            [Query(f"max_over_time(semsr_event_loop_lag_seconds{{{WHO}}}[1m])", "{{instance}}")],
            unit="s",
        ),
        Panel(
            "CPU",
            [Query(f"rate(process_cpu_seconds_total{{{WHO}}}[$__rate_interval])", "{{instance}}")],
            unit="short",
            text="Number of cores in use.",
            width=12,
        ),
        Panel(
            "Memory",
            [Query(f"process_resident_memory_bytes{{{WHO}}}", "{{instance}}")],
            unit="bytes",
            width=12,
        ),
    ],
)

ROWS = [NOW, THROUGHPUT, LATENCY, TROUBLE, SATURATION]
