"""TensorRT builds plans of what the exporter writes; that of RTX cards needs no GPU for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from bundle_format.bundle import load_bundle
from engines.protocol import EngineError
from engines.tensorrt_plans import PlanKey, _build, build_plans, import_tensorrt
from export.fp16 import to_fp16
from export.to_onnx import to_onnx
from models import build_generator

BUNDLES = Path(__file__).parents[2] / "bundles"
TILE = (48, 48)

pytest.importorskip("tensorrt_rtx_bindings")


@pytest.fixture(scope="module")
def graphs() -> dict[str, bytes]:
    """The kind of network that ships, small, with all flags, in FP32 and FP16."""
    generator = build_generator(
        "grain_unet",
        {
            "channels": [20, 24],
            "blocks": [1, 1],
            "pad": 4,
            "smooth_grain": True,
            "layer_slopes": True,
            "grain_colours": 2,
        },
    )
    trust = load_bundle(BUNDLES / "fast").manifest.trust
    graph = to_onnx(generator, tile=TILE, trust=trust)
    return {"fp32": graph, "fp16": to_fp16(graph)}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("capability", [89, 120])
@pytest.mark.parametrize("batch", [1, 32])
def test_plans_are_built(
    graphs: dict[str, bytes], precision: str, capability: int, batch: int
) -> None:
    """For both generations of cards that TensorRT for RTX and we name."""
    trt = import_tensorrt()
    key = PlanKey(
        onnx_sha256="0" * 64,
        module=trt.__name__,
        module_version=trt.__version__,
        compute_capability=capability,
        batch=batch,
        tile=TILE,
    )

    plan = _build(trt, graphs[precision], key)

    assert len(plan) > 10_000
    assert plan != _build(trt, graphs[precision], replace(key, batch=2))


def test_a_graph_of_an_older_export_says_what_to_do(tmp_path: Path) -> None:
    """The shipped bundles end in uint8 that is reshaped, which TensorRT refuses."""
    with pytest.raises(EngineError, match=r"refuses the graph: .*UINT8.*; export the bundle again"):
        build_plans(load_bundle(BUNDLES / "fast"), "fp16", tmp_path, compute_capability=89)
