"""`semsr evaluate-trust` on a benchmark of two tiles and the bundle of the tests."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle_format.bundle import load_bundle
from bundle_format.bundle_writer import write_bundle
from semsr.cli import main
from semsr.evaluate_trust import TrustEvaluationError, evaluate_trust, flag_cost
from semsr.export_gates import load_calibration
from semsr.image_reading import ImageReading
from tests.bundles import bundle_files, manifest_fields
from training.simulator.benchmark import write_benchmark
from training.simulator.splits import SPLITS

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"
DOMAIN_SETS = 9


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tile with defects and two without; as in the benchmark of that seed."""
    out = tmp_path_factory.mktemp("trust") / "benchmark"
    plan = {
        "test_defect": replace(SPLITS["test_defect"], tiles=1),
        "test_clean": replace(SPLITS["test_clean"], tiles=2),
    }
    write_benchmark(out, seed=5, splits=tuple(plan), jobs=1, plan=plan)
    return out


def test_the_command_judges_a_bundle_and_says_whether_it_is_good_enough(
    benchmark: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Random weights catch nothing in particular: the rows, the files and exit code 1."""
    report, bundle = tmp_path / "report", tmp_path / "bundle"
    shutil.copytree(TINY_BUNDLE, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "window": [0, 4095]}))
    windows: list[tuple[int, int] | None] = []

    def recording(folder: Path, reading: ImageReading) -> list[NDArray[np.uint8]]:
        windows.append(reading.window)
        return load_calibration(folder, reading)

    monkeypatch.setattr("semsr.evaluate_trust.load_calibration", recording)

    code = main(
        [
            "evaluate-trust", "--bundle", str(bundle), "--data", str(benchmark),
            "--domain", str(benchmark / "test_clean" / "lr"), "--report", str(report), "--json",
        ]
    )  # fmt: skip

    assert [(0, 4095)] == windows  # the domain's tiles are read as they would be served
    rows = {row["figure"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"false_alarms", "caught_erased", "caught_invented"} == set(rows)
    document = json.loads((report / "trust.json").read_text())
    assert (0 if document["is_met"] else 1) == code
    assert 2 == rows["false_alarms"]["total"] == len(document["clean"])
    # The tile's defects, once erased and once invented; what alarms by itself is left out.
    planted = [item["failure"] for item in document["failures"]]
    assert {planted.count("erased"), planted.count("invented")} <= {0, 3}
    assert DOMAIN_SETS == len(document["domains"])
    assert f"# Trust flags of tiny {load_bundle(bundle).version}" in (
        report / "trust.md"
    ).read_text(encoding="utf-8")


def test_a_benchmark_of_another_simulator_is_refused(benchmark: Path, tmp_path: Path) -> None:
    """The defect-free twin would not fit the tile."""
    other = tmp_path / "other"
    shutil.copytree(benchmark, other)
    clean = other / "test_clean" / "lr" / "0000.png"
    clean.replace(other / "test_defect" / "lr" / "0000.png")

    with pytest.raises(TrustEvaluationError, match="not what this simulator makes of seed 5"):
        _evaluate(TINY_BUNDLE, other)


def test_a_bundle_without_limits_is_refused(benchmark: Path, tmp_path: Path) -> None:
    """There is nothing to measure."""
    path = tmp_path / "bundle"
    write_bundle(path, files=bundle_files(), manifest_fields=manifest_fields())

    with pytest.raises(TrustEvaluationError, match="no trust record: export it with --domain"):
        _evaluate(path, benchmark)


def test_the_cost_is_a_share_of_the_graphs_time() -> None:
    """The two flags are cut out of the graph, which still runs and takes less time."""
    assert 0 < flag_cost(load_bundle(TINY_BUNDLE)) < 1


def _evaluate(bundle: Path, benchmark: Path) -> None:
    evaluate_trust(bundle, benchmark, split="test", limit=None, domain=None, engine_name="onnx")
