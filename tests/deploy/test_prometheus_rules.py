"""The alerts and recorded figures: well-formed, tested, explained, and about metrics that exist."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.promql import (
    PROMETHEUS,
    ROOT,
    RULE_FILES,
    metric_names,
    read_alerts,
    read_rules,
    unknown_metrics,
)

RUNBOOKS = ROOT / "docs" / "runbooks"
CASES = sorted((Path(__file__).parent / "prometheus").glob("*_test.yml"))


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.requires_program("promtool")
def test_prometheus_accepts_configuration_and_rules() -> None:
    """What Prometheus itself would refuse is found here."""
    for arguments in (["rules", *RULE_FILES], ["config", PROMETHEUS / "prometheus.yml"]):
        result = promtool("check", *arguments)

        assert 0 == result.returncode, result.stdout + result.stderr


@pytest.mark.requires_program("promtool")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_else(path: Path) -> None:
    """Series in, alerts out, as Prometheus evaluates them."""
    result = promtool("test", "rules", path)

    assert 0 == result.returncode, result.stdout + result.stderr


def test_every_alert_has_a_case_of_either_kind() -> None:
    """An alert that was never seen firing, or never seen silent, is not tested."""
    checks: list[dict[str, Any]] = [
        check
        for path in CASES
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for check in case["alert_rule_test"]
    ]
    firing = {check["alertname"] for check in checks if check["exp_alerts"]}
    silent = {check["alertname"] for check in checks if not check["exp_alerts"]}

    assert set(read_alerts()) == firing
    assert set(read_alerts()) == silent


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    """Each alert has a page of its name, and no page outlives its alert."""
    assert set(read_alerts()) == {path.stem for path in RUNBOOKS.glob("*.md")}


@pytest.mark.parametrize("name", read_alerts())
def test_a_runbook_says_what_it_means_and_what_to_do(name: str) -> None:
    """The page has the three parts, and the alert names the page."""
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    headings = [line for line in page.splitlines() if line.startswith("#")]

    assert [
        f"# {name}", "## What it means", "## What to look at", "## What to do",
    ] == headings  # fmt: skip
    assert f"docs/runbooks/{name}.md" == read_alerts()[name]["annotations"]["runbook"]


def test_operations_lists_every_alert_with_its_severity() -> None:
    """The operators' page has the table of all alerts."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    for name, alert in read_alerts().items():
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert f"| [{name}](runbooks/{name}.md) | {alert['labels']['severity']} |" in page


@pytest.mark.parametrize(
    "rule", read_rules(), ids=lambda rule: rule.get("alert", rule.get("record"))
)
def test_rules_read_metrics_that_exist(rule: dict[str, Any]) -> None:
    """A renamed metric must not leave an alert that can never fire."""
    assert metric_names(rule["expr"])
    assert set() == unknown_metrics(rule["expr"])


def test_names_are_found_in_promql() -> None:
    """The reader of the tests above sees metrics and nothing else."""
    query = """
        histogram_quantile(0.95, sum by (job, le) (rate(a_bucket{route=~"/x|/y"}[5m])))
          / on (job) group_left (x) b:c:rate5m > 0.1 and d offset 1d
    """

    assert {"a_bucket", "b:c:rate5m", "d"} == metric_names(query)
    assert {"semsr_no_such"} == unknown_metrics("semsr_no_such + semsr_batch_size_sum")
