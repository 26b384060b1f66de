"""Figures of GPUs, with a stand-in at the library's boundary: no GPU takes part."""

import importlib
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from service.ground.metrics import Metrics
from service.hosting.gpu_metrics import GpuMetrics, start_gpu_metrics
from tests.service.hosting.fake_nvml import FakeNvml


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample of a GPU, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        if family.name.startswith("semsr_gpu_")
        for sample in family.samples
    }


def test_figures_have_base_units_and_a_card_s_number() -> None:
    """Shares, bytes, watts, and which of the reasons hold; what a card lacks is not there."""
    metrics = Metrics()
    GpuMetrics(FakeNvml(), metrics).read()
    found = values(metrics)
    assert found[("semsr_gpu_busy_ratio", "0")] == 0.87
    assert found[("semsr_gpu_memory_used_bytes", "0")] == 3 << 30
    assert found[("semsr_gpu_memory_bytes", "1")] == 80 << 30
    assert found[("semsr_gpu_temperature_celsius", "1")] == 30
    assert found[("semsr_gpu_power_watts", "0")] == 412.5
    assert found[("semsr_gpu_ecc_errors", "0")] == 2
    slowed = {key[1:] for key, value in found.items() if key[0] == "semsr_gpu_slowed" and value}
    assert slowed == {("0", "power_cap"), ("0", "heat_software")}
    assert ("semsr_gpu_power_watts", "1") not in found
    assert ("semsr_gpu_ecc_errors", "1") not in found


def test_a_card_that_is_lost_leaves_no_old_figures() -> None:
    """An empty panel says more than the last good value."""
    metrics, nvml = Metrics(), FakeNvml()
    gpus = GpuMetrics(nvml, metrics)
    gpus.read()
    nvml.is_lost = True
    gpus.read()
    assert values(metrics) == {}


def until(is_true: Callable[[], bool]) -> None:
    """Wait for the thread."""
    deadline_s = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_figures_come_by_themselves_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the moment at which the service starts."""
    monkeypatch.setattr(importlib, "import_module", lambda _name: FakeNvml())
    metrics = Metrics()
    start_gpu_metrics("cuda:1", metrics)
    until(lambda: ("semsr_gpu_busy_ratio", "0") in values(metrics))


@pytest.mark.parametrize(
    ("has_package", "reason"), [(False, "nvidia-ml-py"), (True, "Shared Library")]
)
def test_without_package_or_driver_there_are_none(
    has_package: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said once in the log, and no error."""

    def load(name: str) -> FakeNvml:
        if not has_package:
            raise ImportError(name)
        return FakeNvml(has_driver=False)

    monkeypatch.setattr(importlib, "import_module", load)
    metrics = Metrics()
    with capture_logs() as lines:
        start_gpu_metrics("cuda", metrics)
        until(lambda: bool(lines))
    assert [line["event"] for line in lines] == ["no_gpu_metrics"]
    assert reason in lines[0]["reason"]
    assert values(metrics) == {}


def test_a_service_on_the_cpu_asks_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards that it does not use are not its business."""

    def load(name: str) -> None:
        pytest.fail(f"{name} was imported")

    monkeypatch.setattr(importlib, "import_module", load)
    start_gpu_metrics("cpu", Metrics())
