"""The subcommand `semsr compare-models`: own tiles, a benchmark, exit codes and refusals."""

import json
from pathlib import Path

import pytest
import torch

from semsr.cli import main
from tests.training.evaluation.conftest import benchmark_dir  # noqa: F401 (a fixture)
from tests.training.evaluation.scenes import film, save, shrunk
from training.detector import Detector, save_detector
from training.detector.network import DetectorNetwork

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"
CHECKPOINT = TINY_BUNDLE / "model.safetensors"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEMSR_DATA", "SEMSR_VGG16", "SEMSR_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Write three own tiles."""
    for number in range(3):
        scene = film(blobs=[(100 + 20 * number, 128, 80.0)])
        save(tmp_path / "lr" / f"t{number}.png", shrunk(scene, seed=number))
    return tmp_path / "lr"


def test_a_bundle_and_its_checkpoint_are_compared_on_own_tiles(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They give the same pictures within rounding; the last line says what changed."""
    out = tmp_path / "out"
    models = [f"now={TINY_BUNDLE}", f"next={CHECKPOINT}"]
    assert 0 == main(["compare-models", *models, "--data", str(tiles), "--out", str(out)])

    answer = capsys.readouterr()
    assert answer.out.splitlines()[-1].startswith("next against now on 3 tiles: better in 0")
    assert "3 tiles are too few" in answer.out.splitlines()[-1]
    values = json.loads((out / "models.json").read_text())
    assert ["now", "next"] == [model["name"] for model in values["models"]]
    assert all(model["size_bytes"] > 0 and model["gmac"] > 0 for model in values["models"])
    assert max(tile["differences"]["grey"] for tile in values["tiles"]) < 1
    assert len(values["most_different"]) == 3
    for item in values["most_different"]:
        assert (out / item["picture"]).is_file()
    assert (out / "models.md").is_file()
    assert (out / "index.html").is_file()


@pytest.mark.slow
def test_a_benchmark_is_judged_with_its_truth(
    benchmark_dir: Path,  # noqa: F811 (the fixture above)
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The figures of `semsr compare` decide; rows go to stdout as JSON, the last line to stderr."""
    torch.manual_seed(0)
    save_detector(tmp_path / "d.safetensors", Detector(DetectorNetwork(), 0.5))
    out = tmp_path / "out"
    arguments = ["compare-models", f"now={TINY_BUNDLE}", f"next={CHECKPOINT}"]
    arguments += ["--data", str(benchmark_dir), "--detector", str(tmp_path / "d.safetensors")]
    arguments += ["--out", str(out), "--cache", str(tmp_path / "cache"), "--jobs", "1"]
    code = main([*arguments, "--limit", "2", "--show", "1", "--json"])

    answer = capsys.readouterr()
    rows = {row["key"]: row for row in json.loads(answer.out)}
    assert {"recall", "spectrum_db", "edge_placement_px"} <= rows.keys()
    assert rows["recall"]["label"] == "recall, all"
    assert not any(row["label"].startswith("…") for row in rows.values())
    assert code == int(any(row["outcome"] == "worse" for row in rows.values()))
    assert answer.err.splitlines()[-1].startswith("next against now on 4 tiles")
    values = json.loads((out / "models.json").read_text())
    assert values["data"]["kind"] == "benchmark"
    assert len(values["most_different"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([str(TINY_BUNDLE), f"{TINY_BUNDLE}"], "both models are called 'tiny_bundle'; name them"),
        ([str(TINY_BUNDLE), "none"], "B: none does not exist"),
        ([str(TINY_BUNDLE), "a=x,y"], "expected one model, not several seeds"),
        ([str(TINY_BUNDLE), "="], "'=' names no bundle"),
        (["n=" + str(TINY_BUNDLE), str(TINY_BUNDLE), "--show", "-1"], "expected at least 0"),
        (
            ["n=" + str(TINY_BUNDLE), str(TINY_BUNDLE), "--detector", str(CHECKPOINT)],
            "judges a benchmark only",
        ),
        (
            ["n=" + str(TINY_BUNDLE), str(TINY_BUNDLE), "--limit-grey", "0"],
            "--limit-grey is 0, expected 1 to 254",
        ),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(
    tiles: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Exit code 2, with the argument, its value and what was expected."""
    assert 2 == main(["compare-models", *arguments, "--data", str(tiles)])
    assert message in capsys.readouterr().err
