"""The tool of an image becomes a label of the quality metrics, on every way into the service."""

import json
from pathlib import Path

import numpy as np
import pytest

from service.ground.metrics import Metrics
from service.ground.tools import MAX_CHARACTERS, OTHER, UNKNOWN, ToolLabels, tool_of
from service.pool.arena import SNAPSHOT_BYTES
from service.pool.snapshots import pack
from service.settings import Settings
from tests.scan_api import Scans
from tests.scans import numbered_tile
from tests.service.conftest import RAW, ServedApp

TILE = numbered_tile(1)


def images(app: ServedApp, tool: str) -> float:
    """Number of images that were judged under a label."""
    return app.metric("semsr_consistency_count", model="identity", tool=tool)


def test_one_image_a_batch_and_a_tensor_name_their_tool(serve):
    """The header X-Tool counts on all three routes; without it the tool is unknown."""
    app: ServedApp = serve()
    named = {**RAW, "x-tool": "CDSEM-07"}
    assert app.post(TILE.tobytes(), named).status_code == 200
    assert app.post(TILE.tobytes()).status_code == 200
    two = app.client.post("/superresolve/batch", content=2 * TILE.tobytes(), headers=named)
    assert two.status_code == 200
    tensor = app.client.post(
        "/v2/models/identity/infer",
        content=TILE.tobytes(),
        headers={"inference-header-content-length": "0", "x-tool": "CDSEM-07"},
    )
    assert tensor.status_code == 200
    assert 4 == images(app, "CDSEM-07")
    assert 1 == images(app, UNKNOWN)


@pytest.mark.parametrize("tool", ["", "-1", 'a"b', "a,b", "n" * 65, "a;b", "a{b}"])
def test_a_header_that_is_not_a_tool_is_refused(serve, tool: str):
    """The message names the header and its value; nothing is counted."""
    app: ServedApp = serve()
    headers = [*RAW.items(), ("x-tool", tool.encode("latin-1"))]
    answer = app.client.post("/superresolve", content=TILE.tobytes(), headers=headers)
    assert 400 == answer.status_code
    assert f"X-Tool is {tool[:80]!r}; expected 1 to 64 letters" in answer.json()["detail"]
    tensor = app.client.post(
        "/v2/models/identity/infer",
        content=TILE.tobytes(),
        headers=[("inference-header-content-length", "0"), headers[-1]],
    )
    assert 400 == tensor.status_code
    assert [] == app.engine.batches


def test_tools_beyond_the_limit_share_a_label(serve):
    """The number of series stays bounded, and no image is missing from the sum."""
    app: ServedApp = serve(max_tools=2)
    for tool in ("A", "B", "C", "D", "A"):
        assert app.post(TILE.tobytes(), {**RAW, "x-tool": tool}).status_code == 200
    assert [2, 1, 0, 2] == [images(app, tool) for tool in ("A", "B", "C", OTHER)]


def test_the_limit_counts_a_tool_for_each_model():
    """Every model has series of its own."""
    labels = ToolLabels(2)
    pairs = [("m", "A"), ("n", "A"), ("n", "B"), ("m", "A"), ("m", None)]
    assert ["A", "A", OTHER, "A", UNKNOWN] == [labels.label(*pair) for pair in pairs]


def test_a_scan_names_the_tool_of_each_tile(serve, tmp_path: Path):
    """A sidecar's tool: in the manifest as it is, in the metrics made fit for a label."""
    lot = tmp_path / "root" / "lot"
    lot.mkdir(parents=True)
    for index, tool in enumerate(("CDSEM-07", "CDSEM-07", 'Hall 3, "east"', None)):
        np.save(lot / f"t{index}.npy", numbered_tile(index))
        if tool is not None:
            (lot / f"t{index}.json").write_text(json.dumps({"tool": tool, "lot": "L1"}))
    app: ServedApp = serve(scan_roots=str(tmp_path / "root"), scan_state=tmp_path / "state")
    scans = Scans(app.client)
    info = scans.wait(scans.start(lot, tmp_path / "root" / "out"))
    assert "done" == info["state"]
    assert [2, 1, 1] == [images(app, tool) for tool in ("CDSEM-07", "Hall 3_ _east_", UNKNOWN)]


@pytest.mark.parametrize(
    ("fact", "tool"),
    [
        (None, None),
        ("  ", None),
        (7, "7"),
        (" CDSEM-07 ", "CDSEM-07"),
        ("line\nbreak", "line_break"),
        ("n" * 100, "n" * MAX_CHARACTERS),
    ],
)
def test_a_fact_becomes_a_bounded_label(fact: object, tool: str | None):
    """Files of other programs may hold anything."""
    assert tool == tool_of(fact)


def test_metrics_with_every_label_fit_into_the_memory_of_a_pool():
    """The most tools, with the longest names: else a process of a pool would publish nothing."""
    [most] = [
        item.le for item in Settings.model_fields["max_tools"].metadata if hasattr(item, "le")
    ]
    metrics = Metrics()
    for index in range(most):
        labels = "m" * MAX_CHARACTERS, f"{index:0{MAX_CHARACTERS}d}"
        for histogram in (
            metrics.consistency,
            metrics.consistency_worst,
            metrics.residual,
            metrics.domain_distance,
            metrics.saturated,
        ):
            histogram.labels(*labels).observe(0.123456789)
    assert len(pack(metrics.registry.collect())) < 0.9 * SNAPSHOT_BYTES
