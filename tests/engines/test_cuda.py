"""What CUDA says of a machine without a GPU, in words for people."""

import enum
from types import ModuleType

import pytest

from engines import cuda
from engines.protocol import EngineError
from semsr.cli import main


class Status(enum.IntEnum):
    """Some of the runtime's own, which names them in mixed case."""

    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorNoDevice = 100  # noqa: N815


def runtime_that_answers(monkeypatch: pytest.MonkeyPatch, status: Status, *, gpu: str) -> None:
    """Put a runtime in place of CUDA's that fails with a status, and a driver that names a GPU."""
    runtime = ModuleType("cuda.bindings.runtime")
    runtime.cudaGetDeviceCount = lambda: (status,)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(cuda.importlib, "import_module", lambda _: runtime)
    monkeypatch.setattr(cuda, "gpu_name", lambda _: gpu)


@pytest.mark.parametrize(
    ("status", "gpu", "words"),
    [
        (
            Status.cudaErrorInsufficientDriver,
            "",
            "no NVIDIA GPU or driver found (cudaErrorInsufficientDriver)",
        ),
        (Status.cudaErrorNoDevice, "", "no NVIDIA GPU or driver found (cudaErrorNoDevice)"),
        (
            Status.cudaErrorInsufficientDriver,
            "H200",
            "the NVIDIA driver is too old for the installed CUDA packages "
            "(cudaErrorInsufficientDriver)",
        ),
        (
            Status.cudaErrorMemoryAllocation,
            "H200",
            "cudaGetDeviceCount failed: cudaErrorMemoryAllocation",
        ),
    ],
)
def test_a_status_is_explained(
    monkeypatch: pytest.MonkeyPatch, status: Status, gpu: str, words: str
) -> None:
    """No GPU, an old driver and anything else have texts of their own, which keep the status."""
    runtime_that_answers(monkeypatch, status, gpu=gpu)

    with pytest.raises(EngineError) as caught:
        cuda.Cuda("cuda")
    assert words == str(caught.value)


def test_plans_for_another_machine_are_named_where_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`build-plans` without a GPU: wrong use, with the option that needs none."""
    runtime_that_answers(monkeypatch, Status.cudaErrorNoDevice, gpu="")

    assert 2 == main(["bundle", "build-plans", "tests/data/tiny_bundle", "--plans", "out/plans"])
    error = capsys.readouterr().err
    assert error.startswith("semsr: no NVIDIA GPU or driver found (cudaErrorNoDevice); --compute")
