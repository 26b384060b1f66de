"""Engines on a GPU, tried on a CPU: rows, order, golden tiles, failures and the time limit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundle_format.bundle import load_bundle
from loadtests.gpu import engines, rows
from loadtests.gpu.bundles import with_larger_batches
from loadtests.gpu.network import measure_network
from loadtests.gpu.report import NO_TIME
from loadtests.gpu.ways import NetworkJob, Way
from loadtests.results import Row

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
RATES = [
    {"name": "operations", "kind": "fp32", "per_s": 2e9},
    {"name": "download", "kind": "pinned", "per_s": 1e15},
    {"name": "download", "kind": "pageable", "per_s": 1.0},
]


def run(
    monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str, network_s: float = 0.5
) -> tuple[int, list[Row]]:
    """Run the script with canned rates and networks, and with real engines."""

    def lines(module: str, arguments: list[str], **_: object) -> Iterator[Row]:
        if module.endswith("rates"):
            yield from RATES
            return
        job = NetworkJob.from_json(arguments[0])
        yield {"gmac": 1.0, "values": 10}
        for way in job.ways:
            for batch in job.batches:
                yield {"way": way.name, "batch": batch, "tiles_per_s": network_s, "ms": 1.0}

    monkeypatch.setattr(rows, "json_lines", lines)
    # The script sets it for its children.
    monkeypatch.setenv("SEMSR_DEVICE", "cpu")
    options = ["--device", "cpu", "--bundle", str(TINY_BUNDLE), "--out", str(out)]
    code = engines.main([*options, "--seconds", "0.02", *arguments])
    return code, json.loads((out / "gpu-engines.json").read_text())["rows"]


def test_every_way_to_call_an_engine_is_a_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batches above the bundle's largest too, in a copy; a failing engine costs its own row."""
    code, found = run(
        monkeypatch,
        tmp_path,
        *("--engine", "onnx", "--precision", "fp32", "--batch", "8", "1", "--no-paper"),
    )

    assert code == 0
    onnx = [row for row in found if row["what"] == "onnx"]
    assert [(row["memory"], row["callers"], row["batch"]) for row in onnx] == [
        ("registered", 1, 8),
        ("registered", 1, 1),
        ("registered", 2, 8),
        ("registered", 2, 1),
        ("plain", 1, 8),
        ("plain", 1, 1),
    ]
    gmac = load_bundle(TINY_BUNDLE).manifest.gmac
    for row in onnx:
        assert row["tiles_per_s"] > 0
        assert row["golden_levels"] <= 1
        is_plain = row["memory"] == "plain"
        assert row["limited_by"] == ("download" if is_plain else "operations")
        if not is_plain:
            assert row["limit_per_s"] == pytest.approx(1 / gmac)
            assert row["percent_of_limit"] == pytest.approx(100 * row["tiles_per_s"] * gmac)
    network = next(row for row in found if row["what"] == "network alone")
    assert (network["limited_by"], network["percent_of_limit"]) == ("operations", 50.0)
    assert "| 8, tiles/s |" in capsys.readouterr().out


def test_engine_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is tried once, and its reason is kept."""

    def fail(*_: object, **__: object) -> Any:  # noqa: ANN401 - never returns
        raise engines.EngineProcessError("no kernel image for this card")

    monkeypatch.setattr(engines, "EngineTurns", fail)
    code, found = run(monkeypatch, tmp_path, "--engine", "onnx", "torch", "--precision", "fp32")

    assert code == 0  # the networks have figures
    problems = [(row["what"], row["problem"]) for row in found if "problem" in row]
    reason = "no kernel image for this card"
    assert problems == [("onnx", reason), ("torch", reason)]


def test_run_without_time_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A table of what was left out, and an exit code."""
    code, found = run(monkeypatch, tmp_path, "--engine", "onnx", "--minutes", "0")

    assert code == 1
    assert {row["problem"] for row in found} == {NO_TIME}


def test_bundle_that_allows_the_batch_is_not_copied(tmp_path: Path) -> None:
    """A copy keeps its hashes and its folder name, and loads."""
    assert with_larger_batches(TINY_BUNDLE, 4, tmp_path) == TINY_BUNDLE
    copied = with_larger_batches(TINY_BUNDLE, 64, tmp_path)

    assert copied == tmp_path / "tiny_bundle"
    assert load_bundle(copied).manifest.max_batch_size == 64
    assert load_bundle(TINY_BUNDLE).manifest.max_batch_size == 4


def test_network_alone_is_computed_in_every_way() -> None:
    """Each way reproduces the golden tile; a CPU has no CUDA graphs."""
    ways = [Way(graph=False), Way(autocast=True, graph=False), Way()]
    job = NetworkJob(str(TINY_BUNDLE), "cpu", "bf16", [1, 2], ways, 0.001)
    cost, *found = measure_network(NetworkJob.from_json(job.as_json()))

    assert cost["gmac"] == pytest.approx(load_bundle(TINY_BUNDLE).manifest.gmac)
    assert [(row["way"], row["batch"]) for row in found] == [
        ("one precision, channels last, no graph", 1),
        ("one precision, channels last, no graph", 2),
        ("autocast, channels last, no graph", 1),
        ("autocast, channels last, no graph", 2),
    ]
    assert all(row["golden_levels"] <= 2 and row["tiles_per_s"] > 0 for row in found)


def test_papers_network_has_no_golden_tile() -> None:
    """Its weights are random; a small tile takes a moment."""
    job = NetworkJob("paper", "cpu", "fp32", [1], [Way(graph=False)], 0.001, tile=(8, 8))
    cost, row = measure_network(job)

    assert cost["gmac"] == pytest.approx(685.3 * 64 / 57_600, rel=0.05)
    assert "golden_levels" not in row
    assert row["tiles_per_s"] > 0
