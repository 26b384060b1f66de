"""Statistics of the Open Inference Protocol's extension, out of the metrics.

Source: NVIDIA Triton's statistics extension. Times are nanoseconds, counts since the start: of
requests in `success` and `fail`, of tiles in `queue`, of batches in `compute_infer`. Copying a
batch in and out is part of `compute_infer`, so `compute_input` and `compute_output` count batches
and have no time; there is no cache. Clients read all of these fields, and
versions are numbers to them: perf_analyzer fails if a field is missing or a version is not one.
"""

from collections.abc import Iterable
from typing import Any

from prometheus_client.metrics_core import Metric


def model_statistics(families: Iterable[Metric], *, name: str, version: str) -> dict[str, Any]:
    """Put one model's statistics together.

    Args:
        families: Every metric of the service.
        name: Name of the model.
        version: Version of the model, as a number.
    """
    samples = [sample for family in families for sample in family.samples]

    def total(sample_name: str, **labels: str) -> float:
        wanted = {"model": name, **labels}
        return sum(
            sample.value
            for sample in samples
            if sample.name == sample_name and wanted.items() <= sample.labels.items()
        )

    def duration(count: float, seconds: float) -> dict[str, int]:
        return {"count": round(count), "ns": round(seconds * 1e9)}

    batches = total("semsr_batch_duration_seconds_count")
    return {
        "model_stats": [
            {
                "name": name,
                "version": version,
                "inference_count": round(total("semsr_tiles_total")),
                "execution_count": round(batches),
                "inference_stats": {
                    "success": duration(
                        total("semsr_model_requests_total", outcome="success"),
                        total("semsr_model_request_seconds_total", outcome="success"),
                    ),
                    "fail": duration(
                        total("semsr_model_requests_total", outcome="failure"),
                        total("semsr_model_request_seconds_total", outcome="failure"),
                    ),
                    "queue": duration(
                        total("semsr_queue_duration_seconds_count"),
                        total("semsr_queue_duration_seconds_sum"),
                    ),
                    "compute_input": duration(batches, 0.0),
                    "compute_infer": duration(batches, total("semsr_batch_duration_seconds_sum")),
                    "compute_output": duration(batches, 0.0),
                    "cache_hit": duration(0, 0.0),
                    "cache_miss": duration(0, 0.0),
                },
                "batch_stats": [],
            }
        ]
    }
