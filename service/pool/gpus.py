"""The GPUs of a pool: which exist, and which of them an engine process computes on.

`python -m service.pool.gpus` prints the number of GPUs. The supervisor counts them in this child,
because a driver may hang or abort, and the supervisor must survive both.
"""

import subprocess
import sys
from collections import Counter

import structlog

from engines.cuda import gpu_name

log = structlog.get_logger()

_TIMEOUT_S = 60.0
# More than a machine has; a driver that names every number must not be asked indefinitely.
_MAX_GPUS = 128


class GpuError(ValueError):
    """A GPU that does not exist."""


class Devices:
    """Gives each engine process of a pool its device."""

    def __init__(self, device: str, num_gpus: int) -> None:
        """Begin without engine processes.

        Args:
            device: Device of the settings. `cuda` spreads the processes over all GPUs, and
                `cuda:N` gives all of them the same one.
            num_gpus: Number of GPUs; 0 if they are unknown, and the engine then reports what is
                missing.

        Raises:
            GpuError: The settings name a GPU that does not exist.
        """
        kind, _, number = device.partition(":")
        if number and num_gpus and int(number) >= num_gpus:
            raise GpuError(
                f"SEMSR_DEVICE is {device}; expected {_names(num_gpus)}, or cuda for all of them: "
                f"the driver shows {num_gpus} (CUDA_VISIBLE_DEVICES selects and orders them)"
            )
        is_spread = kind == "cuda" and not number and num_gpus
        self._names = [f"cuda:{n}" for n in range(num_gpus)] if is_spread else [device]
        self._used = Counter[str]()

    def take(self) -> str:
        """Return the device with the fewest engine processes, the first of several."""
        device = min(self._names, key=lambda name: self._used[name])
        self._used[device] += 1
        return device

    def give_back(self, device: str) -> None:
        """Note that an engine process has left its device."""
        self._used[device] -= 1


def count_gpus() -> int:
    """Count the GPUs that the driver shows; 0 if there are none, or the driver does not answer."""
    command = [sys.executable, "-m", "service.pool.gpus"]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        return int(child.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("gpus_not_counted", error=str(error))
        return 0


def _names(num_gpus: int) -> str:
    return "cuda:0" if num_gpus == 1 else f"cuda:0 to cuda:{num_gpus - 1}"


def _count_here() -> int:
    return next((n for n in range(_MAX_GPUS) if not gpu_name(f"cuda:{n}")), _MAX_GPUS)


if __name__ == "__main__":
    sys.stdout.write(f"{_count_here()}\n")
