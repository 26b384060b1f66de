"""The report keeps what it has: failures are rows, and the time limit leaves rows out."""

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from loadtests.gpu import engines, service, training
from loadtests.gpu import report as report_module
from loadtests.gpu.report import NO_TIME, ChildError, Report, json_lines
from loadtests.gpu.table import by_batch
from loadtests.results import Column, Row

ROOT = Path(__file__).parents[3]
COLUMNS = [Column("what", "What"), Column("tiles_per_s", "tiles/s", 0), Column("never", "Never")]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s


def new_report(folder: Path, clock: Clock, *, minutes: float = 1.0) -> Report:
    """A report with a limit."""
    options = argparse.Namespace(out=folder, minutes=minutes, device="cpu")
    return Report("bench", COLUMNS, options, settings={"seconds": 1.0}, clock=clock)


def test_rows_are_saved_as_they_come(tmp_path: Path) -> None:
    """A run that is killed leaves the rows before; columns without a value are left out."""
    report = new_report(tmp_path, Clock())
    rate: Row = {"what": "upload", "memory": "pinned", "rate": "55 GB/s"}
    report.measure({"what": "rates"}, 1.0, lambda: [rate])
    assert report.finish() == 1  # nothing but rates

    def rows() -> Iterator[Row]:
        yield {"tiles_per_s": 1234.5}
        assert "1,234" in (tmp_path / "bench.md").read_text()
        yield {"tiles_per_s": 7.0}

    assert report.measure({"what": "a"}, 1.0, rows)
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["name"] == "bench"
    assert kept["rows"][1:] == [
        {"what": "a", "tiles_per_s": 1234.5},
        {"what": "a", "tiles_per_s": 7.0},
    ]
    text = (tmp_path / "bench.md").read_text()
    assert text.startswith("| What | tiles/s |\n|---|---|\n| a | 1,234 |\n| a | 7 |\n")
    assert "Rates of this run: upload pinned 55 GB/s." in text


def test_failure_is_a_row_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows before it stay, and later measurements go on."""
    report = new_report(tmp_path, Clock())

    def rows() -> Iterator[Row]:
        yield {"tiles_per_s": 1.0}
        raise RuntimeError("out of\nmemory")

    assert not report.measure({"what": "a"}, 1.0, rows)
    assert report.measure({"what": "b"}, 1.0, lambda: [{"tiles_per_s": 2.0}])
    assert report.finish() == 0
    assert report.rows == [
        {"what": "a", "tiles_per_s": 1.0},
        {"what": "a", "problem": "out of memory"},
        {"what": "b", "tiles_per_s": 2.0},
    ]
    assert "| a |  | out of memory |" in capsys.readouterr().out


def test_measurement_without_time_is_left_out(tmp_path: Path) -> None:
    """It is a row too; a run without any figure fails."""
    clock = Clock()
    report = new_report(tmp_path, clock)
    clock.now_s += 55.0

    assert report.left_s == 5.0
    assert not report.measure({"what": "long"}, 6.0, lambda: pytest.fail("it was begun"))
    assert report.rows == [{"what": "long", "problem": NO_TIME}]
    assert report.finish() == 1
    assert report.measure({"what": "short"}, 5.0, lambda: [{"tiles_per_s": 1.0}])
    assert report.finish() == 0
    clock.now_s += 55.0
    assert report.left_s == 0.0


def run_code(code: str, monkeypatch: pytest.MonkeyPatch, *, limit_s: float = 20.0) -> Iterator[Row]:
    """Yield the lines of a child that runs code."""
    monkeypatch.setattr(report_module, "_COMMAND", (sys.executable, "-c", code))
    return json_lines("the child", [], time_limit_s=limit_s)


def test_lines_of_a_child_are_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before a failure too; the error is the child's last line."""
    code = "import sys\nprint('{\"a\": 1}', flush=True)\nsys.exit('first\\nCUDA is missing')"
    rows = run_code(code, monkeypatch)

    assert next(rows) == {"a": 1}
    with pytest.raises(ChildError, match=r"^CUDA is missing$"):
        next(rows)


def test_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it started, so that it does not disturb the next measurement."""
    code = "import subprocess, sys\nsubprocess.run(['sleep', '60'], check=True)"
    began_s = time.monotonic()
    with pytest.raises(ChildError, match="the child was stopped; expected its end within 1 s"):
        list(run_code(code, monkeypatch, limit_s=1.0))
    assert time.monotonic() - began_s < 15


def test_table_has_a_column_for_each_batch() -> None:
    """Ways to call an engine are rows; the share of the limit is that of the best batch."""
    about = {"bundle": "default", "what": "torch", "precision": "fp16", "callers": 2}
    limit = {"limit_per_s": 1_000.0, "limited_by": "download"}
    rows: list[Row] = [
        {"what": "download", "memory": "pinned", "rate": "55 GB/s"},
        {**about, "batch": 16, "tiles_per_s": 900.0, "percent_of_limit": 90.0, **limit},
        {**about, "batch": 1, "tiles_per_s": 500.0, "percent_of_limit": 50.0, **limit},
        {**about, "callers": 3, "batch": 16, "tiles_per_s": 800.0, "golden_levels": 1},
        {"bundle": "default", "what": "tensorrt", "problem": "not installed"},
    ]

    columns, combined = by_batch(rows)

    assert [column.title for column in columns] == [
        "Bundle",
        "What",
        "Precision",
        "Callers",
        "1, tiles/s",
        "16, tiles/s",
        "Golden tile, grey levels",
        "Limit, tiles/s",
        "Limited by",
        "Best, % of limit",
        "Problem",
    ]
    first, second, failed = combined
    assert (first["batch 1"], first["batch 16"], first["percent_of_limit"]) == (500.0, 900.0, 90.0)
    assert (second["callers"], second["batch 16"], second["golden_levels"]) == (3, 800.0, 1)
    assert failed == {"bundle": "default", "what": "tensorrt", "problem": "not installed"}


@pytest.mark.parametrize("script", [engines, service, training])
def test_documented_commands_parse(script: ModuleType) -> None:
    """Every command of the page names options that exist."""
    text = (ROOT / "docs" / "gpu-runs.md").read_text(encoding="utf-8").replace("\\\n", " ")
    name = script.__name__.rpartition(".")[2]
    commands = re.findall(rf"python3? -m loadtests\.gpu\.{name}\b([^`\n|]*)", text)

    assert len(commands) >= 3
    for command in commands:
        script._parser().parse_args(shlex.split(command))
