"""Given pairs at scale 2, from end to end: simulate, train, export for 232 px, evaluate."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundle_format.bundle import load_bundle
from semsr.cli import main
from training.simulator import write_benchmark
from training.simulator.splits import SPLITS

TINY = {
    "optimization.steps": 2,
    "optimization.batch_size": 1,
    "optimization.crop_px": 16,
    "optimization.device": "cpu",
    "optimization.precision": "fp32",
    "optimization.threads": 1,
    "method.adversarial.discriminator.width": 2,
    "generator.hyper_parameters": "{channels = 4, num_blocks = 1, scale = 2, expansion = 1}",
}


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """One pair of each set that the recipe and the evaluation at scale 2 read."""
    names = ("cucmp_x2", "cucmp_x2_top", "cucmp_x2_validation", "aei_x2", "x2_232")
    plan = {name: replace(SPLITS[name], tiles=1) for name in names}
    write_benchmark(tmp_path / "benchmark", seed=3, splits=names, jobs=1, plan=plan)
    return tmp_path / "benchmark"


@pytest.fixture
def checkpoint(benchmark: Path, tmp_path: Path) -> Path:
    """Two steps of the shipped recipe, one of each stage, at the size of a test."""
    sets = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    run = tmp_path / "run"
    assert 0 == main(["train", "paired_x2_232", "--data", str(benchmark), "--run", str(run), *sets])
    return run / "checkpoint.safetensors"


def judged(
    method: Path, benchmark: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Evaluate on the near sets; return the figures of a method by set."""
    capsys.readouterr()
    arguments = ["evaluate", "--bundle", f"mine={method}", "--data", str(benchmark)]
    assert 0 == main([*arguments, "--split", "near_x2", "--report", str(report), "--json"])
    return {row["method"]: row["near"] for row in json.loads(capsys.readouterr().out)}["mine"]


def test_shipped_recipe_trains_both_stages_and_its_checkpoint_is_judged(
    checkpoint: Path, benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held-out pairs in the run, and near sets afterwards, at 232 to 464 px."""
    lines = (checkpoint.parent / "stats.jsonl").read_text().splitlines()

    figures = judged(checkpoint, benchmark, tmp_path / "report", capsys)

    assert {"pixel", "gan", "held_out_psnr_db", "held_out_fitted_ssim"} <= set(
        json.loads(lines[-1])
    )
    assert {"x2_232", "cucmp_x2_validation"} == set(figures)
    assert all(20 < row["psnr_db"] < 60 for row in figures.values())


@pytest.mark.slow
def test_bundle_of_232_px_tiles_is_judged_like_its_checkpoint(
    checkpoint: Path, benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Export with the tile of the set; the engine's answers are those of torch."""
    bundle = tmp_path / "bundle"

    assert 0 == main(["export", str(checkpoint), "--out", str(bundle), "--tile", "232,232"])

    manifest = load_bundle(bundle).manifest
    assert (2, (232, 232)) == (manifest.scale, tuple(manifest.tile))
    by_torch = judged(checkpoint, benchmark, tmp_path / "torch", capsys)
    by_engine = judged(bundle, benchmark, tmp_path / "engine", capsys)
    for name, row in by_torch.items():
        assert row["psnr_db"] == pytest.approx(by_engine[name]["psnr_db"], abs=0.02)
