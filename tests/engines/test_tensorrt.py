"""TensorRT: plans are built, kept and refused, and the engine knows TensorRT's names.

There is no GPU where these tests run. TensorRT for RTX needs none to build plans. Plans are run
only on a GPU; the lanes that feed them are those of `test_onnx_lanes`.
"""

import ast
import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from bundle_format.bundle import Bundle, load_bundle
from bundle_format.bundle_writer import write_bundle
from engines import tensorrt_engine, tensorrt_plans
from engines.protocol import EngineError, EngineOptions, batch_buckets
from engines.registry import load_engine
from engines.tensorrt_plans import PlanKey, build_plans, read_plan
from tests.bundles import bundle_files, manifest_fields
from tests.engines.fake_gpu import FakeCuda

TINY_BUNDLE = Path(__file__).parent.parent / "data" / "tiny_bundle"
KEY = PlanKey(
    onnx_sha256="ab" * 32,
    module="tensorrt",
    module_version="11.4.0",
    compute_capability=89,
    batch=4,
    tile=(240, 240),
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose graph is never parsed; its golden output repeats pixels."""
    return write_bundle(
        tmp_path / "bundle", files=bundle_files(), manifest_fields=manifest_fields()
    )


@pytest.mark.parametrize(
    ("largest", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])]
)
def test_buckets_are_powers_of_two_and_the_largest(largest: int, expected: list[int]):
    """Every batch size finds a bucket that is at most twice as large."""
    assert batch_buckets(largest) == expected


class TestPlans:
    """The cache: what is written is what is read, and nothing else is."""

    def test_a_plan_comes_back(self, tmp_path: Path):
        """Bytes in, bytes out, under a name that says what they are."""
        tensorrt_plans._write(tmp_path / KEY.file_name, KEY, b"plan")
        assert read_plan(tmp_path, KEY) == b"plan"
        assert KEY.file_name.startswith("tensorrt-11.4.0-sm89-b4-240x240-")
        assert [KEY.file_name] == [path.name for path in tmp_path.iterdir()]

    @pytest.mark.parametrize(
        "other",
        [
            {"onnx_sha256": "cd" * 32},
            {"module": "tensorrt_rtx"},
            {"module_version": "11.5.0"},
            {"compute_capability": 90},
            {"batch": 8},
            {"tile": (244, 244)},
        ],
    )
    def test_a_plan_for_something_else_is_not_found(self, tmp_path: Path, other: dict[str, Any]):
        """The message names what is wanted, what is there, and how to build it."""
        tensorrt_plans._write(tmp_path / KEY.file_name, KEY, b"plan")
        with pytest.raises(EngineError, match=r"has no TensorRT plan .* build-plans") as caught:
            read_plan(tmp_path, replace(KEY, **other))
        assert KEY.file_name in str(caught.value)

    def test_a_renamed_plan_is_refused(self, tmp_path: Path):
        """The header is believed, not the name."""
        other = replace(KEY, compute_capability=90)
        tensorrt_plans._write(tmp_path / other.file_name, KEY, b"plan")
        with pytest.raises(EngineError, match="is for compute_capability 89, not 90"):
            read_plan(tmp_path, other)

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda content: content[:-1] + b"!", "does not match its sha256"),
            (lambda content: content[:-2], "does not match its sha256"),
            (lambda content: content[:12], "is not a TensorRT plan"),
            (lambda content: b"PK" + content, "is not a TensorRT plan"),
            (lambda content: content[:8] + b"\x02" + content[9:], "has format version 2"),
            (lambda content: content[:16] + b"!" + content[17:], "header .* is damaged"),
            (lambda content: content[:12] + b"\xff\xff\xff\xff" + content[16:], "is damaged"),
        ],
        ids=["changed", "cut", "head only", "other", "version", "header", "length"],
    )
    def test_a_damaged_plan_is_refused(
        self, tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
    ):
        """TensorRT runs what it is given, so it is given nothing that was not checked."""
        path = tmp_path / KEY.file_name
        tensorrt_plans._write(path, KEY, b"plan")
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(EngineError, match=reason):
            read_plan(tmp_path, KEY)

    def test_plans_that_fit_are_not_built_again(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A second install step takes no time; a damaged plan is built again."""
        built: list[int] = []

        def build(_trt: object, _graph: bytes, key: PlanKey) -> bytes:
            built.append(key.batch)
            return b"plan"

        module = SimpleNamespace(__name__="tensorrt", __version__="11.4.0")
        monkeypatch.setattr(tensorrt_plans, "import_tensorrt", lambda: module)
        monkeypatch.setattr(tensorrt_plans, "_build", build)
        paths = build_plans(bundle, "fp32", tmp_path / "plans", compute_capability=89)
        assert built == [1, 2, 4]
        paths[1].write_bytes(b"")
        assert paths == build_plans(bundle, "fp32", tmp_path / "plans", compute_capability=89)
        assert built == [1, 2, 4, 2]

    def test_without_tensorrt_the_packages_are_named(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The message says which extra is for which card."""
        monkeypatch.setattr(tensorrt_plans, "MODULES", ("no_such_tensorrt",))
        with pytest.raises(EngineError, match=r"no_such_tensorrt.* extra gpu.* extra rtx"):
            build_plans(bundle, "fp32", tmp_path, compute_capability=89)


class TestBuild:
    """TensorRT for RTX builds plans without a GPU."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("tensorrt_rtx_bindings")

    @pytest.mark.parametrize("capability", [89, 120])
    def test_the_exported_graph_becomes_a_plan(self, tmp_path: Path, capability: int):
        """TensorRT parses what we export: uint8 in and out, the hash, the flags."""
        bundle = load_bundle(TINY_BUNDLE)
        paths = build_plans(bundle, "fp32", tmp_path, compute_capability=capability)
        assert [path.name.split("-")[3] for path in paths] == ["b1", "b2", "b4"]
        head = paths[0].read_bytes()[:2000]
        header = json.loads(head[16 : 16 + int.from_bytes(head[12:16], "little")])
        assert header["compute_capability"] == capability
        assert header["tile"] == [24, 24]

    def test_a_card_that_it_does_not_know_is_refused(self, tmp_path: Path):
        """The message names the known ones."""
        with pytest.raises(EngineError, match=r"builds for .*SM89.*, not for SM10"):
            build_plans(load_bundle(TINY_BUNDLE), "fp32", tmp_path, compute_capability=10)

    def test_a_graph_that_is_none_is_refused(self, bundle: Bundle, tmp_path: Path):
        """With the parser's words."""
        with pytest.raises(EngineError, match="refuses the graph"):
            build_plans(bundle, "fp32", tmp_path, compute_capability=89)
        assert list(tmp_path.glob("*.plan")) == []


class TestApi:
    """The engine never ran on a GPU, so its names are checked in NVIDIA's own package."""

    NAMES: ClassVar[dict[str, str]] = {
        "runtime": "Runtime",
        "engine": "ICudaEngine",
        "context": "IExecutionContext",
        "builder": "Builder",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
    }

    @pytest.mark.parametrize("module", [tensorrt_engine, tensorrt_plans])
    def test_every_name_that_the_engine_uses_exists(self, module: ModuleType) -> None:
        """Attributes of the module and of its objects, by the names of our variables."""
        trt = pytest.importorskip("tensorrt_rtx_bindings")
        known = {"trt": trt} | {ours: getattr(trt, theirs) for ours, theirs in self.NAMES.items()}
        checked: set[str] = set()
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            chain = ast.unparse(node).split(".") if isinstance(node, ast.Attribute) else []
            if chain and chain[0] in known and all(part.isidentifier() for part in chain):
                checked.add(".".join(chain))
                functools.reduce(getattr, chain[1:], known[chain[0]])

        assert len(checked) >= 6


class TestEngine:
    """Errors before anything is served."""

    @pytest.fixture
    def options(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> EngineOptions:
        """The real TensorRT for RTX, an empty cache of plans, and no GPU."""
        pytest.importorskip("tensorrt_rtx_bindings")
        monkeypatch.setattr(tensorrt_engine, "Cuda", lambda _device, engine: FakeCuda())
        return EngineOptions(precision="fp32", threads=1, device="cuda", plan_cache=str(tmp_path))

    def test_missing_plans_say_how_to_build_them(
        self, bundle: Bundle, options: EngineOptions
    ) -> None:
        """The message names the runtime and its version, the card and the batch size."""
        with pytest.raises(
            EngineError,
            match=r"no TensorRT plan for this graph, tensorrt_rtx_bindings [\d.]+, compute "
            r"capability 8\.9, batch 1, .* build-plans",
        ):
            load_engine("tensorrt", bundle, options)

    def test_it_does_not_run_on_a_cpu(self, bundle: Bundle, options: EngineOptions) -> None:
        """The device is a setting of its own, and the error names it."""
        with pytest.raises(EngineError, match="'tensorrt' runs on cuda, not on cpu"):
            load_engine("tensorrt", bundle, replace(options, device="cpu"))
