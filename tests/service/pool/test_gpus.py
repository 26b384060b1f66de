"""Devices of engine processes: spread over the GPUs, shared, or named wrongly."""

import subprocess
import sys
from typing import Any

import pytest

from service.pool import gpus
from service.pool.gpus import Devices, GpuError, count_gpus


@pytest.mark.parametrize(
    ("device", "num_gpus", "expected"),
    [
        ("cpu", 0, ["cpu", "cpu", "cpu"]),
        ("cuda", 4, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda:1", 2, ["cuda:1", "cuda:1", "cuda:1"]),
        # Unknown GPUs: the engine reports what is missing.
        ("cuda", 0, ["cuda", "cuda", "cuda"]),
        ("cuda:1", 0, ["cuda:1", "cuda:1", "cuda:1"]),
    ],
)
def test_processes_are_spread_over_the_gpus(
    device: str, num_gpus: int, expected: list[str]
) -> None:
    """The next one goes to the GPU with the fewest."""
    devices = Devices(device, num_gpus)
    assert expected == [devices.take() for _ in expected]


def test_a_gpu_that_was_given_back_is_the_next() -> None:
    """A new version is not put on the GPU of one that is being retired, but on the free one."""
    devices = Devices("cuda", 3)
    taken = [devices.take() for _ in range(3)]
    devices.give_back(taken[1])
    assert devices.take() == "cuda:1"


@pytest.mark.parametrize(
    ("num_gpus", "words"),
    [
        (1, r"SEMSR_DEVICE is cuda:4; expected cuda:0, or cuda for all .* shows 1 "),
        (4, r"SEMSR_DEVICE is cuda:4; expected cuda:0 to cuda:3, or cuda .* shows 4 "),
    ],
)
def test_a_gpu_that_does_not_exist_is_refused(num_gpus: int, words: str) -> None:
    """With the ones that do."""
    with pytest.raises(GpuError, match=words):
        Devices("cuda:4", num_gpus)


def test_the_driver_s_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first number without a name ends them."""
    names = {"cuda:0": "NVIDIA H200", "cuda:1": "NVIDIA H200"}
    monkeypatch.setattr(gpus, "gpu_name", lambda device: names.get(device, ""))
    assert gpus._count_here() == 2


def test_without_a_driver_there_are_none(capfd: pytest.CaptureFixture[str]) -> None:
    """The child is run as it is, on a machine without GPUs."""
    if gpus._count_here():
        pytest.skip("this machine has GPUs")
    assert count_gpus() == 0
    assert "gpus_not_counted" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "failure",
    [
        subprocess.TimeoutExpired([sys.executable], 60.0),
        subprocess.CalledProcessError(-6, [sys.executable]),
    ],
)
def test_a_driver_that_hangs_or_aborts_does_not_end_the_supervisor(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPUs are unknown then."""

    def run(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(gpus.subprocess, "run", run)
    assert count_gpus() == 0
