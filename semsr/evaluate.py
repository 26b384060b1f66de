"""Puts an evaluation together: bundles and engines on one side, `training.evaluation` on the other.

Composed here because `training` knows no bundles and no engines.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import load_bundle
from service.engines import EngineOptions, load_engine
from service.engines.cpu import available_cpus
from training.detector import load_detector
from training.detector.weight_file import SHIPPED
from training.evaluation.checkpoints import checkpoint_method
from training.evaluation.cost import median_ms
from training.evaluation.kernel_distance import TAPS
from training.evaluation.measurement import Judge
from training.evaluation.methods import Method, MethodError, Role, pictures_method, upscaler_method
from training.features import load_vgg16


@dataclass(frozen=True, kw_only=True)
class NamedBundle:
    """One bundle and its row in the report; seeds of one method share a group."""

    name: str
    path: Path
    group: str | None = None


def parse_bundles(texts: Sequence[str]) -> list[NamedBundle]:
    """Read `DIR`, `NAME=DIR` or, for seeds of one method, `NAME=DIR,DIR,…`.

    Raises:
        ValueError: A name or a folder is empty.
    """
    bundles = []
    for text in texts:
        name, given, folders = text.rpartition("=")
        paths = [Path(part) for part in folders.split(",") if part]
        if not paths or (given and not name):
            raise ValueError(f"{text!r} names no bundle; expected DIR, NAME=DIR or NAME=DIR,DIR,…")
        name = name or _name_of(paths[0])
        if len(paths) == 1:
            bundles.append(NamedBundle(name=name, path=paths[0]))
        else:
            bundles += [
                NamedBundle(name=f"{name} #{number}", path=path, group=name)
                for number, path in enumerate(paths, start=1)
            ]
    return bundles


def parse_seeds(folders: Sequence[Path]) -> list[NamedBundle]:
    """Declare bundles seeds of one method, named by the first folder.

    Raises:
        ValueError: There are fewer than two.
    """
    if len(folders) < 2:
        raise ValueError(f"--seeds needs at least two bundles, got {len(folders)}")
    group = _name_of(folders[0])
    return [
        NamedBundle(name=f"{_name_of(folder)} #{number}", path=folder, group=group)
        for number, folder in enumerate(folders, start=1)
    ]


def bundle_method(named: NamedBundle, *, role: Role, engine: str) -> Method:
    """Load a bundle and make it a method: its engine, its GMAC, its measured time.

    A file in the place of the folder is taken for a checkpoint, which torch runs. An engine stays
    loaded until the process ends.

    Raises:
        BundleError: The folder is no bundle, or a damaged one.
        CheckpointError: The file is no checkpoint.
        EngineError: The engine cannot be loaded.
    """
    if named.path.is_file():
        return checkpoint_method(named.name, named.path, role=role, group=named.group)
    bundle = load_bundle(named.path)
    manifest = bundle.manifest
    loaded = load_engine(
        engine, bundle, EngineOptions(precision=manifest.precision, threads=available_cpus())
    )

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return loaded.run(lr).sr

    noise = np.random.default_rng(0).integers(0, 256, manifest.tile, dtype=np.uint8)
    return upscaler_method(
        named.name,
        upscale,
        scale=manifest.scale,
        role=role,
        group=named.group,
        gmac=manifest.gmac,
        ms=median_ms(upscale, noise),
        version=f"{bundle.version}/{loaded.name}/{loaded.precision}",
    )


def pictures_methods(texts: Sequence[str]) -> list[Method]:
    """Read `NAME=FOLDER` of finished pictures.

    Raises:
        MethodError: No name, or no such folder.
    """
    methods = []
    for text in texts:
        name, given, folder = text.partition("=")
        if not (name and given and folder):
            raise MethodError(f"{text!r} names no pictures; expected NAME=FOLDER")
        methods.append(pictures_method(name, Path(folder)))
    return methods


def make_judge(*, detector: Path | None, vgg16: Path | None) -> tuple[Judge, str, dict[str, Any]]:
    """Load what judges pictures.

    Args:
        detector: Weights of the detector; None for the shipped one.
        vgg16: Weights of the feature network; None leaves the kernel distance out.

    Returns:
        The judge, what identifies its weights, and what the detector says about itself.
    """
    loaded = load_detector(detector)
    files = [detector or SHIPPED]
    features = None
    if vgg16 is not None:
        features = load_vgg16(vgg16, taps=tuple(TAPS))
        files.append(vgg16)
    version = " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return Judge(detector=loaded, features=features), version, loaded.description


def _name_of(path: Path) -> str:
    """Name a bundle by its folder, and `runs/x/checkpoint.safetensors` by the run's."""
    path = path.resolve()
    return path.parent.name if path.is_file() else path.name
