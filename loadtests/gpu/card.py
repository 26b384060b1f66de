"""The card: its name and driver, and how busy it is while a block runs; by `nvidia-smi`."""

import importlib.metadata
import statistics
import subprocess
from typing import Any

PERIOD_MS = 200
_TIMEOUT_S = 20.0
_TORCH_AND_RUNTIMES = ("torch", "onnxruntime-gpu", "onnxruntime", "tensorrt")


def describe_card(device: str) -> dict[str, Any]:
    """Return the card's name and driver, and the versions of the installed runtimes.

    Args:
        device: `cpu` has no card.
    """
    versions: list[str] = []
    for package in _TORCH_AND_RUNTIMES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    found: dict[str, Any] = {"runtimes": ", ".join(versions)}
    if device == "cuda":
        found["card"] = _query("name,driver_version,memory.total") or "unknown card"
    return found


def _query(fields: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return child.stdout.strip()


class CardWatch:
    """Samples the load of the card while its block runs; has no figures without `nvidia-smi`.

    The driver reports the share of its last sample period, of up to a second, in which a kernel
    ran. It says nothing about how much of the card a kernel used.
    """

    def __init__(self, device: str) -> None:
        self._is_on = device == "cuda"
        self._child: subprocess.Popen[str] | None = None
        self._busy: list[float] = []
        self._memory_mib: list[float] = []

    def __enter__(self) -> "CardWatch":
        command = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--id=0"]
        command += ["--format=csv,noheader,nounits", f"--loop-ms={PERIOD_MS}"]
        if self._is_on:
            try:
                self._child = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            except OSError:
                self._is_on = False
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling."""
        if self._child is None:
            return
        self._child.terminate()
        self.read(self._child.communicate()[0])

    def read(self, text: str) -> None:
        """Read the samples of `nvidia-smi`; what is not a number, such as `[N/A]`, is left out."""
        for line in text.splitlines():
            parts = [part.strip() for part in line.split(",")]
            if len(parts) == 2 and all(map(str.isdigit, parts)):
                self._busy.append(float(parts[0]))
                self._memory_mib.append(float(parts[1]))

    def row(self) -> dict[str, float]:
        """Return `busy_percent`, the median of the samples, and `card_gib`, the most memory used.

        The median, because a load begins after the block and ends before it.
        """
        if not self._busy:
            return {}
        return {
            "busy_percent": statistics.median(self._busy),
            "card_gib": max(self._memory_mib) / 1024,
        }
