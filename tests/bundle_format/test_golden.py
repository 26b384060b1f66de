"""The golden tile's files: PNG, npy in formats 3 to 5, and what is refused in them."""

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from bundle_format.bundle import BundleError, golden_files, load_bundle
from bundle_format.bundle_writer import write_bundle
from tests.bundles import bundle_files, edit_manifest, manifest_fields, npy

GOLDEN_LR = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
GOLDEN_SR = GOLDEN_LR.repeat(4, axis=2).repeat(4, axis=3)


def write_old_bundle(path: Path, version: int, *, lr: bytes | None = None) -> Path:
    """Write a bundle as format 3, 4 or 5 had it: the golden tile in npy files."""
    files = {name: c for name, c in bundle_files().items() if not name.startswith("golden/")}
    files |= {"golden/lr.npy": lr or npy(GOLDEN_LR), "golden/sr.npy": npy(GOLDEN_SR)}
    write_bundle(path, files={**files, **bundle_files()}, manifest_fields=manifest_fields())
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    edit_manifest(path, format_version=version, files=hashes, sixteen_bit=...)
    return path


@pytest.mark.parametrize("version", [4, 5])
def test_versions_with_npy_files_are_read(tmp_path: Path, version: int):
    """Bundles from before PNG keep serving, with the same golden tile."""
    path = write_old_bundle(tmp_path / "old", version)

    golden = load_bundle(path).golden()

    assert np.array_equal(golden.lr, GOLDEN_LR)
    assert np.array_equal(golden.sr, GOLDEN_SR)


def test_version_3_is_read_as_a_network_on_one_grid(tmp_path: Path):
    """Bundles from before the grid keep serving."""
    path = write_old_bundle(tmp_path / "old", 3)
    edit_manifest(path, grid_px=..., seams=...)

    manifest = load_bundle(path).manifest

    assert (1, None) == (manifest.grid_px, manifest.seams)


def test_golden_tile_with_pickled_objects_is_refused(tmp_path: Path):
    """An object array in an old bundle's golden tile is refused without being unpickled."""
    evil = io.BytesIO()
    # Pickled on purpose: it is the file that must be refused.
    np.save(evil, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    path = write_old_bundle(tmp_path / "old", 5, lr=evil.getvalue())
    with pytest.raises(BundleError, match=r"golden/lr\.npy is not a readable npy"):
        load_bundle(path).golden()


def png(pixels: np.ndarray) -> bytes:
    """An array as a PNG file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a picture", r"golden/sr\.png is not a readable PNG file"),
        (png(np.zeros((32, 32), np.uint8))[:45], r"golden/sr\.png is not a readable PNG file"),
        (png(np.zeros((32, 31), np.uint8)), r"32x31 px of mode L, expected 32x32 px of mode L"),
        (png(np.zeros((32, 32), np.uint16)), r"mode I;16, expected 32x32 px of mode L"),
        (png(np.zeros((32, 32, 3), np.uint8)), r"mode RGB, expected 32x32 px of mode L"),
    ],
)
def test_golden_picture_that_does_not_fit_is_refused(tmp_path: Path, content: bytes, message: str):
    """The message names the file, what it holds and what was expected."""
    files = {**bundle_files(), "golden/sr.png": content}
    write_bundle(tmp_path / "bundle", files=files, manifest_fields=manifest_fields())
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path / "bundle").golden()


def test_huge_golden_picture_is_refused_by_its_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A few kilobytes may state 400 megapixels; nothing of them is decoded."""
    bomb = bytearray(png(np.zeros((8, 8), np.uint8)))
    head = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + bomb[24:29]
    bomb[12:33] = head + zlib.crc32(head).to_bytes(4, "big")
    files = {**bundle_files(), "golden/lr.png": bytes(bomb)}
    write_bundle(tmp_path / "bundle", files=files, manifest_fields=manifest_fields())
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(BundleError, match=r"golden/lr\.png is not a readable PNG .* exceeds limit"):
        load_bundle(tmp_path / "bundle").golden()


def test_golden_tile_is_written_as_one_uint8_tile():
    """Only what the format can hold is written."""
    with pytest.raises(ValueError, match=r"golden tile is uint16 \(1, 1, 8, 8\), expected uint8"):
        golden_files(np.zeros((1, 1, 8, 8), np.uint16), GOLDEN_SR)  # type: ignore[arg-type]
