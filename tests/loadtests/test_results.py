"""Tables, JSON and their places in the page; the page of the repository has them all."""

import json
import math
import re
from pathlib import Path

import pytest

from loadtests.__main__ import main
from loadtests.machine import describe_machine, machine_line
from loadtests.results import Column, Result, publish, write_into_page

ROOT = Path(__file__).parents[2]
SCENARIOS = (
    "throughput",
    "low-load",
    "overload",
    "online",
    "engine-kill",
    "metrics-cost",
    "peers",
    "ceiling",
    "scan",
    "scan-cluster",
)


def result(rows: list[dict[str, object]]) -> Result:
    """A result as a scenario gives it."""
    columns = [Column("name", "What"), Column("speed", "tiles/s", 2), Column("note", "Note")]
    return Result("speed", describe_machine(), {"seconds": 1.0}, columns, rows, ["A sentence."])


def test_table_has_a_row_each_and_empty_places() -> None:
    """Numbers have their digits and thousands, what a row lacks stays empty."""
    text = result([{"name": "a", "speed": 1234.567}, {"name": "b", "note": "broken"}]).as_markdown()
    assert "| What | tiles/s | Note |" in text
    assert "| a | 1,234.57 |  |" in text
    assert "| b |  | broken |" in text
    assert "A sentence." in text


def test_json_holds_no_words_that_json_has_not() -> None:
    """NaN and infinity become null."""
    told = json.loads(
        result([{"name": "a", "speed": math.nan, "worst": math.inf}]).as_json(),
        parse_constant=lambda word: pytest.fail(f"{word} is no JSON"),
    )
    assert told["rows"] == [{"name": "a", "speed": None, "worst": None}]
    assert told["format_version"] == 1
    assert told["machine"]["cores"] >= 1


def test_machine_that_was_busy_is_said_to_have_been() -> None:
    """A figure from such a machine must not pass for another."""
    machine = describe_machine()
    assert "not quiet" in machine_line({**machine, "load_before": 3.0})
    assert "not quiet" not in machine_line({**machine, "load_before": 0.1})


def test_page_keeps_everything_around_the_place(tmp_path: Path) -> None:
    """Publishing twice leaves the last table, once; backslashes mean nothing."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin: speed -->\nold\n<!-- end: speed -->\nafter\n")
    publish(result([{"name": r"\1 first"}]), page)
    publish(result([{"name": r"\1 second"}]), page, picture="images/x.png")
    text = page.read_text()
    assert text.startswith("before\n<!-- begin: speed -->\n")
    assert text.endswith("\n<!-- end: speed -->\nafter\n")
    assert "old" not in text
    assert "first" not in text
    assert r"\1 second" in text
    assert "![speed](images/x.png)" in text
    assert json.loads((tmp_path / "page" / "speed.json").read_text())["name"] == "speed"


def test_page_without_the_place_is_refused(tmp_path: Path) -> None:
    """Nothing is written, and the error names page and place."""
    page = tmp_path / "page.md"
    page.write_text("no place here\n")
    with pytest.raises(ValueError, match="0 places for speed"):
        write_into_page(page, "speed", "text")
    assert page.read_text() == "no place here\n"


def test_benchmarks_page_has_a_place_for_every_scenario(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the command offers is what the page shows."""
    page = (ROOT / "docs" / "measurements" / "benchmarks.md").read_text()
    assert tuple(re.findall(r"<!-- begin: (\S+) -->", page)) == SCENARIOS
    assert tuple(re.findall(r"<!-- end: (\S+) -->", page)) == SCENARIOS
    with pytest.raises(SystemExit):
        main(["--help"])
    offered = re.findall(r"^ {4}([a-z-]+)(?:\s|$)", capsys.readouterr().out, flags=re.MULTILINE)
    assert offered == [*SCENARIOS, "locust"]
