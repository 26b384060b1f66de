"""The detector's file: what is kept, and what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.detector import Detector, DetectorFileError, load_detector, save_detector
from training.detector.network import DetectorNetwork
from training.detector.weight_file import half_precision


def _detector() -> Detector:
    torch.manual_seed(0)
    network = DetectorNetwork(channels=(8, 12, 12))
    network(torch.rand(2, 1, 64, 64))  # batch statistics that are not those of the start
    torch.nn.init.normal_(network.head.weight)
    network.load_state_dict(half_precision(network))
    return Detector(network, 0.375, description={"test": {"recall": 0.97}})


def test_saved_detector_comes_back_whole(tmp_path: Path) -> None:
    """Weights that half precision holds, threshold, widths and description return exactly."""
    detector = _detector()
    image = np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8)

    save_detector(tmp_path / "new" / "d.safetensors", detector)
    loaded = load_detector(tmp_path / "new" / "d.safetensors")

    assert (0.375, {"test": {"recall": 0.97}}) == (loaded.threshold, loaded.description)
    assert np.array_equal(detector.score_map(image), loaded.score_map(image))
    assert ["d.safetensors"] == [path.name for path in (tmp_path / "new").iterdir()]


def test_default_network_fits_into_a_megabyte(tmp_path: Path) -> None:
    """The shipped file stays below 1 MB."""
    save_detector(tmp_path / "d.safetensors", Detector(DetectorNetwork(), 0.5))

    assert (tmp_path / "d.safetensors").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "2"}, r"format version '2'; .* reads 'semsr-detector', '1'"),
        ({"kind": "generator"}, r"kind 'generator'"),
        ({"threshold": '"high"'}, r"'threshold' must be a finite number, got 'high'"),
        ({"threshold": "NaN"}, r"'threshold' must be a finite number"),
        ({"description": "{"}, r"'description' is missing or not JSON"),
        ({"hyper_parameters": '{"channels": [8, 12]}'}, r"does not fit its network"),
        ({"hyper_parameters": '{"depth": 3}'}, r"does not fit its network"),
    ],
)
def test_wrong_metadata_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    """Another version or kind, broken values, and other widths each get a message."""
    path = tmp_path / "d.safetensors"
    save_detector(path, _detector())
    metadata = {
        "kind": "semsr-detector",
        "format_version": "1",
        "threshold": "0.5",
        "hyper_parameters": '{"channels": [8, 12, 12]}',
        "description": "{}",
    }
    save_file(load_file(path), path, metadata={**metadata, **change})

    with pytest.raises(DetectorFileError, match=message):
        load_detector(path)


def test_absent_and_foreign_files_are_refused(tmp_path: Path) -> None:
    """A missing file and one that is no safetensors file are told apart."""
    (tmp_path / "text").write_text("not tensors")

    with pytest.raises(FileNotFoundError, match="no detector at"):
        load_detector(tmp_path / "absent")
    with pytest.raises(DetectorFileError, match="is not a safetensors file"):
        load_detector(tmp_path / "text")


def test_description_that_is_not_json_is_refused(tmp_path: Path) -> None:
    """A threshold that is no number is refused before anything is written."""
    detector = _detector()
    detector.threshold = math.nan

    with pytest.raises(DetectorFileError, match="not JSON"):
        save_detector(tmp_path / "d.safetensors", detector)
    assert [] == list(tmp_path.iterdir())
