"""The dashboards: generated, about metrics that exist, and every panel shows something."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import FOLDER, dashboards
from semsr.server_process import running_server
from service.http.access import hash_key, new_key
from tests.deploy.live import Prometheus, mixed_load, running_prometheus, scans_all_the_time
from tests.deploy.promql import ROOT, metric_names, read_rules, recorded_names, unknown_metrics

TINY_BUNDLE = ROOT / "tests" / "data" / "tiny_bundle"
DATA_TIMEOUT_S = 120.0


def read_dashboards() -> list[dict[str, Any]]:
    """Read the dashboards as committed."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]


def filled_in(query: str) -> str:
    """A query with Grafana's variables as they are at first: everything is selected."""
    query = query.replace("$__rate_interval", "15s")
    return re.sub(r"\$(instance|job|model|tool)\b", ".+", query)


def read_panels() -> list[dict[str, Any]]:
    """List every panel that shows data, of all dashboards."""
    return [
        panel
        for dashboard in read_dashboards()
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    ]


def read_queries() -> list[str]:
    """List every query of every panel."""
    return [filled_in(target["expr"]) for panel in read_panels() for target in panel["targets"]]


def read_annotations() -> list[str]:
    """List the queries of the dashboards' annotations."""
    return [
        filled_in(annotation["expr"])
        for dashboard in read_dashboards()
        for annotation in dashboard["annotations"]["list"]
    ]


def read_variables() -> list[str]:
    """List the series of the dashboards' variables that have the variable's label."""
    found: list[str] = []
    for dashboard in read_dashboards():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert query is not None
                series, label = query.groups()
                selected = series.removesuffix("}") if "{" in series else f"{series}{{"
                found.append(filled_in(f'{selected}, {label}!=""}}'.replace("{, ", "{")))
    return found


def autoscaler_query() -> str:
    """Read what the autoscaler of deploy/kubernetes asks Prometheus."""
    path = ROOT / "deploy" / "kubernetes" / "autoscaling" / "scaled-object.yaml"
    [trigger] = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["triggers"]
    return trigger["metadata"]["query"]


def test_committed_dashboards_are_those_that_the_script_makes() -> None:
    """`make deploy-files` was run after the last change."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}

    assert dashboards() == committed


def test_panels_lie_beside_each_other() -> None:
    """Every panel has its own number and its own place in the grid."""
    for dashboard in read_dashboards():
        panels = dashboard["panels"]
        places = [panel["gridPos"] for panel in panels]
        cells = [
            (x, y)
            for place in places
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]

        assert len(panels) == len({panel["id"] for panel in panels})
        assert len(cells) == len(set(cells))
        assert all(0 <= x < 24 for x, _ in cells)


def test_queries_read_metrics_that_exist() -> None:
    """A renamed metric must not leave an empty panel."""
    queries = [*read_queries(), *read_annotations()]

    assert len(queries) > 40
    for query in queries:
        assert metric_names(query), query
        assert set() == unknown_metrics(query), query


def test_a_panel_says_what_it_shows_and_what_to_do() -> None:
    """The description names every metric, and what the reader does."""
    for panel in read_panels():
        text, action, *more = panel["description"].split("\n\n")
        assert text.endswith("."), panel["title"]
        assert action.startswith("What to do: "), panel["title"]
        assert action.endswith("."), panel["title"]
        for target in panel["targets"]:
            for name in metric_names(target["expr"]):
                assert f"`{name}`" in more[0], panel["title"]


def test_a_panel_without_data_says_why() -> None:
    """Not "No data" and not NaN, which read as a fault: no series, and a mean of nothing."""
    for panel in read_panels():
        defaults = panel["fieldConfig"]["defaults"]
        empty = defaults["noValue"]
        assert re.fullmatch(r"No .+|Scans are disabled .+", empty), panel["title"]
        assert empty != "No data"
        [mapping] = defaults["mappings"]
        assert "special" == mapping["type"]
        assert {"match": "null+nan", "result": {"text": empty, "index": 0}} == mapping["options"]


def test_variables_are_those_of_the_queries() -> None:
    """A query with an undefined variable selects nothing, and an unused one misleads."""
    for dashboard in read_dashboards():
        defined = {variable["name"] for variable in dashboard["templating"]["list"]}
        used = set(re.findall(r"\$(\w+)", json.dumps(dashboard["panels"]))) - {"__rate_interval"}
        assert defined - {"datasource"} == used, dashboard["title"]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus next to a service with good and bad clients, and scans."""
    folder: Path = tmp_path_factory.mktemp("prometheus")
    key = new_key()
    keys = folder / "keys"
    keys.write_text(f"line {hash_key(key)}\n", encoding="utf-8")
    settings = {
        "SEMSR_BUNDLE": str(TINY_BUNDLE),
        # A model: `identity` has no self-test.
        "SEMSR_ENGINE": "onnx",
        "SEMSR_API_KEYS": str(keys),
        "SEMSR_SCAN_ROOTS": str(folder / "scans"),
        "SEMSR_SCAN_STATE": str(folder / "state"),
    }
    with (
        running_server(settings) as server,
        mixed_load(server, key),
        scans_all_the_time(server, key, folder / "scans"),
        running_prometheus(server, folder) as running,
    ):
        yield running


@pytest.mark.requires_program("prometheus")
def test_every_panel_and_every_recorded_figure_has_data(prometheus: Prometheus) -> None:
    """Prometheus scrapes the real service under load, and no query comes back empty."""
    missing = [*read_queries(), *read_variables(), *recorded_names(), autoscaler_query()]
    deadline_s = time.monotonic() + DATA_TIMEOUT_S
    while missing and time.monotonic() < deadline_s:
        time.sleep(1.0)
        missing = [query for query in missing if not prometheus.has_data(query)]

    assert [] == missing


@pytest.mark.requires_program("prometheus")
def test_every_rule_and_annotation_is_evaluated_without_error(prometheus: Prometheus) -> None:
    """Labels of both sides match, and nothing is refused at evaluation."""
    deadline_s = time.monotonic() + DATA_TIMEOUT_S
    rules = prometheus.rules()
    while any(rule["health"] == "unknown" for rule in rules) and time.monotonic() < deadline_s:
        time.sleep(0.5)
        rules = prometheus.rules()

    assert len(read_rules()) == len(rules)
    assert [] == [rule for rule in rules if rule["health"] != "ok"]
    for query in read_annotations():
        prometheus.has_data(query)
