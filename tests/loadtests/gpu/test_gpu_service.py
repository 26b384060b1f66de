"""The service on a GPU, tried on a CPU: loads, metrics, verdicts, failures."""

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bundle_format.bundle import load_bundle
from loadtests.alone.engine import EngineTurn
from loadtests.closed_loop import LoadResult, combined
from loadtests.gpu import rows, service
from loadtests.gpu.batches import BatchTotals, parse_totals
from loadtests.gpu.card import CardWatch
from loadtests.gpu.installation import MissingPackagesError, installed, require, write_metadata
from loadtests.gpu.report import Report
from loadtests.gpu.service_loads import Alone, Layout, Service, judge
from loadtests.results import Row
from loadtests.target import running_service
from loadtests.tile_request import raw_request
from semsr.server_process import ServerStartError

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
METRICS = """\
# TYPE semsr_batch_size histogram
semsr_batch_size_bucket{model="a",le="+Inf"} 4.0
semsr_batch_size_count{model="a"} 4.0
semsr_batch_size_sum{model="a"} 24.0
semsr_batch_size_sum{model="b"} 8.0
# TYPE semsr_batch_duration_seconds histogram
semsr_batch_duration_seconds_count{model="a"} 4.0
semsr_batch_duration_seconds_sum{model="a"} 0.02
"""


def options(out: Path, *more: str) -> argparse.Namespace:
    """Options of a short run on the CPU."""
    return service._parser().parse_args(
        [
            *("--device", "cpu", "--out", str(out), "--bundle", str(TINY_BUNDLE)),
            *("--seconds", "0.2", "--engine", "identity", "--precision", "fp32"),
            *("--clients", "2", *more),
        ]
    )


def test_loads_of_a_running_service_are_rows(tmp_path: Path) -> None:
    """Closed and open loop, with its batches and the clients' cores."""
    chosen = options(tmp_path, "--client", "own")
    report = Report("gpu-service", service._COLUMNS, chosen, settings={})
    layout = Layout("single", "identity")
    alone = Alone({4: EngineTurn(4, [1e6], core_ms=1.0)})
    with running_service(TINY_BUNDLE, layout.settings(chosen)) as target:
        running = Service(chosen, report, layout, target, alone)
        rate = running.closed(raw_request(load_bundle(TINY_BUNDLE)), "raw", 4, {})
        running.open(50.0)

    closed, opened = report.rows
    assert "problem" not in closed | opened
    assert closed["tiles_per_s"] == rate > 0
    assert (closed["load"], closed["client"], closed["errors"]) == ("4 connections", "own", 0)
    assert 1 <= closed["mean_batch"] <= 4
    assert closed["batch_ms"] > 0
    assert closed["client_cores"] > 0
    assert opened["load"] == "open loop, 50/s offered"
    assert opened["is_within"] == "yes"


def test_service_that_does_not_start_is_a_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every layout is tried; the engine alone has its figures."""
    tried: list[dict[str, str]] = []

    @contextmanager
    def fail(bundle: Path, settings: dict[str, str], **_: object) -> Iterator[Any]:
        tried.append(settings)
        raise ServerStartError("the service ended with exit code 2:\nno such precision")
        yield

    def rates(module: str, *_: object, **__: object) -> Iterator[Row]:
        yield {"name": "operations", "kind": "fp32", "per_s": 2e9}

    monkeypatch.setattr(rows, "json_lines", rates)
    monkeypatch.setattr(service, "running_service", fail)
    monkeypatch.setenv("SEMSR_DEVICE", "cpu")
    code = service.main(
        [
            *("--device", "cpu", "--out", str(tmp_path), "--bundle", str(TINY_BUNDLE)),
            *("--engine", "onnx", "--precision", "fp32", "--largest-batch", "8"),
            *("--front-ends", "3"),
        ]
    )

    found = json.loads((tmp_path / "gpu-service.json").read_text())["rows"][1:]
    assert code == 0
    gmac = load_bundle(TINY_BUNDLE).manifest.gmac
    assert found[0]["percent_of_limit"] == pytest.approx(100 * found[0]["tiles_per_s"] * gmac)
    assert [row["load"] for row in found[:3]] == [
        "callers 1, batch 2",
        "callers 1, batch 4",
        "callers 1, batch 8",
    ]
    assert [(row["mode"], row["front_ends"], row["engine"]) for row in found[3:]] == [
        ("pool", None, "onnx"),
        ("pool", 3, "onnx"),
        ("single", None, "onnx"),
        ("pool", None, "identity"),
        ("single", None, "identity"),
    ]
    assert {row["problem"] for row in found[3:]} == {
        "the service ended with exit code 2: no such precision"
    }
    assert [settings["SEMSR_ENGINE"] for settings in tried].count("identity") == 2


def test_identity_stays_on_the_cpu(tmp_path: Path) -> None:
    """It has no model that a card could compute."""
    chosen = options(tmp_path)
    chosen.device = "cuda"

    assert Layout("pool", "torch", 8).settings(chosen)["SEMSR_DEVICE"] == "cuda"
    assert Layout("pool", "torch", 8).settings(chosen)["SEMSR_FRONT_ENDS"] == "8"
    assert Layout("pool", "identity").settings(chosen)["SEMSR_DEVICE"] == "cpu"
    assert "SEMSR_FRONT_ENDS" not in Layout("pool", "identity").settings(chosen)


def test_batches_are_the_difference_of_two_readings() -> None:
    """The mean is over all models, and left out if no batch ran in between."""
    later, earlier = parse_totals(METRICS), BatchTotals(tiles=16.0, seconds=0.01, batches=2.0)

    assert later == BatchTotals(tiles=32.0, seconds=0.02, batches=4.0)
    assert (later - earlier).row() == pytest.approx({"mean_batch": 8.0, "batch_ms": 5.0})
    assert (later - later).row() == {}
    assert parse_totals("") == BatchTotals(0.0, 0.0, 0.0)


def test_latency_is_judged_in_full_batches() -> None:
    """At most two full batches pass; the row is empty if the engine was not measured alone."""
    assert judge(20.0, 10.0) == {"p99_batches": 2.0, "is_within": "yes"}
    assert judge(20.1, 10.0)["is_within"] == "no"
    assert judge(20.1, None) == {}


def test_rates_of_simultaneous_clients_are_added() -> None:
    """Although they ended at different times; latencies are those of all."""
    result = combined([LoadResult(100, 1, 1.0, [1.0, 5.0]), LoadResult(300, 2, 2.0, [3.0])])

    assert result.per_second == pytest.approx(250.0)
    assert (result.requests, result.errors, result.latencies_ms) == (400, 3, [1.0, 3.0, 5.0])
    assert combined([LoadResult(0, 3, 1.0, [])] * 2).per_second == 0.0


def test_load_of_the_card_is_the_median_of_its_samples() -> None:
    """Unreadable samples are left out; a CPU has none."""
    watch = CardWatch("cuda")
    watch.read("0, 1024\n80, 2048\n[N/A], [N/A]\n90, 7168\n")

    assert watch.row() == {"busy_percent": 80.0, "card_gib": 7.0}
    with CardWatch("cpu") as without:
        pass
    assert without.row() == {}


def test_metadata_stands_in_for_an_installation(tmp_path: Path) -> None:
    """Version and subcommands, as an installation has them."""
    write_metadata(tmp_path)
    [found] = importlib.metadata.distributions(name="semsr", path=[str(tmp_path)])

    assert found.version == importlib.metadata.version("semsr")
    [command] = found.entry_points.select(group="semsr.commands")
    assert (command.name, command.value) == ("bench", "loadtests.command")


def test_tree_is_on_the_path_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the time of the run."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    before = list(sys.path)
    with installed():
        paths = os.environ["PYTHONPATH"].split(os.pathsep)
        assert paths[0] == str(Path(service.__file__).parents[2])
        assert paths[-1] == "/somewhere"

    assert os.environ["PYTHONPATH"] == "/somewhere"
    assert sys.path == before


def test_missing_packages_are_named_together() -> None:
    """Before anything is measured."""
    with pytest.raises(MissingPackagesError, match="missing packages: no_such_a, no_such_b; bring"):
        require(["json", "no_such_a", "no_such_b"])
