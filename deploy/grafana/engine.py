"""*Engine and batching*: batches, queueing, and GPU, for operators who tune the service."""

from deploy.grafana.panels import Panel, Row
from deploy.grafana.queries import MODEL, WHO, Query, mean, series, total

_BATCH = f"rate(semsr_batch_duration_seconds_bucket{{{MODEL}}}[$__rate_interval])"
_WAIT = f"rate(semsr_queue_duration_seconds_bucket{{{MODEL}}}[$__rate_interval])"
_GPU = "{{instance}} GPU {{gpu}}"
_NO_GPU = "No GPU metrics: SEMSR_DEVICE is cpu, or the extra gpu is missing"
_NO_DCGM = "No DCGM exporter"

MODELS = Row(
    "Served models",
    [
        Panel(
            "Models",
            [Query(f"semsr_model_info{{{MODEL}}}")],
            text="Model, version, engine, and precision that each instance serves.",
            do="Instances with different versions are in the middle of a rollout; if it has ended, "
            "load the version again where it is missing.",
            empty="No model is served",
            kind="table",
            width=16,
        ),
        Panel(
            "Working engines",
            [Query(f"sum(semsr_engine_up{{{WHO}}})")],
            text="Engines whose loop is alive, over all selected instances.",
            do="below the number of models times instances, see runbook SemsrEngineDown.",
            empty="No instance",
            kind="stat",
            warn=1,
            bad=0.5,
            width=4,
        ),
        Panel(
            "Restarts in 24 h",
            [Query(f"sum(changes(process_start_time_seconds{{{WHO}}}[24h]))")],
            text="Restarts of the service's processes.",
            do="if no rollout explains them, see runbook SemsrRestarts.",
            empty="No instance",
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
            [
                Query(
                    mean("semsr_batch_size", "instance, model", who=MODEL), "{{instance}} {{model}}"
                )
            ],
            text="Tiles that the engine takes at once.",
            do="near 1 is normal at low load; at the engine's limit, a larger SEMSR_MAX_BATCH_SIZE "
            "may raise the throughput.",
        ),
        Panel(
            "Batch size, distribution",
            [series("le", "semsr_batch_size_bucket", who=MODEL, function="increase")],
            text="Batches by size.",
            do="a mass at the largest size means that tiles wait: compare with the queueing time.",
            kind="heatmap",
        ),
        Panel(
            "Batches per second",
            [Query(total("semsr_batch_size_count", "instance", who=MODEL), "{{instance}}")],
            text="Calls of the engine.",
            do="zero with queued tiles: the engine is stuck, see runbook SemsrQueueStuck.",
        ),
        Panel(
            "Batch duration",
            [
                Query(f"histogram_quantile({share}, sum by (le) ({_BATCH}))", f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ],
            text="Time that the engine takes for a batch.",
            do="a rise without larger batches points at a hot GPU, or at other processes on the "
            "cores.",
            unit="s",
        ),
        Panel(
            "Engine time per tile, mean",
            [
                Query(
                    f"{total('semsr_batch_duration_seconds_sum', 'instance, model', who=MODEL)} / "
                    f"{total('semsr_batch_size_sum', 'instance, model', who=MODEL)}",
                    "{{instance}} {{model}}",
                )
            ],
            text="Duration of batches over their tiles: what a tile costs.",
            do="compare instances: a slower one has another engine, precision, or load.",
            unit="s",
        ),
        Panel(
            "Concurrent batches, mean",
            [series("instance", "semsr_batch_duration_seconds_sum", who=MODEL)],
            text="At 1, an engine with one slot is never idle.",
            do="at the number of slots, more load lengthens the queue: add an instance.",
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
            text="Time that a tile waits for its batch, by priority.",
            do="if online tiles wait longer than a batch takes, the service is near saturation.",
            unit="s",
        ),
        Panel(
            "Tiles in flight on the engine",
            [Query(f"semsr_tiles_in_flight{{{WHO}}}", "{{instance}}")],
            text="Tiles that the engine is processing.",
            do="a constant value without batches means that the engine hangs.",
            empty="No instance",
        ),
        Panel(
            "Failed batches in 10 minutes",
            [Query(f"increase(semsr_engine_failures_total{{{WHO}}}[10m])", "{{instance}}")],
            text="Batches on which the engine failed; their requests got 500.",
            do="see runbook SemsrEngineFailures.",
            empty="No instance",
        ),
        Panel(
            "Self-tests per hour",
            [
                Query(
                    total(
                        "semsr_self_tests_total",
                        "model, outcome",
                        who=MODEL,
                        function="increase",
                        window="1h",
                    ),
                    "{{model}} {{outcome}}",
                )
            ],
            text="Golden tiles run on serving engines; a failed engine is taken out of service.",
            do="if any failed, see runbook SemsrSelfTestFailed.",
            empty="No self-tests (SEMSR_SELF_TEST_MINUTES)",
        ),
    ],
)

GPU = Row(
    "GPU",
    [
        Panel(
            "GPU busy",
            [Query(f"semsr_gpu_busy_ratio{{{WHO}}}", _GPU)],
            text="Share of time during which the GPU computed.",
            do="low at full load means that the host is the limit: add front ends or cores.",
            empty=_NO_GPU,
            unit="percentunit",
        ),
        Panel(
            "GPU memory in use",
            [
                Query(
                    f"semsr_gpu_memory_used_bytes{{{WHO}}} / semsr_gpu_memory_bytes{{{WHO}}}", _GPU
                )
            ],
            text="Share of the GPU's memory, of all processes on it.",
            do="near 100 %, a reload fails: free the card, or set SEMSR_ROLLBACK_KEEP_S to 0.",
            empty=_NO_GPU,
            unit="percentunit",
        ),
        Panel(
            "GPU power",
            [Query(f"semsr_gpu_power_watts{{{WHO}}}", _GPU)],
            text="Power draw of the GPU board.",
            do="at the board's limit, the GPU is slowed down: see the panel on throttling.",
            empty=_NO_GPU,
            unit="watt",
        ),
        Panel(
            "GPU temperature",
            [Query(f"semsr_gpu_temperature_celsius{{{WHO}}}", _GPU)],
            text="Temperature of the GPU.",
            do="if it rises at the same load, check fans, dust, and the room.",
            empty=_NO_GPU,
            unit="celsius",
        ),
        Panel(
            "GPU throttling",
            [Query(f"semsr_gpu_slowed{{{WHO}}}", f"{_GPU} {{{{reason}}}}")],
            text="1 while the GPU is slowed down for this reason.",
            do="power_cap: raise the power limit or accept the rate. heat: cool the card. "
            "hardware, power_brake: check the power supply.",
            empty=_NO_GPU,
        ),
        Panel(
            "GPU memory errors",
            [Query(f"semsr_gpu_ecc_errors{{{WHO}}}", _GPU)],
            text="Uncorrectable ECC errors since the driver was loaded.",
            do="if it rises, take the card out of service, and test it: see runbook SemsrGpuFault.",
            empty=_NO_GPU,
        ),
        Panel(
            "Tensor core activity (DCGM exporter)",
            [Query("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "{{Hostname}} {{gpu}}")],
            text="Share of cycles in which the tensor cores work.",
            do="near 0 on a busy GPU, the engine computes in FP32: check SEMSR_PRECISION.",
            empty=_NO_DCGM,
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Last XID error (DCGM exporter)",
            [Query("DCGM_FI_DEV_XID_ERRORS", "{{Hostname}} {{gpu}}")],
            text="Number of the driver's last error; 0 for none.",
            do="a value other than 0 is a fault of a program or of the card: see runbook "
            "SemsrGpuFault.",
            empty=_NO_DCGM,
            width=12,
        ),
    ],
)

ROWS = [MODELS, BATCHES, QUEUE, GPU]
