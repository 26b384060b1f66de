"""Every Prometheus instrument of the service, declared once.

Each app has its own `Metrics` with its own registry, so that tests can make several apps in one
process. `docs/metrics.md` explains each instrument for operators; a test keeps that page complete.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.ground.instruments import Counter, Histogram

# 0.5 ms to 30 s: a raw identity tile takes about 1 ms, a large image on a small CPU many seconds.
LATENCY_BUCKETS_S = (*(0.0005 * 2**n for n in range(12)), 2.5, 5.0, 10.0, 30.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
CONSISTENCY_BUCKETS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0)
LIMIT_BUCKETS = (0.25, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
GREY_BUCKETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SATURATED_BUCKETS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class _Declared:
    """An instrument as `Metrics` declares it; each `Metrics` makes its own."""

    make: Callable[[CollectorRegistry], Any]


def _counter(name: str, text: str, *labels: str) -> Counter:
    declared = _Declared(lambda registry: Counter(name, text, labels, registry=registry))
    return cast("Counter", declared)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    declared = _Declared(lambda registry: Gauge(name, text, labels, registry=registry))
    return cast("Gauge", declared)


def _histogram(name: str, text: str, *labels: str, buckets: Sequence[float]) -> Histogram:
    return cast(
        "Histogram",
        _Declared(
            lambda registry: Histogram(name, text, labels, buckets=buckets, registry=registry)
        ),
    )


def _seconds(name: str, text: str, *labels: str) -> Histogram:
    return _histogram(name, text, *labels, buckets=LATENCY_BUCKETS_S)


class Metrics:
    """The instruments, bound to one registry."""

    requests = _counter(
        "semsr_requests",
        "Answers by route, status code, and priority.",
        "route",
        "code",
        "priority",
    )
    request_duration = _seconds(
        "semsr_request_duration_seconds",
        "Time from the head of a request to its answer.",
        "route",
        "priority",
    )
    queue_duration = _seconds(
        "semsr_queue_duration_seconds", "Time that a tile waits for its batch.", "priority", "model"
    )
    stage_duration = _seconds(
        "semsr_stage_duration_seconds", "Duration of a request's stages.", "stage"
    )
    batch_size = _histogram("semsr_batch_size", "Tiles per batch.", "model", buckets=BATCH_BUCKETS)
    batch_duration = _seconds(
        "semsr_batch_duration_seconds", "Time that the engine takes for a batch.", "model"
    )
    tiles_in_flight = _gauge("semsr_tiles_in_flight", "Tiles that the engine is processing.")
    queue_depth = _gauge("semsr_queue_depth", "Tiles waiting for a batch.", "priority")
    admitted_tiles = _gauge(
        "semsr_admitted_tiles", "Places taken by requests in flight; the limit is SEMSR_MAX_QUEUE."
    )
    admitted_tiles_limit = _gauge(
        "semsr_admitted_tiles_limit", "Number of places (SEMSR_MAX_QUEUE)."
    )
    streams = _gauge("semsr_batch_requests", "Batch requests in flight.", "priority")
    stream_entries = _counter(
        "semsr_batch_entries",
        "Images of batch requests answered, by outcome: ok or failed.",
        "outcome",
    )
    streams_ended = _counter(
        "semsr_batch_requests_ended", "Batch requests that have ended, by reason.", "reason"
    )
    rejected = _counter(
        "semsr_rejected", "Requests rejected to protect the service, by reason.", "reason"
    )
    deadline_missed = _counter(
        "semsr_deadline_missed", "Tiles dropped because their deadline had passed."
    )
    cancelled = _counter(
        "semsr_cancelled", "Abandoned tiles: dropped because no client waits for them."
    )
    tiles = _counter(
        "semsr_tiles", "Tiles super-resolved.", "priority", "model", "version", "precision"
    )
    model_requests = _counter(
        "semsr_model_requests",
        "Requests for tiles by model and outcome: success or failure.",
        "model",
        "outcome",
    )
    model_request_seconds = _counter(
        "semsr_model_request_seconds",
        "Total duration of requests for tiles in seconds, by model and outcome.",
        "model",
        "outcome",
    )
    client_requests = _counter(
        "semsr_client_requests",
        "Answers by client name of the API key and status code.",
        "client",
        "code",
    )
    client_tiles = _counter(
        "semsr_client_tiles",
        "Tiles super-resolved in requests, by client name of the API key.",
        "client",
    )
    consistency = _histogram(
        "semsr_consistency",
        "Mean local correlation of the downscaled answer with its input, per image.",
        "model",
        "tool",
        buckets=CONSISTENCY_BUCKETS,
    )
    consistency_worst = _histogram(
        "semsr_consistency_worst",
        "Minimum local correlation of the downscaled answer with its input, per image.",
        "model",
        "tool",
        buckets=CONSISTENCY_BUCKETS,
    )
    residual = _histogram(
        "semsr_residual",
        "Score of the most suspicious spot of the input that the answer does not explain, per "
        "image; 1 is the bundle's limit.",
        "model",
        "tool",
        buckets=LIMIT_BUCKETS,
    )
    domain_distance = _histogram(
        "semsr_domain_distance",
        "Distance of an image from the model's training tiles; 1 is the bundle's limit.",
        "model",
        "tool",
        buckets=LIMIT_BUCKETS,
    )
    saturated = _histogram(
        "semsr_saturated_ratio",
        "Share of an image where the answer is clipped to black or white.",
        "model",
        "tool",
        buckets=SATURATED_BUCKETS,
    )
    non_finite = _counter(
        "semsr_non_finite",
        "Images withheld because the model returned non-finite values (NaN or infinity).",
        "model",
    )
    engine_failures = _counter("semsr_engine_failures", "Batches on which the engine failed.")
    self_tests = _counter(
        "semsr_self_tests",
        "Self-tests of serving engines by outcome: passed, failed, or not_run.",
        "model",
        "outcome",
    )
    engine_up = _gauge("semsr_engine_up", "Serving engines whose loop is alive.")
    engine_process_up = _gauge(
        "semsr_engine_process_up",
        "1 while the engine process of a pool is ready to run tiles, else 0.",
        "process",
        "model",
        "device",
    )
    model_info = _gauge(
        "semsr_model_info",
        "Served model in the labels; the value is always 1.",
        "model",
        "version",
        "engine",
        "precision",
        "sha",
    )
    gpu_busy = _gauge("semsr_gpu_busy_ratio", "Share of time during which the GPU was busy.", "gpu")
    gpu_memory_used = _gauge("semsr_gpu_memory_used_bytes", "GPU memory in use.", "gpu")
    gpu_memory = _gauge("semsr_gpu_memory_bytes", "Total GPU memory.", "gpu")
    gpu_temperature = _gauge("semsr_gpu_temperature_celsius", "GPU temperature.", "gpu")
    gpu_power = _gauge("semsr_gpu_power_watts", "Power draw of the GPU board.", "gpu")
    gpu_slowed = _gauge(
        "semsr_gpu_slowed", "1 while the GPU is throttled for this reason.", "gpu", "reason"
    )
    gpu_ecc_errors = _gauge(
        "semsr_gpu_ecc_errors",
        "Uncorrectable ECC memory errors since the driver was loaded.",
        "gpu",
    )
    process_restarts = _counter(
        "semsr_process_restarts", "Restarts of pool processes: front or engine.", "process"
    )
    scans = _gauge("semsr_scans", "Scans by state.", "state")
    scan_tiles = _counter(
        "semsr_scan_tiles",
        "Scan tiles finished by this service, by outcome: done or failed.",
        "outcome",
    )
    scan_running_tiles = _gauge(
        "semsr_scan_running_tiles",
        "Tiles of the scans running now: done, failed, or pending.",
        "status",
    )
    scans_ended = _counter("semsr_scans_ended", "Scans that have ended, by final state.", "state")
    scan_late = _gauge(
        "semsr_scan_late_seconds",
        "Largest expected delay of an active scan against its finish_by in seconds.",
    )
    scan_remaining = _gauge(
        "semsr_scan_remaining_seconds",
        "Seconds until all running and queued scans are expected to be done, where known.",
    )
    shadow_up = _gauge(
        "semsr_shadow_up", "1 while the shadow model is ready to compare tiles, else 0.", "model"
    )
    shadow_tiles = _counter(
        "semsr_shadow_tiles",
        "Tiles drawn for the shadow model, by outcome: compared, busy, full, down, unsuitable, or "
        "failed.",
        "model",
        "outcome",
    )
    shadow_flags = _counter(
        "semsr_shadow_flags",
        "Compared tiles by the models that flag them: neither, both, served_only, or shadow_only.",
        "model",
        "outcome",
    )
    shadow_grey = _histogram(
        "semsr_shadow_grey_difference",
        "Mean absolute difference of the shadow's answer from the served one in grey levels.",
        "model",
        buckets=GREY_BUCKETS,
    )
    shadow_above = _histogram(
        "semsr_shadow_pixels_above_ratio",
        "Share of pixels in which the two answers differ by more than SEMSR_SHADOW_LIMIT_GREY.",
        "model",
        buckets=SATURATED_BUCKETS,
    )
    shadow_edges = _histogram(
        "semsr_shadow_edge_difference",
        "Mean absolute difference of the answers' gradients in grey levels per LR pixel, without "
        "grain.",
        "model",
        buckets=GREY_BUCKETS,
    )
    shadow_duration = _seconds(
        "semsr_shadow_duration_seconds",
        "Time of a compared tile on its engine, by side: served or shadow.",
        "model",
        "side",
    )
    event_loop_lag = _gauge(
        "semsr_event_loop_lag_seconds", "Delay of the event loop's last wake-up."
    )

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        for name, declared in vars(type(self)).items():
            if isinstance(declared, _Declared):
                setattr(self, name, declared.make(self.registry))
