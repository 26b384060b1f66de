"""What is measured on 16-bit LR tiles after training reads them as training did."""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from bundle_format.bundle import load_bundle
from bundle_format.shipped import default_bundle
from export.trust import TrustTiles
from models import build_generator, save_network
from semsr.cli import main
from semsr.commands import evaluate
from semsr.evaluate_arguments import NamedBundle, check_arguments
from semsr.evaluate_own_tiles import own_tiles
from semsr.export_gates import load_calibration, load_trust_tiles
from semsr.image_reading import FULL_WINDOW, ImageReading, reading_of_training, window_of_model

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"
TWELVE_BITS = ImageReading(window=(0, 4095), max_rows_px=24)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of a tool that stores 12 bits in 16, with a data bar below row 24."""
    torch.manual_seed(0)
    path = tmp_path / "checkpoint.safetensors"
    data = {"window": [0, 4095], "max_rows_px": 24}
    generator = build_generator("rep_sr", {"channels": 8, "num_blocks": 2, "scale": 4})
    save_network(path, generator, training={"recipe": {"data": data}})
    return path


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Five tiles of 12 bits in 16; a white bar below row 24."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(1000, 3000, (30, 24)).astype(np.uint16)
        pixels[24:] = 65_535
        tifffile.imwrite(folder / f"{number}.tif", pixels)
    return folder


def test_tiles_are_read_by_window_and_rows(tiles: Path) -> None:
    """Calibration, domain and clean tiles alike: the greys of training, no data bar."""
    trust = load_trust_tiles([tiles], [tiles], TWELVE_BITS)

    for found in (load_calibration(tiles, TWELVE_BITS), trust.domains[0], trust.clean[0]):
        assert {(24, 24)} == {tile.shape for tile in found}
        assert 100 < np.mean(found) < 150


@pytest.mark.parametrize(
    ("option", "window"), [([], (0, 4095)), (["--window", "100,3000"], (100, 3000))]
)
def test_an_export_takes_the_window_of_the_recipe_unless_one_is_given(
    checkpoint: Path,
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: list[str],
    window: tuple[int, int],
) -> None:
    """The bundle says it, and the trust flags are measured on the greys that will be served."""
    readings: list[ImageReading] = []

    def recording(
        domains: Sequence[Path], clean: Sequence[Path], reading: ImageReading
    ) -> TrustTiles:
        readings.append(reading)
        return load_trust_tiles(domains, clean, reading)

    monkeypatch.setattr("semsr.export_gates.load_trust_tiles", recording)
    out = tmp_path / "bundle"
    arguments = ["export", str(checkpoint), "--out", str(out), "--tile", "24,24"]

    assert 0 == main([*arguments, "--domain", str(tiles), *option])

    manifest = load_bundle(out).manifest
    assert window == manifest.window
    assert [ImageReading(window=window, max_rows_px=24)] == readings
    assert window == window_of_model(out)
    assert (0, 4095) == window_of_model(checkpoint)


@pytest.mark.parametrize(
    "training", [{}, {"recipe": None}, {"recipe": {"data": {"window": list(FULL_WINDOW)}}}]
)
def test_the_whole_range_is_the_default(training: dict[str, Any]) -> None:
    """Checkpoints without a recipe, or with the recipe's default."""
    assert ImageReading(window=None, max_rows_px=None) == reading_of_training(training)


@pytest.mark.parametrize("data", [{"window": [9, 3]}, {"window": "all"}, {"max_rows_px": 0}])
def test_a_malformed_recipe_is_refused(data: dict[str, Any]) -> None:
    """Greys that training never saw would be measured in silence."""
    with pytest.raises(ValueError, match=f"the recipe's data.{next(iter(data))} is"):
        reading_of_training({"recipe": {"data": data}})


def test_own_tiles_are_read_by_the_first_bundles_window(tmp_path: Path) -> None:
    """`evaluate --lr` judges the greys that the service would hand to the model."""
    bundle = tmp_path / "bundle"
    shutil.copytree(TINY_BUNDLE, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "window": [0, 4095]}))
    big = tmp_path / "big"
    big.mkdir()
    tifffile.imwrite(big / "tile.tif", np.full((64, 64), 2048, np.uint16))
    options = argparse.Namespace(lr=big, hr=None, pairs=None, max_rows=None, limit=None)

    own = own_tiles(options, models=[NamedBundle(name="a", path=bundle)], window=None, scale=4)

    assert own is not None
    assert [128] == [int(tile.max()) for tile in own.lr.values()]


def test_an_empty_variable_names_no_bundle(tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SEMSR_BUNDLE= semsr evaluate` judges the default bundle, as the service would serve it."""
    monkeypatch.setenv("SEMSR_BUNDLE", "")
    parser = argparse.ArgumentParser()
    evaluate.add(parser.add_subparsers())
    options = parser.parse_args(["evaluate", "--lr", str(tiles)])

    assert [default_bundle()] == [item.path for item in check_arguments(options).candidates]
