"""*Engine and batching*: batches, queueing, and GPU, for operators who tune the service."""

from deploy.grafana.panels import WHO, Panel, Query, Row, mean, series, total

_BATCH = f"rate(semsr_batch_duration_seconds_bucket{{{WHO}}}[$__rate_interval])"
_WAIT = f"rate(semsr_queue_duration_seconds_bucket{{{WHO}}}[$__rate_interval])"


MODEL = Row(
    "Served models",
    [
        Panel("Models", [Query(f"semsr_model_info{{{WHO}}}")], kind="table", width=16),
        Panel(
            "Working engines",
            [Query(f"sum(semsr_engine_up{{{WHO}}})")],
            kind="stat",
            warn=1,
            bad=0.5,
            width=4,
        ),
        Panel(
            "Restarts in 24 h",
            [Query(f"sum(changes(process_start_time_seconds{{{WHO}}}[24h]))")],
            kind="stat",
            warn=1,
            bad=3,
            width=4,
        ),
    ],
)

BATCHES = Row(
    "Batches",
    [
        Panel(
            "Batch size, mean",
            [Query(mean("semsr_batch_size", "instance"), "{{instance}}")],
        ),
        Panel(
            "Batch size, distribution",
            [series("le", "semsr_batch_size_bucket", function="increase")],
            kind="heatmap",
        ),
        Panel(
            "Batches per second",
            [series("instance", "semsr_batch_size_count")],
        ),
        Panel(
            "Batch duration",
            [
                Query(f"histogram_quantile({share}, sum by (le) ({_BATCH}))", f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ],
            unit="s",
        ),
        Panel(
            "Engine time per tile, mean",
            [
                Query(
                    f"{total('semsr_batch_duration_seconds_sum', 'instance')} / "
                    f"{total('semsr_batch_size_sum', 'instance')}",
                    "{{instance}}",
                )
            ],
            unit="s",
        ),
        Panel(
            "Concurrent batches, mean",
            [series("instance", "semsr_batch_duration_seconds_sum")],
            text="At 1, an engine with one slot is never idle: more load only lengthens the queue.",
        ),
    ],
)

QUEUE = Row(
    "Queue",
    [
        Panel(
            "Queueing time of a tile",
            [
                Query(
                    f"histogram_quantile({share}, sum by (priority, le) ({_WAIT}))",
                    f"{{{{priority}}}} p{share * 100:g}",
                )
                for share in (0.5, 0.95)
            ],
            unit="s",
        ),
        Panel(
            "Tiles in flight on the engine",
            [Query(f"semsr_tiles_in_flight{{{WHO}}}", "{{instance}}")],
        ),
        Panel(
            "Failed batches in 10 minutes",
            [Query(f"increase(semsr_engine_failures_total{{{WHO}}}[10m])", "{{instance}}")],
        ),
        Panel(
            "Self-tests per hour",
            [
                Query(
                    total(
                        "semsr_self_tests_total", "model, outcome", function="increase", window="1h"
                    ),
                    "{{model}} {{outcome}}",
                )
            ],
            text="Golden tiles run on serving engines; a failed engine is taken out of service.",
        ),
    ],
)

GPU = Row(
    "GPU (needs the DCGM exporter)",
    [
        Panel(
            "Utilisation", [Query("DCGM_FI_DEV_GPU_UTIL", "{{Hostname}} {{gpu}}")], unit="percent"
        ),
        Panel(
            "Memory used", [Query("DCGM_FI_DEV_FB_USED", "{{Hostname}} {{gpu}}")], unit="decmbytes"
        ),
        Panel("Power", [Query("DCGM_FI_DEV_POWER_USAGE", "{{Hostname}} {{gpu}}")], unit="watt"),
        Panel(
            "Temperature", [Query("DCGM_FI_DEV_GPU_TEMP", "{{Hostname}} {{gpu}}")], unit="celsius"
        ),
        Panel(
            "Tensor core activity",
            [Query("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "{{Hostname}} {{gpu}}")],
            unit="percentunit",
        ),
        Panel(
            "Last XID error",
            [Query("DCGM_FI_DEV_XID_ERRORS", "{{Hostname}} {{gpu}}")],
            text="A value other than 0 is a fault of a program or of the card.",
        ),
    ],
)

ROWS = [MODEL, BATCHES, QUEUE, GPU]
