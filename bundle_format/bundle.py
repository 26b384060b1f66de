"""The bundle: the folder that carries a model from the exporter to the service.

A bundle holds `manifest.json`, the ONNX graph, the checkpoint that it was made from, a golden tile
with its expected output, and a model card. The manifest lists the sha256 of every file;
`load_bundle` verifies them all and rejects a mismatch. It also rejects an unknown format version.
`bundle_writer` writes bundles. This module is the contract between `export` and `service`, so it
imports neither torch nor onnx.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from bundle_format.golden import (
    GOLDEN_16_BIT,
    GoldenError,
    golden_names,
    read_golden,
    read_golden_16_bit,
)
from bundle_format.golden import Golden as Golden
from bundle_format.golden import golden_16_bit_file as golden_16_bit_file
from bundle_format.golden import golden_files as golden_files
from bundle_format.inline_weights import SharedWeightsError, inline_weights
from bundle_format.manifest import FLAGS as FLAGS
from bundle_format.manifest import FORMAT_VERSION as FORMAT_VERSION
from bundle_format.manifest import PRECISIONS as PRECISIONS
from bundle_format.manifest import READ_VERSIONS
from bundle_format.manifest import GeneratorInfo as GeneratorInfo
from bundle_format.manifest import Manifest as Manifest
from bundle_format.manifest import ParityFigures as ParityFigures
from bundle_format.manifest import Precision as Precision
from bundle_format.manifest import QuantizationRecord as QuantizationRecord
from bundle_format.manifest import RecallRecord as RecallRecord
from bundle_format.manifest import SeamFigures as SeamFigures
from bundle_format.manifest import SixteenBitRecord as SixteenBitRecord
from bundle_format.shipped import bundle_hint
from bundle_format.trust_record import NOT_JUDGED as NOT_JUDGED
from bundle_format.trust_record import TrustRecord as TrustRecord

MANIFEST_NAME = "manifest.json"
# A manifest is a few kilobytes; the limit keeps a wrong file from being read whole.
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed difference between an engine's output in one precision and FP32 torch.

    Attributes:
        max_error: Limit at any pixel in grey levels; None for no such limit.
        mean_error: Limit of the mean over all pixels in grey levels, or None.
        psnr_db: Minimum PSNR in dB, or None.
    """

    max_error: float | None = None
    mean_error: float | None = None
    psnr_db: float | None = None

    def problem(self, *, max_error: float, mean_error: float, psnr_db: float) -> str | None:
        """Describe the first limit that the figures violate; None if they keep all limits."""
        if self.max_error is not None and max_error > self.max_error:
            return f"max error {max_error:.3g}, at most {self.max_error:g} grey levels"
        if self.mean_error is not None and mean_error > self.mean_error:
            return f"mean error {mean_error:.4f}, at most {self.mean_error:g} grey levels"
        if self.psnr_db is not None and psnr_db < self.psnr_db:
            return f"PSNR {psnr_db:.1f}, at least {self.psnr_db:g} dB"
        return None


# FP32 sums in another order may fall on the other side of a rounding boundary, never further.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(max_error=1),
    "fp16": Tolerance(max_error=2, mean_error=0.05),
    "bf16": Tolerance(psnr_db=45.0),
    "int8": Tolerance(psnr_db=45.0),
}

TOLERANCE_16_BIT = Tolerance(max_error=0.02)
"""Tolerance of the 16-bit graph, which runs in FP32: five steps of 65535."""


def psnr_db(actual: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> float:
    """Return the PSNR in dB between two uint8 arrays of one shape; equal arrays give 168 dB."""
    error = actual.astype(np.float32) - expected
    return float(10 * np.log10(255.0**2 / max(float(np.mean(np.square(error))), 1e-12)))


def parse_precision(text: str) -> Precision:
    """Read a precision's name.

    Raises:
        ValueError: The name is unknown.
    """
    for precision in PRECISIONS:
        if precision == text:
            return precision
    raise ValueError(f"unknown precision {text!r}; expected one of {', '.join(PRECISIONS)}")


class BundleError(Exception):
    """A bundle cannot be read, is damaged, or is of an unknown format."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were verified against its manifest.

    Attributes:
        path: Folder of the bundle.
        manifest: Manifest of the bundle.
        digest: sha256 of the manifest's bytes, which covers every file through their hashes.
    """

    path: Path
    manifest: Manifest
    digest: str

    @property
    def version(self) -> str:
        """First twelve hex digits of the digest, reported in answers and metrics."""
        return self.digest[:12]

    def read(self, name: str) -> bytes:
        """Read one listed file and verify it again, so that the bytes used are the bytes checked.

        Raises:
            BundleError: The file is not listed, is missing, or does not match its hash.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            listed = ", ".join(sorted(self.manifest.files))
            raise BundleError(f"{self.path}: {name!r} is not in the manifest, which lists {listed}")
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.path}: cannot read {name}: {error.strerror}") from error
        actual = hashlib.sha256(content).hexdigest()
        if actual != expected:
            raise BundleError(
                f"{self.path}: {name} does not match its manifest: sha256 is {actual[:12]}…, "
                f"expected {expected[:12]}…; copy or export the bundle again"
            )
        return content

    def graph(self, precision: Precision) -> bytes:
        """Read the ONNX graph of one precision, with all its weights in it.

        Raises:
            BundleError: The bundle has no graph of that precision, or a file of it is damaged.
        """
        name = self.manifest.graphs.get(precision)
        if name is None:
            raise BundleError(
                f"{self.path}: no {precision} graph; the bundle has "
                f"{', '.join(sorted(self.manifest.graphs))}"
            )
        return self._inlined(name)

    def graph_16_bit(self) -> bytes:
        """Read the FP32 graph whose answer has 16 bits, with all its weights in it.

        Raises:
            BundleError: The bundle has none, or a file of it is damaged.
        """
        record = self.manifest.sixteen_bit
        if record is None:
            raise BundleError(
                f"{self.path} has no graph for answers of 16 bits; export its checkpoint again, "
                "or use 8 bits"
            )
        return self._inlined(record.graph)

    def _inlined(self, name: str) -> bytes:
        try:
            return inline_weights(self.read(name), self.read)
        except SharedWeightsError as error:
            raise BundleError(f"{self.path}: {name}: {error}") from error

    def golden(self) -> Golden:
        """Read the golden tile.

        Raises:
            BundleError: A file is damaged, or does not fit the manifest.
        """
        manifest = self.manifest
        try:
            return read_golden(
                self.read,
                format_version=manifest.format_version,
                tile=manifest.tile,
                scale=manifest.scale,
            )
        except GoldenError as error:
            raise BundleError(f"{self.path}: {error}") from error

    def golden_16_bit(self) -> npt.NDArray[np.uint16]:
        """Read every eighth pixel of every eighth row of the golden tile's 16-bit answer.

        Returns:
            (1, 1, h, w) uint16.

        Raises:
            BundleError: The file is missing or damaged, or does not fit the manifest.
        """
        manifest = self.manifest
        try:
            return read_golden_16_bit(self.read, tile=manifest.tile, scale=manifest.scale)
        except GoldenError as error:
            raise BundleError(f"{self.path}: {error}") from error


def load_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest and verify every file that it lists.

    Raises:
        BundleError: The folder is not a bundle, the format version is unknown, the manifest does
            not validate, or a file is missing or does not match its hash.
    """
    manifest_path = path / MANIFEST_NAME
    try:
        size_bytes = manifest_path.stat().st_size
        if size_bytes > MAX_MANIFEST_BYTES:
            raise BundleError(
                f"{manifest_path}: {size_bytes} bytes, expected at most {MAX_MANIFEST_BYTES}"
            )
        content = manifest_path.read_bytes()
    except OSError as error:
        hint = f"; {bundle_hint()}" if isinstance(error, FileNotFoundError) else ""
        raise BundleError(
            f"{path} is not a bundle: cannot read {MANIFEST_NAME}: {error.strerror}{hint}"
        ) from error
    manifest = _parse_manifest(manifest_path, content)
    bundle = Bundle(path=path, manifest=manifest, digest=hashlib.sha256(content).hexdigest())
    for name in manifest.files:
        bundle.read(name)
    used = [*manifest.graphs.values(), *golden_names(manifest.format_version)]
    if manifest.sixteen_bit is not None:
        used += [manifest.sixteen_bit.graph, GOLDEN_16_BIT]
    for name in used:
        if name not in manifest.files:
            raise BundleError(f"{path}: {name} is used but its sha256 is not in the manifest")
    return bundle


def _parse_manifest(path: Path, content: bytes) -> Manifest:
    try:
        fields: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BundleError(f"{path}: expected a JSON object, found {type(fields).__name__}")
    # `is`-like on purpose: JSON's true equals 1 in Python.
    version: Any = cast("dict[str, Any]", fields).get("format_version")
    if type(version) is not int or version not in READ_VERSIONS:
        raise BundleError(
            f"{path}: bundle format version {version!r} is unknown; this version of semsr reads "
            f"{' and '.join(map(str, READ_VERSIONS))}"
        )
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        raise BundleError(f"{path}: {first_problem(error)}") from error
    for name in manifest.files:
        check_name(path.parent, name)
    return manifest


def first_problem(error: ValidationError) -> str:
    """Describe the first problem: its field, and the value found there."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "manifest"
    return f"{where}: {problem['msg']} (found {problem['input']!r:.80})"


def check_name(path: Path, name: str) -> None:
    """Refuse names that would reach outside the bundle."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or ".." in parts or name == MANIFEST_NAME:
        raise BundleError(f"{path}: file name {name!r} is not a relative path inside the bundle")
