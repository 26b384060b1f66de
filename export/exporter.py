"""Checkpoint to bundle: export the graphs, prove them, describe them, write the folder.

    checkpoint.safetensors ── load ──> generator ── to_onnx ──> FP32 graph ──> FP16, INT8
                                                                 └─ parity, recall ──> bundle/

Nothing is written unless every precision passes its gates.
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import (
    FLAGS,
    TOLERANCES,
    Bundle,
    Precision,
    RecallRecord,
    golden_16_bit_file,
    golden_files,
    load_bundle,
)
from bundle_format.bundle_writer import check_target, write_bundle
from bundle_format.trust_record import TrustRecord
from export.cases import flat, golden_tile, grey_ramp
from export.fp16 import to_fp16
from export.half_weights import half_checkpoint, store_half
from export.int8 import Quantized, judging_tiles, quantize
from export.model_card import model_card
from export.parity import ParityRow, Reference, run_gate, summarise
from export.preflight import (
    RECALL_PRECISIONS,
    ExportError,
    check_enlarges,
    check_needs,
    check_tile,
    halo_of,
)
from export.shared_weights import share_weights
from export.sixteen_bit import GRAPH_16_BIT, compare_16_bit, to_16_bit
from export.to_onnx import to_onnx
from export.trust import TrustTiles, make_trust_record
from models import CheckpointInfo, Generator, load_generator
from models.cost import count_gmac

GRAPHS: dict[Precision, str] = {
    "fp32": "model.onnx",
    "fp16": "model.fp16.onnx",
    # BF16 is a way to run the FP32 graph.
    "bf16": "model.onnx",
    "int8": "model.int8.onnx",
}
"""File of each precision's graph."""

CHECKPOINT = "model.safetensors"

MAX_RECALL_LOSS = 0.01
INT8_PSNR_DB = (TOLERANCES["int8"].psnr_db or 0.0) + 0.5
"""Above the gate's PSNR: the gate looks at each tile, the search at all of them together."""

RecallJudge = Callable[[Bundle, Precision], RecallRecord]
Stage = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class ExportResult:
    """Result of an export.

    Attributes:
        bundle: Bundle, loaded back from disk.
        parity: Comparisons that the bundle passed.
    """

    bundle: Bundle
    parity: list[ParityRow]


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    name: str | None = None,
    tile: tuple[int, int] = (240, 240),
    max_batch_size: int = 32,
    window: tuple[int, int] | None = None,
    precisions: Sequence[Precision] = ("fp32",),
    calibration: Sequence[npt.NDArray[np.uint8]] = (),
    int8_psnr_db: float = INT8_PSNR_DB,
    recall_judge: RecallJudge | None = None,
    trust_tiles: TrustTiles | None = None,
    half_weights: bool = False,
    threads: int = 1,
    overwrite: bool = False,
    stage: Stage = nullcontext,
) -> ExportResult:
    """Export a checkpoint as a bundle.

    Args:
        checkpoint: File that `models.save_network` wrote.
        out: Folder of the bundle.
        name: Name of the model in answers and metrics; the folder's name if None.
        tile: Height and width of the LR tile.
        max_batch_size: Largest batch that the service may form.
        window: Default grey range lo, hi of 16-bit input.
        precisions: Precisions of the bundle; `fp32` is always among them, and the default.
        calibration: Training LR tiles, (H, W) uint8, for INT8; at least `export.int8.MIN_TILES`.
        int8_psnr_db: PSNR that INT8 must reach against FP32; more keeps more convolutions in FP32.
        recall_judge: Function that compares a precision's defect recall with that of FP32, for BF16
            and INT8.
        trust_tiles: Tiles without known defects, which set the limits of the flags `residual` and
            `domain_distance`; without them both flags are always -1.
        half_weights: Whether weights are rounded to FP16 and stored as such, at half the size; the
            graphs still compute in their own precision.
        threads: CPU threads for the parity step.
        overwrite: Whether a bundle in `out` may be replaced.
        stage: Function that shows what the export does while a context lasts.

    Raises:
        export.preflight.ExportError: The tile does not fit the network's grid or halo; an argument
            that a precision needs is missing; or a precision finds too few defects.
        export.int8.QuantizationError: INT8 cannot reach its PSNR.
        export.trust.TrustError: There are too few `trust_tiles`.
        models.CheckpointError: The file is not a semsr checkpoint.
        export.parity.ParityError: A graph's output differs too much from that of torch.
        engines.protocol.EngineError: No engine can run a precision here, so its graph cannot be
            compared.
        bundle_format.bundle.BundleError: The folder is taken, or cannot be written.
    """
    wanted: list[Precision] = list(dict.fromkeys(["fp32", *precisions]))
    check_target(out, overwrite=overwrite)
    check_needs(wanted, calibration, tile=tile, has_judge=recall_judge is not None)
    generator, info, weights = _load(checkpoint, half_weights=half_weights)
    check_enlarges(generator)
    check_tile(generator, tile)
    seen: list[npt.NDArray[np.uint8]] = list(calibration)
    if trust_tiles is not None:
        seen += [tile for domain in trust_tiles.domains for tile in domain]
    with stage("measuring how far tiles must overlap"):
        halo_px, seams = halo_of(generator, tile, seen)
    golden_lr = golden_tile(tile)
    reference = Reference(generator)
    trust = None
    if trust_tiles is not None:
        with stage("measuring the limits of the trust flags"):
            trust = make_trust_record(generator, trust_tiles)
    with stage(f"making the graphs ({', '.join(wanted)})"):
        graphs, quantized = _make_graphs(
            generator,
            wanted,
            tile=tile,
            calibration=calibration,
            int8_psnr_db=int8_psnr_db,
            trust=trust,
        )
    files = {
        **{
            name: share_weights(
                store_half(graph) if half_weights else graph, weights, location=CHECKPOINT
            )
            for name, graph in graphs.items()
        },
        CHECKPOINT: weights,
        **golden_files(golden_lr, reference(golden_lr)),
        **golden_16_bit_file(reference.sixteen_bit(golden_lr)),
    }
    fields: dict[str, Any] = {
        "name": name or out.name,
        "generator": {"name": info.generator, "hyper_parameters": info.hyper_parameters},
        "scale": generator.scale,
        "tile": tile,
        "halo_px": halo_px,
        "grid_px": generator.grid_px,
        "seams": seams,
        # The merged network is what the graphs compute; branches of training cost nothing there.
        "gmac": count_gmac(generator.merged(), tile=tile),
        "max_batch_size": max_batch_size,
        "precision": "fp32",
        "graphs": {precision: GRAPHS[precision] for precision in wanted},
        "sixteen_bit": {"graph": GRAPH_16_BIT},
        "flags": FLAGS,
        "window": window,
        "source_checkpoint_sha256": hashlib.sha256(weights).hexdigest(),
        "training": info.training,
        "lr_domain": info.training.get("lr_domain"),
        "trust": trust,
        "parity": {},
        "quantization": _quantization_record(quantized, calibration),
        "recall": {},
    }
    rows: list[ParityRow] = []
    with tempfile.TemporaryDirectory() as folder:
        # The engines that serve are what is compared, so they need a bundle to load.
        candidate = write_bundle(Path(folder) / "candidate", files=files, manifest_fields=fields)
        for precision in wanted:
            with stage(f"comparing {precision} with torch"):
                proven = run_gate(
                    reference,
                    candidate,
                    precision=precision,
                    threads=threads,
                    tiles=judging_tiles(calibration),
                )
            fields["parity"][precision] = summarise(proven)
            rows += proven
            if precision in RECALL_PRECISIONS and recall_judge is not None:
                fields["recall"][precision] = _judge_recall(recall_judge, candidate, precision)
        with stage("comparing answers of 16 bits with torch"):
            finely = compare_16_bit(reference, candidate, threads=threads)
        fields["sixteen_bit"]["parity"] = summarise(finely)
        rows += finely
    files["MODEL_CARD.md"] = model_card(fields).encode()
    write_bundle(out, files=files, manifest_fields=fields, overwrite=overwrite)
    return ExportResult(bundle=load_bundle(out), parity=rows)


def _load(checkpoint: Path, *, half_weights: bool) -> tuple[Generator, CheckpointInfo, bytes]:
    """Load the generator that is exported, and give the bytes of its checkpoint."""
    generator, info = load_generator(checkpoint)
    if not half_weights:
        return generator, info, checkpoint.read_bytes()
    try:
        weights = half_checkpoint(checkpoint)
    except ValueError as error:
        raise ExportError(f"{checkpoint}: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / CHECKPOINT
        rounded.write_bytes(weights)
        return (*load_generator(rounded), weights)


def _make_graphs(
    generator: Generator,
    precisions: Sequence[Precision],
    *,
    tile: tuple[int, int],
    calibration: Sequence[npt.NDArray[np.uint8]],
    int8_psnr_db: float,
    trust: TrustRecord | None,
) -> tuple[dict[str, bytes], Quantized | None]:
    graph = to_onnx(generator, tile=tile, trust=trust)
    files = {GRAPHS["fp32"]: graph, GRAPH_16_BIT: to_16_bit(graph)}
    quantized = None
    if "fp16" in precisions:
        files[GRAPHS["fp16"]] = to_fp16(graph)
    if "int8" in precisions:
        quantized = quantize(
            graph,
            calibration,
            extremes=[
                extreme[0, 0]
                for extreme in (
                    golden_tile(tile),
                    grey_ramp(tile),
                    flat(tile, 0),
                    flat(tile, 255),
                )
            ],
            min_psnr_db=int8_psnr_db,
        )
        files[GRAPHS["int8"]] = quantized.graph
    return files, quantized


def _quantization_record(
    quantized: Quantized | None, calibration: Sequence[npt.NDArray[np.uint8]]
) -> dict[str, Any] | None:
    if quantized is None:
        return None
    digest = hashlib.sha256()
    for tile in calibration:
        digest.update(np.ascontiguousarray(tile).tobytes())
    return {
        "quantized": quantized.quantized,
        "kept": quantized.kept,
        "psnr_db": quantized.psnr_db,
        "calibration_tiles": quantized.tiles,
        "calibration_sha256": digest.hexdigest(),
    }


def _judge_recall(judge: RecallJudge, bundle: Bundle, precision: Precision) -> RecallRecord:
    record = judge(bundle, precision)
    if record.fp32 - record.reduced > MAX_RECALL_LOSS:
        raise ExportError(
            f"{precision} finds {record.reduced:.1%} of the defects and fp32 {record.fp32:.1%} "
            f"({record.tiles} tiles): more than {MAX_RECALL_LOSS:.0%} lost"
        )
    return record
