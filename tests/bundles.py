"""Bundles for tests that need no network: well-formed files around a graph of any bytes."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from bundle_format.bundle import FLAGS, golden_files

TILE_PX = 8
SCALE = 4


def npy(array: np.ndarray) -> bytes:
    """An array as an npy file's bytes."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def bundle_files(*, tile_px: int = TILE_PX, graph: bytes = b"not a graph") -> dict[str, bytes]:
    """The files of a bundle whose golden output is nearest-neighbour x4."""
    lr = np.arange(tile_px * tile_px, dtype=np.uint8).reshape(1, 1, tile_px, tile_px)
    sr = lr.repeat(SCALE, axis=2).repeat(SCALE, axis=3)
    return {
        "model.onnx": graph,
        "model.safetensors": b"not a checkpoint",
        **golden_files(lr, sr),
        "MODEL_CARD.md": b"# Model card: test\n",
    }


def manifest_fields(*, tile_px: int = TILE_PX, **changes: object) -> dict[str, Any]:
    """The manifest fields that fit `bundle_files`."""
    return {
        "name": "test",
        "generator": {"name": "rep_sr", "hyper_parameters": {"channels": 4}},
        "scale": SCALE,
        "tile": (tile_px, tile_px),
        "halo_px": 1,
        "grid_px": 1,
        "gmac": 0.001,
        "max_batch_size": 4,
        "precision": "fp32",
        "graphs": {"fp32": "model.onnx"},
        "flags": FLAGS,
        "window": None,
        "source_checkpoint_sha256": "0" * 64,
        "training": {"data": "none: a test bundle"},
        "lr_domain": None,
        "parity": {},
        **changes,
    }


def edit_manifest(path: Path, **changes: object) -> None:
    """Overwrite fields of a bundle's manifest; an ellipsis removes one."""
    file = path / "manifest.json"
    fields = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: v for key, v in fields.items() if v is not ...}))
