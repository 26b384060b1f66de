"""*Line overview*: throughput, latency, errors, and saturation, for operators on shift."""

from deploy.grafana import models_and_clients
from deploy.grafana.panels import Panel, Row
from deploy.grafana.queries import MODEL, WHO, WORK, Query, mean, series, total

_DURATION = f"rate(semsr_request_duration_seconds_bucket{{{WORK}}}[$__rate_interval])"
_REQUESTS = total("semsr_requests_total", who=WORK)
_NO_INSTANCE = "No instance"


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
            [Query(total("semsr_tiles_total", who=MODEL))],
            text="Tiles super-resolved, online and nightly.",
            do="if it is far below the usual rate, check whether the tools send tiles.",
            kind="stat",
            width=4,
        ),
        Panel(
            "Online latency, p99", [Query(_quantile(0.99, "online"))],
            text="Time within which 99 % of online requests are answered.",
            do="above the objective, see runbook SemsrLatencyBudgetFast.",
            unit="s", kind="stat", width=4,
        ),
        Panel(
            "Rejected", [Query(_share("503"))],
            text="Share of requests rejected with 503: demand exceeds capacity.",
            do="stop traffic that is not production, or add an instance; see runbook "
            "SemsrRejecting.",
            unit="percentunit", kind="stat", warn=0.01, bad=0.05, width=4,
        ),
        Panel(
            "Errors", [Query(_share("500"))],
            text="Share of requests that failed with an internal error (500).",
            do="see runbook SemsrErrors.",
            unit="percentunit", kind="stat", warn=0.001, bad=0.01, width=4,
        ),
        Panel(
            "Fullest instance",
            [Query(f"max(instance:semsr_places:ratio{{{WHO}}})")],
            text="Share of the places (SEMSR_MAX_QUEUE) in use. A full instance rejects requests.",
            do="above 80 %, see runbook SemsrSaturated.",
            empty=_NO_INSTANCE,
            unit="percentunit", kind="stat", warn=0.6, bad=0.8, width=4,
        ),
        Panel(
            "Firing alerts",
            [Query('count(ALERTS{alertname=~"Semsr.*", alertstate="firing"}) or vector(0)')],
            text="Number of alerts that fire now.",
            do="open the runbook of the alert's name in docs/runbooks.",
            empty="No alerts",
            kind="stat", warn=1, bad=2, width=4,
        ),
    ],
)  # fmt: skip

THROUGHPUT = Row(
    "Throughput",
    [
        Panel(
            "Tiles per second by priority",
            [series("priority", "semsr_tiles_total", who=MODEL)],
            text="Online tiles come first; nightly tiles use the remaining capacity.",
            do="if online tiles are missing, check the tools and the network.",
            stacked=True,
        ),
        Panel(
            "Requests per second by priority",
            [series("priority", "semsr_requests_total", who=WORK)],
            text="Requests with images, regardless of their answers.",
            do="compare with the answers by status code.",
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Answers per second by status code",
            [series("code", "semsr_requests_total", who=WORK)],
            text="499: the client disconnected before its answer.",
            do="for 4xx, ask the client; for 500, see runbook SemsrErrors; for 503, runbook "
            "SemsrRejecting.",
            unit="reqps",
            stacked=True,
        ),
    ],
)

LATENCY = Row(
    "Latency",
    [
        Panel(
            "Online request duration",
            _quantiles("online"),
            text="Time from the head of an online request to its answer.",
            do="if p99 rises and p50 does not, requests wait for each other: look at Saturation.",
            unit="s",
        ),
        Panel(
            "Nightly request duration",
            _quantiles("nightly"),
            text="Time from the head of a nightly request to its answer.",
            do="long durations are normal while online tiles run.",
            unit="s",
        ),
        Panel(
            "Mean duration by stage",
            [Query(mean("semsr_stage_duration_seconds", "stage"), "{{stage}}")],
            text="Parts of a request: recv, decode, queue, infer, encode.",
            do="recv: slow client or network. queue: saturation. decode, encode: use raw tiles.",
            unit="s",
            stacked=True,
        ),
        Panel(
            "Request duration, distribution",
            [Query(f"sum by (le) ({_DURATION.replace('rate(', 'increase(', 1)})", "{{le}}")],
            text="Requests by their duration.",
            do="two bands are two kinds of requests, such as tiles and large images.",
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
            text="Share of requests slower than the latency objective; the budget is 1 %.",
            do="above it for hours, see runbook SemsrLatencyBudgetSlow.",
            unit="percentunit",
            width=12,
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
            text="Share of all requests with images.",
            do="for 4xx, ask the clients; for 5xx, see the log lines of these requests.",
            empty="No traffic, or all answers are 200",
            unit="percentunit",
            stacked=True,
        ),
        Panel(
            "Rejected requests by reason",
            [series("reason", "semsr_rejected_total")],
            text="Requests that were rejected to protect the service.",
            do="queue_full: add capacity. unauthorized: look for key_rejected in the log. "
            "over_quota: ask the client.",
            empty="No rejected requests",
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
            text="Queued tiles whose deadline passed, or whose client disconnected.",
            do="for missed deadlines, see runbook SemsrDeadlinesMissed.",
            empty=_NO_INSTANCE,
        ),
    ],
)

SATURATION = Row(
    "Saturation",
    [
        Panel(
            "Places taken",
            [Query(f"instance:semsr_places:ratio{{{WHO}}}", "{{instance}}")],
            text="Share of the places (SEMSR_MAX_QUEUE) in use, by instance.",
            do="one full instance among empty ones: check the load balancer.",
            empty=_NO_INSTANCE,
            unit="percentunit",
        ),
        Panel(
            "Queued tiles",
            [Query(f"sum by (priority) (semsr_queue_depth{{{WHO}}})", "{{priority}}")],
            text="Tiles waiting for a batch.",
            do="if it does not fall, see runbook SemsrQueueStuck.",
            empty=_NO_INSTANCE,
            stacked=True,
        ),
        Panel(
            "Event loop lag",
            [Query(f"max_over_time(semsr_event_loop_lag_seconds{{{WHO}}}[1m])", "{{instance}}")],
            text="Delay of the event loop's wake-ups.",
            do="above 100 ms, see runbook SemsrEventLoopLag.",
            empty=_NO_INSTANCE,
            unit="s",
        ),
        Panel(
            "CPU",
            [Query(f"rate(process_cpu_seconds_total{{{WHO}}}[$__rate_interval])", "{{instance}}")],
            text="Number of cores in use.",
            do="at the number of cores, the service is at its limit.",
            empty=_NO_INSTANCE,
            width=12,
        ),
        Panel(
            "Memory",
            [Query(f"process_resident_memory_bytes{{{WHO}}}", "{{instance}}")],
            text="Memory of the service's processes.",
            do="if it grows at a steady load, restart the instance and report it.",
            empty=_NO_INSTANCE,
            unit="bytes",
            width=12,
        ),
    ],
)

ROWS = [NOW, THROUGHPUT, models_and_clients.ROW, LATENCY, TROUBLE, SATURATION]
