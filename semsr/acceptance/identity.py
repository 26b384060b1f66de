"""What identifies an acceptance: digests of images, model and code, and versions of packages."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from semsr.acceptance.layout import Settings
from semsr.progress import tracked
from training.config.recipe import load_recipe
from training.data.images import find_images

CODE = ("semsr", "training", "export", "models", "engines", "bundle_format", "service")
SUFFIXES = frozenset({".py", ".toml", ".j2", ".safetensors"})
PACKAGES = (
    "semsr",
    "torch",
    "numpy",
    "scipy",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "pillow",
    "imagecodecs",
)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def folder_digests(folder: Path, *, limit: int | None = None) -> dict[str, str]:
    """Return name and SHA-256 of a folder's image files, in the order of their names."""
    files = find_images(folder.resolve(), root=folder.resolve())[:limit]
    return {
        file.name: sha256_of(file) for file in tracked(files, f"hashing {folder.name}", unit="file")
    }


def code_digest() -> str:
    """Return one SHA-256 of all source files that take part in an acceptance."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in CODE:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                digest.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def asked_of(settings: Settings) -> dict[str, Any]:
    """Describe all that decides the bits of an acceptance, JSON-compatible.

    Folders are described by names and digests of their files, not by their places: a moved folder
    is the same data.
    """
    recipe = load_recipe(settings.recipe, overrides=settings.overrides)
    pairs: dict[str, Any] = {}
    if settings.pairs is not None:
        for side, folder in zip(("LR", "HR"), settings.pairs, strict=True):
            pairs[side] = folder_digests(folder)
    return {
        "options": {
            "--window": settings.window,
            "--max-rows": settings.max_rows,
            "--held-out": settings.held_out,
            "--limit": settings.limit,
            "--not-swapped": settings.is_order_sure,
            "--from": settings.start if _is_word(settings.start) else None,
            "--seed": settings.seed,
            "--threads": settings.threads,
        },
        "budget": {
            "--minutes": None if settings.steps is not None else settings.minutes,
            "--steps": settings.steps,
        },
        # A graph that misses its gate, or a detector that fails, must not cost the training.
        "bundle": {
            "--name": settings.name,
            "--tile": list(settings.tile),
            "--precision": list(settings.precisions),
        },
        "detector": {
            **_digests([("--detector", settings.detector)]),
            "--detector-threshold": settings.threshold,
        },
        "files": _digests(
            {
                "--sources": settings.sources,
                "--from": None if _is_word(settings.start) else Path(settings.start),
                "--baseline": settings.baseline / "manifest.json",
                "--vgg16": settings.vgg16,
            }.items()
        ),
        "recipe": recipe.model_dump(mode="json"),
        "LR": folder_digests(settings.lr, limit=settings.limit),
        "HR": folder_digests(settings.hr, limit=settings.limit),
        "pairs": pairs,
        "code": {"sha256": code_digest()},
        "versions": versions(),
    }


def _is_word(start: str) -> bool:
    return start in ("auto", "shipped", "fresh")


def _digests(files: Iterable[tuple[str, Path | None]]) -> dict[str, str | None]:
    return {name: None if path is None else sha256_of(path) for name, path in files}
