"""CUDA on a machine without a GPU: its errors in words for people, and its real bindings."""

import enum
import inspect
import re
from types import ModuleType

import numpy as np
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
        cuda.Cuda("cuda", engine="tensorrt")
    assert words == str(caught.value)


def test_plans_for_another_machine_are_named_where_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`build-plans` without a GPU: wrong use, with the option that needs none."""
    runtime_that_answers(monkeypatch, Status.cudaErrorNoDevice, gpu="")

    assert 2 == main(["bundle", "build-plans", "tests/data/tiny_bundle", "--plans", "out/plans"])
    error = capsys.readouterr().err
    assert error.startswith("semsr: no NVIDIA GPU or driver found (cudaErrorNoDevice); --compute")


def test_every_name_that_we_use_is_in_the_bindings() -> None:
    """Functions, flags and members of enumerations."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    enums = ("cudaError_t", "cudaDeviceAttr", "cudaMemcpyKind", "cudaStreamCaptureMode")
    places = [runtime, *(getattr(runtime, name) for name in enums)]
    names = set(re.findall(r"\bcuda[A-Z]\w+", inspect.getsource(cuda.Cuda)))
    names |= set(cuda._ABSENT)

    assert len(names) > 25
    assert [] == [name for name in sorted(names) if not any(hasattr(at, name) for at in places)]


TILE = np.zeros((8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("use", ()),
        ("compute_capability", ()),
        ("stream", ()),
        ("device_buffer", (4096,)),
        ("pinned", ((2, 6), np.float32)),
        ("register", (TILE,)),
        ("clear", (4096, 16, 1)),
        ("upload", (4096, TILE, 1)),
        ("download", (TILE, 4096, 1)),
        ("synchronize", (1,)),
        ("capture", (lambda: None, 1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_bindings_take_our_arguments(
    method: str, arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong number or type of arguments would be a TypeError before CUDA finds no driver."""
    pytest.importorskip("cuda.bindings.runtime")
    if cuda.gpu_name("cuda"):
        pytest.skip("there is a GPU, which these addresses would break")
    with monkeypatch.context() as patch:
        patch.setattr(cuda.Cuda, "_call", lambda _self, _name, *_arguments: 1)
        gpu = cuda.Cuda("cuda", engine="test")

    with pytest.raises(EngineError, match="no NVIDIA GPU or driver found"):
        getattr(gpu, method)(*arguments)
