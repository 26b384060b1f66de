"""What this machine can reach: a bundle so heavy in arithmetic that nothing else counts.

Four convolutions of 256 channels on 96x96 pixels: the weights stay in the cache, the activations
are few, every runtime has its best kernels for it. Through the same engine and precision it gives
the multiply-adds a second that a real network's are a share of.
"""

import hashlib
from pathlib import Path

import numpy as np

from export.bundle import FLAGS, Bundle, npy_bytes, write_bundle
from export.exporter import GRAPHS
from export.int8 import quantize
from export.parity import Reference
from export.to_onnx import to_onnx
from models import build_generator
from models.cost import count_gmac

CHANNELS = 256
NUM_BLOCKS = 4
TILE = (96, 96)
MAX_BATCH_SIZE = 4


def write_peak_bundle(path: Path) -> Bundle:
    """Write the bundle, random weights in FP32, BF16 and INT8; needs torch and onnx."""
    generator = build_generator("rep_sr", {"channels": CHANNELS, "num_blocks": NUM_BLOCKS})
    graph = to_onnx(generator, tile=TILE)
    rng = np.random.default_rng(0)
    tiles = list(rng.integers(0, 256, (4, *TILE), dtype=np.uint8))
    golden = tiles[0][None, None]
    files = {
        GRAPHS["fp32"]: graph,
        # Its pictures do not matter, so that any PSNR will do.
        GRAPHS["int8"]: quantize(graph, tiles, extremes=[], min_psnr_db=0.0).graph,
        "golden/lr.npy": npy_bytes(golden),
        "golden/sr.npy": npy_bytes(Reference(generator)(golden)),
    }
    return write_bundle(
        path,
        files=files,
        manifest_fields={
            "name": "peak",
            "generator": {"name": "rep_sr", "hyper_parameters": generator.hyper_parameters},
            "scale": generator.scale,
            "tile": TILE,
            "halo_px": generator.receptive_radius_px,
            "gmac": count_gmac(generator.merged(), tile=TILE),
            "max_batch_size": MAX_BATCH_SIZE,
            "precision": "fp32",
            "graphs": {name: GRAPHS[name] for name in ("fp32", "bf16", "int8")},
            "flags": FLAGS,
            "window": None,
            "source_checkpoint_sha256": hashlib.sha256(b"random weights").hexdigest(),
            "training": {"data": "none: random weights, to measure a machine"},
            "lr_domain": None,
            "parity": {},
        },
    )
