"""Bundles of random weights as references of speed, which does not depend on the weights' values.

The peak bundle holds a network whose time is almost only arithmetic: four convolutions of 256
channels on 96x96 pixels. Its weights stay in the cache, its activations are few, and every runtime
has its best kernels for it. Its multiply-adds per second are the peak of an engine and precision.

The paper's generator is ResNet-9 on the bicubic-enlarged tile, with 685 GMAC in its cheaper,
strided form.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bundle_format.bundle import FLAGS, Bundle, Precision, golden_files
from bundle_format.bundle_writer import write_bundle
from export.exporter import GRAPHS
from export.fp16 import to_fp16
from export.int8 import quantize
from export.parity import Reference
from export.to_onnx import to_onnx
from models import Generator, build_generator, save_network
from models.cost import count_gmac


def write_peak_bundle(path: Path) -> Bundle:
    """Write the peak bundle in FP32, BF16 and INT8; needs torch and onnx."""
    generator = build_generator("rep_sr", {"channels": 256, "num_blocks": 4})
    return _write(
        path,
        generator,
        name="peak",
        generator_name="rep_sr",
        tile=(96, 96),
        max_batch_size=4,
        precisions=("fp32", "bf16", "int8"),
    )


def write_paper_bundle(path: Path) -> Bundle:
    """Write the paper's generator, strided, in FP32, FP16 and BF16; needs torch and onnx."""
    generator = build_generator("resnet9", {"anti_aliased": False})
    return _write(
        path,
        generator,
        name="paper",
        generator_name="resnet9",
        tile=(240, 240),
        max_batch_size=64,
        precisions=("fp32", "fp16", "bf16"),
    )


def _write(
    path: Path,
    generator: Generator,
    *,
    name: str,
    generator_name: str,
    tile: tuple[int, int],
    max_batch_size: int,
    precisions: Sequence[Precision],
) -> Bundle:
    graph = to_onnx(generator, tile=tile)
    rng = np.random.default_rng(0)
    tiles = list(rng.integers(0, 256, (4, *tile), dtype=np.uint8))
    golden = tiles[0][None, None]
    training = {"data": "none: random weights, to measure a machine"}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model.safetensors"
        save_network(checkpoint, generator, training=training)
        weights = checkpoint.read_bytes()
    files = {
        GRAPHS["fp32"]: graph,
        "model.safetensors": weights,
        **golden_files(golden, Reference(generator)(golden)),
    }
    if "fp16" in precisions:
        files[GRAPHS["fp16"]] = to_fp16(graph)
    if "int8" in precisions:
        # Its pictures do not matter, so that any PSNR will do.
        files[GRAPHS["int8"]] = quantize(graph, tiles, extremes=[], min_psnr_db=0.0).graph
    return write_bundle(
        path,
        files=files,
        manifest_fields={
            "name": name,
            "generator": {
                "name": generator_name,
                "hyper_parameters": generator.hyper_parameters,
            },
            "scale": generator.scale,
            "tile": tile,
            "halo_px": generator.receptive_radius_px or 0,
            "grid_px": generator.grid_px,
            "gmac": count_gmac(generator.merged(), tile=tile),
            "max_batch_size": max_batch_size,
            "precision": "fp32",
            "graphs": {precision: GRAPHS[precision] for precision in precisions},
            "flags": FLAGS,
            "window": None,
            "source_checkpoint_sha256": hashlib.sha256(weights).hexdigest(),
            "training": training,
            "lr_domain": None,
            "parity": {},
        },
    )
