"""Checkpoint to bundle: export the graph, prove it, describe it, write the folder.

    checkpoint.safetensors ── load ──> generator ── to_onnx ──> graph ── parity ──> bundle/

Nothing is written unless the parity gate passes.
"""

import hashlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.bundle import FLAGS, Bundle, Precision, load_bundle, write_bundle
from export.model_card import model_card
from export.parity import ParityRow, golden_tile, reference, run_gate, summarise
from export.to_onnx import to_onnx
from models import Generator, load_generator

PRECISION: Precision = "fp32"


class ExportError(Exception):
    """A checkpoint cannot be exported."""


@dataclass(frozen=True)
class ExportResult:
    """What an export made.

    Attributes:
        bundle: The bundle, loaded back from disk.
        parity: The comparisons that it passed.
    """

    bundle: Bundle
    parity: list[ParityRow]


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    name: str | None = None,
    tile: tuple[int, int] = (240, 240),
    max_batch_size: int = 4,
    window: tuple[int, int] | None = None,
    threads: int = 1,
) -> ExportResult:
    """Export a checkpoint as a bundle.

    Args:
        checkpoint: A file written by `models.save_generator`.
        out: Folder of the bundle; an existing bundle there is replaced.
        name: Name of the model in answers and metrics; the folder's name if None.
        tile: Height and width of the LR tile.
        max_batch_size: Largest batch that the service may form.
        window: Default grey range lo, hi of 16-bit input.
        threads: CPU threads for the parity step.

    Raises:
        ExportError: The network looks at the whole image, so that tiles could not be cut.
        models.CheckpointError: The file is no checkpoint of ours.
        export.parity.ParityError: The graph does not give what torch gives.
        export.bundle.BundleError: The folder cannot be written.
    """
    generator, info = load_generator(checkpoint)
    halo_px = _halo_px(generator, tile)
    graph = to_onnx(generator, tile=tile)
    golden_lr = golden_tile(tile)
    files = {
        "model.onnx": graph,
        "model.safetensors": checkpoint.read_bytes(),
        "golden/lr.npy": _npy(golden_lr),
        "golden/sr.npy": _npy(reference(generator, golden_lr)),
    }
    fields = {
        "name": name or out.name,
        "generator": {"name": info.generator, "hyper_parameters": info.hyper_parameters},
        "scale": generator.scale,
        "tile": tile,
        "halo_px": halo_px,
        "max_batch_size": max_batch_size,
        "precision": PRECISION,
        "graphs": {PRECISION: "model.onnx"},
        "flags": FLAGS,
        "window": window,
        "source_checkpoint_sha256": hashlib.sha256(files["model.safetensors"]).hexdigest(),
        "training": info.training,
        "lr_domain": info.training.get("lr_domain"),
        "parity": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        # The engine that serves is the one that is compared, so it needs a bundle to load.
        candidate = write_bundle(Path(folder) / "candidate", files=files, manifest_fields=fields)
        rows = run_gate(generator, candidate, precision=PRECISION, threads=threads)
    fields["parity"] = {PRECISION: summarise(rows)}
    files["MODEL_CARD.md"] = model_card(fields).encode()
    write_bundle(out, files=files, manifest_fields=fields)
    return ExportResult(bundle=load_bundle(out), parity=rows)


def _halo_px(generator: Generator, tile: tuple[int, int]) -> int:
    """How far tiles must overlap; a network without a bound can only see whole tiles."""
    radius = generator.receptive_radius_px
    if radius is None:
        # Instance norm makes every pixel depend on the whole tile: no halo can hide the seams, and
        # an overlap of a quarter at least keeps them from the worst of the border.
        return min(tile) // 4
    if 2 * radius >= min(tile):
        raise ExportError(
            f"the network looks {radius} px beyond each pixel, which a tile of "
            f"{tile[0]}x{tile[1]} px has no room for"
        )
    return radius


def _npy(array: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
