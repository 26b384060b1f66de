"""A stand-in for `pynvml`, made by hand: two cards, of which one lacks what many cards lack.

It has the functions that `service.hosting.gpu_metrics` calls, with the units of NVIDIA's own, and
nothing of a real driver.
"""

from types import SimpleNamespace


class NVMLError(Exception):
    """Any error of the library."""


class FakeNvml:
    """What `import pynvml` would give.

    Attributes:
        is_lost: Whether every card has fallen off its bus.
    """

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0

    def __init__(self, *, has_driver: bool = True) -> None:
        self.is_lost = False
        self._has_driver = has_driver

    def nvmlInit(self) -> None:  # noqa: N802 (NVIDIA's names, here and below)
        """Fail as it does without a driver."""
        if not self._has_driver:
            raise NVMLError("NVML Shared Library Not Found")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Two."""
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        """Give no index."""
        return f"card{index}"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        """Percent."""
        return SimpleNamespace(gpu=self._get(handle, card0=87, card1=0), memory=5)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        """Bytes."""
        return SimpleNamespace(used=self._get(handle, card0=3 << 30, card1=1), total=80 << 30)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:  # noqa: N802
        """Degrees Celsius."""
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._get(handle, card0=71, card1=30)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        """Milliwatts."""
        return self._get(handle, card0=412_500)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:  # noqa: N802
        """Bits: slowed down for power and, by software, for heat; the other one is idle."""
        return self._get(handle, card0=0x4 | 0x20, card1=0x1)

    def nvmlDeviceGetTotalEccErrors(self, handle: str, kind: int, since: int) -> int:  # noqa: N802
        """Errors; the second card has no ECC."""
        assert (kind, since) == (1, 0)
        return self._get(handle, card0=2)

    def _get(self, handle: str, **values: int) -> int:
        if self.is_lost or handle not in values:
            raise NVMLError("Not Supported")
        return values[handle]
