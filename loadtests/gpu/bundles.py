"""Bundles of a bench: shipped ones with a larger batch."""

import json
import shutil
from pathlib import Path

from bundle_format.bundle import MANIFEST_NAME, load_bundle
from semsr.whole_file import write_whole_text


def with_larger_batches(path: Path, largest: int, folder: Path) -> Path:
    """Return a bundle that allows batches of at least `largest` tiles.

    A manifest names the largest batch that an export was checked with. Its graphs and weights allow
    any, so that a bench may raise it in a copy.

    Args:
        path: Bundle.
        largest: Tiles in the largest batch.
        folder: Folder for the copy.

    Returns:
        The bundle itself if it allows them, or else a verified copy of the same folder name.

    Raises:
        bundle_format.bundle.BundleError: The bundle is damaged.
    """
    if load_bundle(path).manifest.max_batch_size >= largest:
        return path
    copied = folder / path.name
    shutil.copytree(path, copied)
    manifest = json.loads((copied / MANIFEST_NAME).read_text(encoding="utf-8"))
    manifest["max_batch_size"] = largest
    write_whole_text(copied / MANIFEST_NAME, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    load_bundle(copied)
    return copied
