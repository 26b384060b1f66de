"""*Engine and batching*: what the engine does with the tiles. For whoever tunes it."""

from deploy.grafana.panels import WHO, Panel, Query, Row

_BATCH = f"rate(semsr_batch_duration_seconds_bucket{{{WHO}}}[$__rate_interval])"
_WAIT = f"rate(semsr_queue_duration_seconds_bucket{{{WHO}}}[$__rate_interval])"


def _mean(metric: str, by: str) -> str:
    total, count = (
        f"sum by ({by}) (rate({metric}_{part}{{{WHO}}}[$__rate_interval]))"
        for part in ("sum", "count")
    )
    return f"{total} / {count}"


MODEL = Row(
    "What is served",
    [
        Panel("Models", [Query(f"semsr_model_info{{{WHO}}}")], kind="table", width=16),
        Panel(
            "Engines up",
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
            "Tiles in a batch, mean",
            [Query(_mean("semsr_batch_size", "instance"), "{{instance}}")],
        ),
        Panel(
            "Tiles in a batch, distribution",
            [
                Query(
                    f"sum by (le) (increase(semsr_batch_size_bucket{{{WHO}}}[$__rate_interval]))",
                    "{{le}}",
                )
            ],
            kind="heatmap",
        ),
        Panel(
            "Batches a second",
            [
                Query(
                    f"sum by (instance) (rate(semsr_batch_size_count{{{WHO}}}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            "Time of a batch",
            [
                Query(f"histogram_quantile({share}, sum by (le) ({_BATCH}))", f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ],
            unit="s",
        ),
        Panel(
            "Time of a tile in the engine, mean",
            [
                Query(
                    f"sum by (instance) (rate(semsr_batch_duration_seconds_sum{{{WHO}}}"
                    "[$__rate_interval])) / sum by (instance) "
                    f"(rate(semsr_batch_size_sum{{{WHO}}}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            unit="s",
        ),
        Panel(
            "Batches under way, mean",
            [
                Query(
                    f"sum by (instance) (rate(semsr_batch_duration_seconds_sum{{{WHO}}}"
                    "[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            text="1 is an engine of one slot that never rests: more load only waits longer.",
        ),
    ],
)

QUEUE = Row(
    "Queue",
    [
        Panel(
            "Wait of a tile for its batch",
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
            "Tiles in the engine",
            [Query(f"semsr_tiles_in_flight{{{WHO}}}", "{{instance}}")],
        ),
        Panel(
            "Batches that failed, in 10 minutes",
            [Query(f"increase(semsr_engine_failures_total{{{WHO}}}[10m])", "{{instance}}")],
        ),
        Panel(
            "Self-tests in an hour",
            [
                Query(
                    f"sum by (model, outcome) (increase(semsr_self_tests_total{{{WHO}}}[1h]))",
                    "{{model}} {{outcome}}",
                )
            ],
            text="Golden tiles on the engine that serves; one that fails takes it out of service.",
        ),
    ],
)

GPU = Row(
    "GPU (needs the DCGM exporter)",
    [
        Panel("Busy", [Query("DCGM_FI_DEV_GPU_UTIL", "{{Hostname}} {{gpu}}")], unit="percent"),
        Panel(
            "Memory used", [Query("DCGM_FI_DEV_FB_USED", "{{Hostname}} {{gpu}}")], unit="decmbytes"
        ),
        Panel("Power", [Query("DCGM_FI_DEV_POWER_USAGE", "{{Hostname}} {{gpu}}")], unit="watt"),
        Panel(
            "Temperature", [Query("DCGM_FI_DEV_GPU_TEMP", "{{Hostname}} {{gpu}}")], unit="celsius"
        ),
        Panel(
            "Tensor cores busy",
            [Query("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "{{Hostname}} {{gpu}}")],
            unit="percentunit",
        ),
        Panel(
            "Last XID error",
            [Query("DCGM_FI_DEV_XID_ERRORS", "{{Hostname}} {{gpu}}")],
            text="Anything but 0 is a fault of a program or of the card.",
        ),
    ],
)

ROWS = [MODEL, BATCHES, QUEUE, GPU]
