"""Metrics of the GPUs, from NVIDIA's management library: load, memory, heat, power, faults.

The metrics are read only if the engine computes on a GPU. A separate thread reads them, because a
driver may hang. If the package (`nvidia-ml-py`, extra gpu), the library or one figure is missing,
its metrics are absent, and the service runs without them.
"""

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from prometheus_client import Gauge

from service.ground.metrics import Metrics

log = structlog.get_logger()

_PERIOD_S = 5.0
# Bits of the reasons why a card is slowed down; an idle card and fixed clocks do not count.
_SLOWDOWNS = {
    "power_cap": 0x4,
    "hardware": 0x8,
    "heat_software": 0x20,
    "heat_hardware": 0x40,
    "power_brake": 0x80,
}


class GpuMetrics:
    """Keeps the gauges of every GPU that the library shows."""

    def __init__(self, nvml: Any, metrics: Metrics) -> None:  # noqa: ANN401 (it has no types)
        """Find the GPUs.

        Args:
            nvml: The module `pynvml`.
            metrics: Metrics to set.

        Raises:
            Exception: An error of the library, such as a missing driver.
        """
        self._nvml = nvml
        self._metrics = metrics
        nvml.nvmlInit()
        self._handles = {
            str(index): nvml.nvmlDeviceGetHandleByIndex(index)
            for index in range(nvml.nvmlDeviceGetCount())
        }

    @property
    def num_gpus(self) -> int:
        """Number of GPUs."""
        return len(self._handles)

    def read(self) -> None:
        """Read every figure now, and remove the metrics of figures that cannot be read."""
        nvml, metrics = self._nvml, self._metrics
        figures: dict[Gauge, Callable[[Any], float]] = {
            metrics.gpu_busy: lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
            metrics.gpu_memory_used: lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            metrics.gpu_memory: lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
            metrics.gpu_temperature: lambda gpu: nvml.nvmlDeviceGetTemperature(
                gpu, nvml.NVML_TEMPERATURE_GPU
            ),
            metrics.gpu_power: lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
            metrics.gpu_ecc_errors: lambda gpu: nvml.nvmlDeviceGetTotalEccErrors(
                gpu, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            ),
        }
        for name, gpu in self._handles.items():
            for gauge, read in figures.items():
                value = self._try(lambda read=read, gpu=gpu: read(gpu))
                _set(gauge, (name,), value)
            reasons = self._try(lambda gpu=gpu: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
            for reason, bit in _SLOWDOWNS.items():
                value = None if reasons is None else float(bool(int(reasons) & bit))
                _set(metrics.gpu_slowed, (name, reason), value)

    def _try(self, read: Callable[[], float]) -> float | None:
        try:
            return read()
        except self._nvml.NVMLError:
            return None


def start_gpu_metrics(device: str, metrics: Metrics) -> None:
    """Begin to read the GPUs' figures if the engine computes on a GPU; raises no error.

    Args:
        device: Device of the engine.
        metrics: Metrics to set.
    """
    if device == "cpu":
        return
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        log.info("no_gpu_metrics", reason="nvidia-ml-py is not installed (extra gpu)")
        return

    def work() -> None:
        try:
            gpus = GpuMetrics(nvml, metrics)
        except nvml.NVMLError as error:
            log.info("no_gpu_metrics", reason=str(error))
            return
        log.info("gpu_metrics", gpus=gpus.num_gpus)
        while True:
            gpus.read()
            time.sleep(_PERIOD_S)

    threading.Thread(target=work, name="gpu-metrics", daemon=True).start()


def _set(gauge: Gauge, labels: tuple[str, ...], value: float | None) -> None:
    if value is None:
        gauge.remove(*labels)
    else:
        gauge.labels(*labels).set(value)
