"""TensorRT builds plans of what the exporter writes; that of RTX cards needs no GPU for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from bundle_format.bundle import Precision, load_bundle
from engines.tensorrt_graphs import with_cast_last
from engines.tensorrt_plans import PlanKey, _build, plan_keys
from export.fp16 import to_fp16
from export.to_onnx import to_onnx
from models import build_generator

BUNDLES = Path(__file__).parents[2] / "bundles"
TILE = (48, 48)

TRT = pytest.importorskip("tensorrt_rtx_bindings")


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
    key = PlanKey(
        onnx_sha256="0" * 64,
        module=TRT.__name__,
        module_version=TRT.__version__,
        compute_capability=capability,
        batch=batch,
        tile=TILE,
    )

    plan = _build(TRT, graphs[precision], key)

    assert len(plan) > 10_000
    assert plan != _build(TRT, graphs[precision], replace(key, batch=2))


@pytest.mark.parametrize("name", ["default", "fast"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_shipped_graphs_become_plans(tmp_path: Path, name: str, precision: Precision) -> None:
    """They were exported with the answer's channel added after the cast to uint8."""
    bundle = load_bundle(BUNDLES / name)
    graph = bundle.graph(precision)
    changed = with_cast_last(graph)
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)
    lr = bundle.golden().lr[:, :, :64, :72]
    before, after = (
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(
            None, {"lr": lr}
        )
        for content in (graph, changed)
    )

    assert with_cast_last(changed) == changed != graph
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    key = replace(plan_keys(bundle, precision, trt=TRT, compute_capability=89)[0], tile=(64, 72))
    assert len(_build(TRT, changed, key)) > 10_000


def test_graphs_that_end_in_the_cast_stay_as_they_are(graphs: dict[str, bytes]) -> None:
    """As today's exporter writes them."""
    assert graphs["fp32"] == with_cast_last(graphs["fp32"])
