"""Measures a bundle's trust flags: runs its engine on planted failures.

The code is here because `training` must not import bundles, and `export` not the simulator.
"""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from scipy import ndimage

# ONNX Runtime's wheels send usage reports over the network unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from bundle_format.bundle import FLAGS, Bundle, load_bundle
from bundle_format.trust_record import NoiseRecord, TrustRecord
from engines.batches import run_batch
from engines.cpu import available_cpus
from engines.protocol import Engine, EngineOptions
from engines.registry import load_engine
from export.quality_flags import QualityFlags
from semsr.export_gates import load_calibration
from semsr.image_reading import reading_of_training
from training.evaluation.folders.benchmark import SPLITS, load_benchmark
from training.evaluation.trust.planted_failures import (
    FAILURES,
    PlantedFailure,
    plant_failures,
    render_twins,
)
from training.evaluation.trust.report import LIMIT, JudgedFailure, TrustReport
from training.ground.progress import progress, tracked

RESIDUAL, DOMAIN = FLAGS.index("residual"), FLAGS.index("domain_distance")
WHITE = 255.0
COST_TURNS = 30

Tile = NDArray[np.uint8]


class TrustEvaluationError(Exception):
    """A bundle has no trust record, or the benchmark was made by another simulator."""


def evaluate_trust(
    bundle_path: Path,
    benchmark_path: Path,
    *,
    split: str,
    limit: int | None,
    domain: Path | None,
    engine_name: str,
) -> TrustReport:
    """Measure false alarms, planted failures caught, domain distances and cost.

    Args:
        bundle_path: The bundle.
        benchmark_path: Folder that `semsr simulate` wrote, with another seed than the tiles that
            set the bundle's limits.
        split: `test` or `thousand`.
        limit: Number of tiles of each split; None for all.
        domain: Folder of tiles like those of the training, judged as they are and disturbed; or
            None. Files are read with the bundle's window and the training's number of rows.
        engine_name: Engine to run.

    Raises:
        TrustEvaluationError: The bundle has no trust record, or this simulator does not reproduce
            the benchmark's tiles from its seed.
        BenchmarkError: The folder is not a benchmark.
        BundleError: The folder is not a bundle.
        EngineError: The engine cannot be loaded.
    """
    bundle = load_bundle(bundle_path)
    trust = bundle.manifest.trust
    if trust is None:
        raise TrustEvaluationError(
            f"{bundle_path} has no trust record: export it with --domain FOLDER"
        )
    benchmark = load_benchmark(benchmark_path)
    defect_split, clean_split = SPLITS[split]
    options = EngineOptions(precision=bundle.manifest.precision, threads=available_cpus())
    engine = load_engine(engine_name, bundle, options)
    try:
        failures: list[JudgedFailure] = []
        served: list[float] = []
        for number, tile in enumerate(
            tracked(benchmark.tiles(defect_split)[:limit], "planting failures")
        ):
            twins = render_twins(defect_split, seed=benchmark.seed, number=number)
            if not np.array_equal(twins.lr, tile.lr()):
                raise TrustEvaluationError(
                    f"{tile.lr_path} is not what this simulator makes of seed {benchmark.seed}: "
                    "simulate the benchmark again"
                )
            answer = run_batch(engine, np.stack([twins.lr, twins.lr_without])[:, None])
            before = dict(zip(FAILURES, answer.flags[:, RESIDUAL].tolist(), strict=True))
            served.append(before["erased"])
            # A tile that alarms without a failure would count as caught with any failure.
            planted = (
                item
                for item in plant_failures(twins, answer.sr[0, 0], answer.sr[1, 0])
                if before[item.failure] <= LIMIT
            )
            failures += _judge(planted, trust, scale=bundle.manifest.scale)
        clean = np.stack(
            [
                run_batch(engine, tile.lr()[None, None]).flags[0]
                for tile in tracked(benchmark.tiles(clean_split)[:limit], "judging clean tiles")
            ]
        )
        domains = {f"{clean_split}, all scenes": clean[:, DOMAIN].tolist()}
        if domain is not None:
            reading = replace(
                reading_of_training(bundle.manifest.training), window=bundle.manifest.window
            )
            domains |= _domains(engine, load_calibration(domain, reading), trust.noise)
    finally:
        engine.close()
    with progress("timing the flags"):
        cost_share = flag_cost(bundle)
    return TrustReport(
        facts={
            "bundle": f"{bundle.manifest.name} {bundle.version}",
            "engine": f"{engine.name} {engine.precision}",
            "benchmark": f"seed {benchmark.seed}, {defect_split} and {clean_split}, "
            f"{benchmark.fingerprint[:12]}",
            "residual limit": f"{trust.residual_limit:g} deviations, by {trust.clean_tiles} tiles",
        },
        failures=failures,
        clean=clean[:, RESIDUAL].tolist(),
        served=served,
        domains=domains,
        cost_share=cost_share,
    )


def flag_cost(bundle: Bundle) -> float:
    """Return the share of the FP32 graph's time that residual and domain distance take.

    The graph with the two columns and a copy without them run in turns on one thread. The median of
    the pairs' ratios counts.
    """
    graph = bundle.graph("fp32")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for content in (_without_trust(graph), graph)
    ]
    lr = bundle.golden().lr
    shares = []
    for turn in range(COST_TURNS + 1):
        seconds = []
        for session in sessions:
            started_s = time.perf_counter()
            session.run(None, {"lr": lr})
            seconds.append(time.perf_counter() - started_s)
        if turn:  # the first one allocates
            shares.append(1 - seconds[0] / seconds[1])
    return statistics.median(shares)


def _without_trust(graph: bytes) -> bytes:
    """Remove the last two columns of `flags`, and the nodes that only they need, from a graph."""
    model = onnx.load_from_string(graph)
    nodes = list(model.graph.node)
    columns = next(node for node in nodes if "flags" in node.output)
    del columns.input[min(RESIDUAL, DOMAIN) :]
    model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = len(columns.input)
    needed = {value.name for value in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    return model.SerializeToString()


def _judge(
    planted: Iterator[PlantedFailure], trust: TrustRecord, *, scale: int
) -> Iterator[JudgedFailure]:
    """Compute the flag that a graph would give each failure's answer."""
    judge = QualityFlags(scale=scale, trust=trust)
    for item in planted:
        lr, sr = (
            torch.from_numpy(picture)[None, None].float() / WHITE for picture in (item.lr, item.sr)
        )
        with torch.inference_mode():
            flags = judge(lr, sr, sr)
        yield JudgedFailure(
            failure=item.failure,
            defect=item.defect,
            scene=item.scene,
            size_lr_px=item.size_lr_px,
            contrast_to_noise=item.contrast_to_noise,
            residual=float(flags[0, RESIDUAL]),
        )


def _domains(engine: Engine, tiles: Sequence[Tile], noise: NoiseRecord) -> dict[str, list[float]]:
    """Judge the domain's tiles as they are, and disturbed as under other scan conditions."""
    found: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    for tile in tracked(tiles, "judging tiles of the domain"):
        for name, picture in _disturbed(tile.astype(np.float64), noise, rng):
            lr = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
            flags = run_batch(engine, lr[None, None]).flags
            found.setdefault(name, []).append(float(flags[0, DOMAIN]))
    return found


def _disturbed(
    grey: NDArray[np.float64], noise: NoiseRecord, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    white = rng.standard_normal(grey.shape) * np.sqrt(noise.base + noise.slope * grey)
    yield "the domain's tiles as they are", grey
    yield "1.5 times the noise", grey + np.sqrt(1.5**2 - 1) * white
    yield "twice the noise", grey + np.sqrt(2**2 - 1) * white
    # The blur also removes noise, which is added again.
    for sigma_px, lost in ((1.0, 0.92), (2.0, 0.98)):
        blurred = ndimage.gaussian_filter(grey, sigma_px)
        yield f"out of focus by {sigma_px:g} px", blurred + np.sqrt(lost) * white
    yield "half the contrast", grey.mean() + 0.5 * (grey - grey.mean())
    yield "darker by 40 grey levels", grey - 40
    yield "inverted", WHITE - grey
