"""Every Prometheus instrument of the service, declared once.

One `Metrics` belongs to one app and its own registry, so that tests can make several apps in one
process. `docs/metrics.md` explains each for operators; a test keeps that page complete.
"""

from collections.abc import Iterable, Sequence
from typing import cast

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.ground.instruments import Counter, Histogram

# 0.5 ms to 30 s: a raw identity tile takes about 1 ms, a large image on a small CPU many seconds.
LATENCY_BUCKETS_S = (
    0.0005,
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.032,
    0.064,
    0.128,
    0.256,
    0.512,
    1.024,
    2.5,
    5.0,
    10.0,
    30.0,
)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
CONSISTENCY_BUCKETS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0)
LIMIT_BUCKETS = (0.25, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
SATURATED_BUCKETS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
STAGES = ("recv", "decode", "queue", "infer", "encode")


class _Families:
    """What `generate_latest` wants of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(families: Iterable[Metric]) -> bytes:
    """Write metrics in Prometheus' text format."""
    return generate_latest(cast("CollectorRegistry", _Families(families)))


class Metrics:
    """The instruments, bound to one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = self._counter(
            "semsr_requests",
            "Answers by route, status code, and priority.",
            ("route", "code", "priority"),
        )
        self.request_duration = self._histogram(
            "semsr_request_duration_seconds",
            "Time from the head of a request to its answer.",
            ("route", "priority"),
        )
        self.queue_duration = self._histogram(
            "semsr_queue_duration_seconds",
            "Time that a tile waits for its batch.",
            ("priority", "model"),
        )
        self.stage_duration = self._histogram(
            "semsr_stage_duration_seconds", "Duration of a request's stages.", ("stage",)
        )
        self.batch_size = Histogram(
            "semsr_batch_size",
            "Tiles per batch.",
            ("model",),
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self.batch_duration = self._histogram(
            "semsr_batch_duration_seconds", "Time that the engine takes for a batch.", ("model",)
        )
        self.tiles_in_flight = Gauge(
            "semsr_tiles_in_flight",
            "Tiles that the engine is processing.",
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "semsr_queue_depth", "Tiles waiting for a batch.", ("priority",), registry=self.registry
        )
        self.admitted_tiles = Gauge(
            "semsr_admitted_tiles",
            "Places taken by requests in flight; the limit is SEMSR_MAX_QUEUE.",
            registry=self.registry,
        )
        self.admitted_tiles_limit = Gauge(
            "semsr_admitted_tiles_limit",
            "Number of places (SEMSR_MAX_QUEUE).",
            registry=self.registry,
        )
        self.streams = Gauge(
            "semsr_batch_requests",
            "Batch requests in flight.",
            ("priority",),
            registry=self.registry,
        )
        self.stream_entries = self._counter(
            "semsr_batch_entries",
            "Images of batch requests answered, by outcome: ok or failed.",
            ("outcome",),
        )
        self.streams_ended = self._counter(
            "semsr_batch_requests_ended", "Batch requests that have ended, by reason.", ("reason",)
        )
        self.rejected = self._counter(
            "semsr_rejected", "Requests rejected to protect the service, by reason.", ("reason",)
        )
        self.deadline_missed = self._counter(
            "semsr_deadline_missed", "Tiles dropped because their deadline had passed.", ()
        )
        self.cancelled = self._counter(
            "semsr_cancelled", "Abandoned tiles: dropped because no client waits for them.", ()
        )
        self.tiles = self._counter(
            "semsr_tiles",
            "Tiles super-resolved.",
            ("priority", "model", "version", "precision"),
        )
        self.model_requests = self._counter(
            "semsr_model_requests",
            "Requests for tiles by model and outcome: success or failure.",
            ("model", "outcome"),
        )
        self.model_request_seconds = self._counter(
            "semsr_model_request_seconds",
            "Total duration of requests for tiles in seconds, by model and outcome.",
            ("model", "outcome"),
        )
        self.consistency = self._shares(
            "semsr_consistency",
            "Mean local correlation of the downscaled answer with its input, per image.",
            CONSISTENCY_BUCKETS,
        )
        self.consistency_worst = self._shares(
            "semsr_consistency_worst",
            "Minimum local correlation of the downscaled answer with its input, per image.",
            CONSISTENCY_BUCKETS,
        )
        self.residual = self._shares(
            "semsr_residual",
            "Score of the most suspicious spot of the input that the answer does not explain, per "
            "image; 1 is the bundle's limit.",
            LIMIT_BUCKETS,
        )
        self.domain_distance = self._shares(
            "semsr_domain_distance",
            "Distance of an image from the model's training tiles; 1 is the bundle's limit.",
            LIMIT_BUCKETS,
        )
        self.saturated = self._shares(
            "semsr_saturated_ratio",
            "Share of an image where the answer is clipped to black or white.",
            SATURATED_BUCKETS,
        )
        self.non_finite = self._counter(
            "semsr_non_finite",
            "Images withheld because the model returned non-finite values (NaN or infinity).",
            (),
        )
        self.engine_failures = self._counter(
            "semsr_engine_failures", "Batches on which the engine failed.", ()
        )
        self.self_tests = self._counter(
            "semsr_self_tests",
            "Self-tests of serving engines by outcome: passed, failed, or not_run.",
            ("model", "outcome"),
        )
        self.engine_up = Gauge(
            "semsr_engine_up",
            "Serving engines whose loop is alive.",
            registry=self.registry,
        )
        self.model_info = Gauge(
            "semsr_model_info",
            "Served model in the labels; the value is always 1.",
            ("model", "version", "engine", "precision", "sha"),
            registry=self.registry,
        )
        self.gpu_busy = self._gauge(
            "semsr_gpu_busy_ratio", "Share of time during which the GPU was busy.", ("gpu",)
        )
        self.gpu_memory_used = self._gauge(
            "semsr_gpu_memory_used_bytes", "GPU memory in use.", ("gpu",)
        )
        self.gpu_memory = self._gauge("semsr_gpu_memory_bytes", "Total GPU memory.", ("gpu",))
        self.gpu_temperature = self._gauge(
            "semsr_gpu_temperature_celsius", "GPU temperature.", ("gpu",)
        )
        self.gpu_power = self._gauge(
            "semsr_gpu_power_watts", "Power draw of the GPU board.", ("gpu",)
        )
        self.gpu_slowed = self._gauge(
            "semsr_gpu_slowed", "1 while the GPU is throttled for this reason.", ("gpu", "reason")
        )
        self.gpu_ecc_errors = self._gauge(
            "semsr_gpu_ecc_errors",
            "Uncorrectable ECC memory errors since the driver was loaded.",
            ("gpu",),
        )
        self.process_restarts = self._counter(
            "semsr_process_restarts",
            "Restarts of pool processes: front or engine.",
            ("process",),
        )
        self.scans = Gauge("semsr_scans", "Scans by state.", ("state",), registry=self.registry)
        self.scan_tiles = self._counter(
            "semsr_scan_tiles",
            "Scan tiles finished by this service, by outcome: done or failed.",
            ("outcome",),
        )
        self.scan_running_tiles = Gauge(
            "semsr_scan_running_tiles",
            "Tiles of the scans running now: done, failed, or pending.",
            ("status",),
            registry=self.registry,
        )
        self.scans_ended = self._counter(
            "semsr_scans_ended", "Scans that have ended, by final state.", ("state",)
        )
        self.scan_late = Gauge(
            "semsr_scan_late_seconds",
            "Largest expected delay of an active scan against its finish_by in seconds.",
            registry=self.registry,
        )
        self.scan_remaining = Gauge(
            "semsr_scan_remaining_seconds",
            "Seconds until all running and queued scans are expected to be done, where known.",
            registry=self.registry,
        )
        self.event_loop_lag = Gauge(
            "semsr_event_loop_lag_seconds",
            "Delay of the event loop's last wake-up.",
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _shares(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: Sequence[str]) -> Histogram:
        return Histogram(name, text, labels, buckets=LATENCY_BUCKETS_S, registry=self.registry)
