"""The bundles of the repository: whole, and without a path of the machine that made them."""

import re
from pathlib import Path

import pytest

from bundle_format.bundle import load_bundle

BUNDLES = sorted((Path(__file__).parent.parent / "bundles").iterdir())


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_a_shipped_bundle_names_no_absolute_path(path: Path) -> None:
    """Training may read teachers and data from anywhere; what ships says their names."""
    load_bundle(path)
    for name in ("manifest.json", "MODEL_CARD.md", "model.safetensors"):
        header = (path / name).read_bytes()[:2_000_000]
        found = re.findall(rb'"\\*"?(/[A-Za-z][\w.-]*/[^"\\]*)', header)
        assert not found, f"{name}: {found[0]!r}"
