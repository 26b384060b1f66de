"""The row *Models and clients* of the line overview."""

from deploy.grafana.panels import Panel, Row
from deploy.grafana.queries import MODEL, WHO, Query, total

ROW = Row(
    "Models and clients",
    [
        Panel(
            "Requests per second by model",
            [
                Query(
                    total("semsr_model_requests_total", "model, outcome", who=MODEL),
                    "{{model}} {{outcome}}",
                )
            ],
            text="Requests for tiles of each model, by outcome.",
            do="failures of one model only: see its log lines, and roll it back.",
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Mean request duration by model",
            [
                Query(
                    f"{total('semsr_model_request_seconds_total', 'model', who=MODEL)} / "
                    f"{total('semsr_model_requests_total', 'model', who=MODEL)}",
                    "{{model}}",
                )
            ],
            text="Total duration of the requests of a model over their number.",
            do="if one model is slower than before, compare its version and precision.",
            unit="s",
        ),
        Panel(
            "Tiles per second by client",
            [Query(total("semsr_client_tiles_total", "client"), "{{client}}")],
            text="Tiles in the requests of each API key, without scans.",
            do="a client that takes more than its share gets a quota: SEMSR_RATE_LIMIT_PER_S.",
            empty="No API keys (SEMSR_API_KEYS), or no traffic",
            stacked=True,
        ),
        Panel(
            "Answers by client and status code other than 200",
            [
                Query(
                    f'sum by (client, code) (rate(semsr_client_requests_total{{{WHO}, code!="200"}}'
                    "[$__rate_interval]))",
                    "{{client}} {{code}}",
                )
            ],
            text="Answers of each API key that are not 200.",
            do="400, 413, 415, 422: the client sends unusable images. 429: it exceeds its quota.",
            empty="No API keys (SEMSR_API_KEYS), or all answers are 200",
            unit="reqps",
            width=24,
        ),
    ],
)
