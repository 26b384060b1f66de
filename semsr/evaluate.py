"""Evaluates bundles and engines with `training.evaluation`.

The code is here because `training` must not import bundles or engines.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle_format.bundle import load_bundle
from engines.batches import run_batch
from engines.cpu import available_cpus
from engines.protocol import EngineOptions
from engines.registry import load_engine
from semsr.evaluate_arguments import NamedBundle
from semsr.own_detector import OnnxDetector
from service.images import tiling
from service.images.quality import of_tiles
from training.detector import load_detector
from training.detector.weight_file import SHIPPED
from training.evaluation.compared.checkpoints import checkpoint_method
from training.evaluation.compared.cost import median_ms
from training.evaluation.compared.methods import Method, Role, upscaler_method
from training.evaluation.folders.benchmark import Picture
from training.evaluation.measures.kernel_distance import TAPS, FeatureNetwork
from training.evaluation.report.report import Report
from training.evaluation.run import Options, evaluate
from training.evaluation.sets.measurement import Judge
from training.losses.features import load_vgg16


def bundle_method(named: NamedBundle, *, role: Role, engine: str) -> Method:
    """Load a bundle as a method of the evaluation: its engine, its GMAC, and its measured time.

    A path to a file is taken as a checkpoint, which torch runs. An engine stays
    loaded until the process ends.

    Raises:
        BundleError: The folder is not a bundle, or a damaged one.
        CheckpointError: The file is not a checkpoint.
        EngineError: The engine cannot be loaded.
    """
    if named.path.is_file():
        return checkpoint_method(named.name, named.path, role=role, group=named.group)
    bundle = load_bundle(named.path)
    manifest = bundle.manifest
    loaded = load_engine(
        engine, bundle, EngineOptions(precision=manifest.precision, threads=available_cpus())
    )

    def flagged(lr: Picture) -> tuple[Picture, dict[str, float]]:
        # As in the service, so that pictures of any size are judged as they are served.
        plan = tiling.plan(
            *lr.shape, tile=manifest.tile, halo_px=manifest.halo_px, grid_px=manifest.grid_px
        )
        outputs = [
            run_batch(loaded, np.ascontiguousarray(tile)[None, None]) for tile in plan.split(lr)
        ]
        quality = of_tiles([output.flags[0] for output in outputs])
        quality.check()
        sr = plan.merge([output.sr[0, 0] for output in outputs], scale=manifest.scale)
        judged = {"residual": quality.residual, "domain_distance": quality.domain_distance}
        return sr, {name: value for name, value in judged.items() if value is not None}

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return flagged(lr[0, 0])[0][None, None]

    def one_tile(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return run_batch(loaded, lr).sr

    noise = np.random.default_rng(0).integers(0, 256, manifest.tile, dtype=np.uint8)
    method = upscaler_method(
        named.name,
        upscale,
        scale=manifest.scale,
        role=role,
        group=named.group,
        gmac=manifest.gmac,
        ms=median_ms(one_tile, noise),
        version=f"{bundle.version}/{loaded.name}/{loaded.precision}",
    )
    return replace(method, flagged=flagged)


def load_features(vgg16: Path | None) -> FeatureNetwork | None:
    """Load the feature network of the kernel distance; None without a file.

    Raises:
        FeatureWeightsError: The weights cannot be used.
    """
    return None if vgg16 is None else load_vgg16(vgg16, taps=tuple(TAPS))


def load_own_detector(path: Path | None, threshold: float) -> OnnxDetector | None:
    """Load a fab's own detector; None without a file.

    Raises:
        OwnDetectorError: The file does not keep the contract of `own_detector`.
    """
    if path is None:
        return None
    detector = OnnxDetector(path, threshold=threshold)
    detector.check()
    return detector


def evaluate_methods(
    methods: Sequence[Method],
    options: Options,
    *,
    vgg16: Path | None,
    features: FeatureNetwork | None,
    detector: Path | None = None,
    own_detector: OnnxDetector | None = None,
) -> Report:
    """Evaluate methods; on a benchmark with the judge that the detector and the features make.

    Args:
        methods: Candidates and baselines.
        options: Data and options of the evaluation.
        vgg16: Weights of the feature network; None for none.
        features: The feature network, from `load_features`.
        detector: Weights of the detector; None for the shipped one.
        own_detector: The fab's own detector, which replaces the other; None for none.
    """
    judge, judge_version, description = None, "", {}
    if options.benchmark is not None:
        judge, judge_version, description = make_judge(
            detector=own_detector or detector, vgg16=vgg16, features=features
        )
    return evaluate(
        methods,
        options,
        judge=judge,
        judge_version=judge_version,
        detector_description=description,
        features=features,
        own_detector=own_detector,
    )


def make_judge(
    *, detector: Path | OnnxDetector | None, vgg16: Path | None, features: FeatureNetwork | None
) -> tuple[Judge, str, dict[str, Any]]:
    """Load the judge of a benchmark's pictures.

    Args:
        detector: Weights of the detector, or a loaded one; None for the shipped one.
        vgg16: Weights of the feature network, which name it in the cache; None for none.
        features: The feature network, from `load_features`.

    Returns:
        The judge, the identity of its weights, and the detector's description.
    """
    if isinstance(detector, OnnxDetector):
        loaded, file = detector, detector.path
        description = {"file": str(detector.path.name)}
        known = f"{detector.threshold} "
    else:
        loaded, file, known = load_detector(detector), detector or SHIPPED, ""
        description = loaded.description
    files = [file, *([] if vgg16 is None else [vgg16])]
    version = " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return Judge(detector=loaded, features=features), known + version, description
